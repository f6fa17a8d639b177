package serve

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// seed writes the cloud-init medium of a VM (NoCloud: an ISO 9660 image with
// Rock Ridge labelled "cidata" that holds meta-data and user-data) and returns
// its path. It is made anew at every start, so that it follows the VM's record.
func (h *Host) seed(vm cluster.VM) (string, error) {
	dir := h.dir.file("seed")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", holdfast.Errorf(holdfast.IO, "cloud-init medium: %w", err)
	}
	path := filepath.Join(dir, vm.ID.String()+".iso")
	tmp := path + ".new"
	if err := writeISO(tmp, map[string]string{"meta-data": metaData(vm), "user-data": userData(vm)}); err != nil {
		os.Remove(tmp)
		return "", holdfast.Errorf(holdfast.IO, "cloud-init medium: %w", err)
	}
	return path, os.Rename(tmp, path)
}

func metaData(vm cluster.VM) string {
	var b strings.Builder
	fmt.Fprintf(&b, "instance-id: %s\nlocal-hostname: %s\n", vm.ID, vm.Name)
	if len(vm.SSHKeys) > 0 {
		b.WriteString("public-keys:\n")
		for _, k := range vm.SSHKeys {
			fmt.Fprintf(&b, "  - %q\n", k)
		}
	}
	return b.String()
}

// userData is what the VM's owner gave, or an empty configuration that still
// lets the SSH keys of the meta-data in.
func userData(vm cluster.VM) string {
	if vm.UserData != "" {
		return vm.UserData
	}
	return "#cloud-config\n{}\n"
}

// isoSize is room for the largest user data and the file system around it.
const isoSize = 2 << 20

func writeISO(path string, files map[string]string) error {
	os.Remove(path)
	b, err := file.CreateFromPath(path, isoSize)
	if err != nil {
		return err
	}
	defer b.Close()
	work, err := os.MkdirTemp(filepath.Dir(path), "iso")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	fs, err := iso9660.Create(b, isoSize, 0, 2048, work)
	if err != nil {
		return err
	}
	for _, name := range []string{"meta-data", "user-data"} {
		f, err := fs.OpenFile("/"+name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(f, files[name]); err != nil {
			return err
		}
	}
	return fs.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: "cidata"})
}

// kernel copies the images a VM boots from directly to files and returns their
// paths. The copies are kept by the images' identities, which never change.
func (h *Host) kernel(vm cluster.VM) (kernel, initrd string, err error) {
	if kernel, err = h.imageFile(vm.Kernel); err != nil || vm.Initrd == "" {
		return kernel, "", err
	}
	initrd, err = h.imageFile(vm.Initrd)
	return kernel, initrd, err
}

// imageFile returns the path of a local copy of an image.
func (h *Host) imageFile(name string) (string, error) {
	m, err := h.member()
	if err != nil {
		return "", err
	}
	rec, ok := m.node.Cluster.State().VolumeByName(name)
	if !ok || !rec.Val.Image || !rec.Val.Sealed {
		return "", holdfast.Errorf(holdfast.NotFound, "image %s to boot from does not exist", name)
	}
	dir := h.dir.file("boot")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", holdfast.Errorf(holdfast.IO, "boot file: %w", err)
	}
	path := filepath.Join(dir, rec.Val.ID.String())
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	disk, err := m.node.Volumes.Target(rec.Val).Open(true)
	if err != nil {
		return "", err
	}
	defer disk.Close()
	f, err := os.CreateTemp(dir, "new")
	if err != nil {
		return "", holdfast.Errorf(holdfast.IO, "boot file: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := copyDisk(f, disk); err != nil {
		return "", err
	}
	return path, os.Rename(f.Name(), path)
}

func copyDisk(w io.Writer, d export.Disk) error {
	buf := make([]byte, 1<<20)
	for off := int64(0); off < d.Size(); off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), d.Size()-off)]
		if err := do(d, export.Request{Op: export.Read, Off: off, Length: int64(len(b)), Data: b}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return holdfast.Errorf(holdfast.IO, "boot file: %w", err)
		}
	}
	return nil
}

// do submits one request and waits for it.
func do(d export.Disk, r export.Request) error {
	return export.Do(d, r, func() (func(), func()) {
		ev := clock.System{}.NewEvent()
		return ev.Set, func() { ev.Wait(clock.Forever) }
	})
}
