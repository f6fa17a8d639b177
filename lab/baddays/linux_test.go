package baddays

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/client"
)

// linux is a guest that speaks TCP: a stock kernel with a busybox that serves
// as all of its system, booted directly. `make kernel` fetches both.
type linux struct{ kernel, initrd string }

// linuxGuest finds a kernel with its modules, below the directory that
// HOLDFAST_TEST_KERNEL names or installed, and a static busybox; and packs
// busybox, the modules that are to be loaded, in their order, and a script to go
// on with into an initrd.
func linuxGuest(t *testing.T, script string, load []string) linux {
	t.Helper()
	root := filepath.Join("/", os.Getenv("HOLDFAST_TEST_KERNEL"))
	kernels, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	busybox := filepath.Join(root, "bin/busybox")
	if _, err := os.Stat(busybox); err != nil {
		busybox, _ = exec.LookPath("busybox")
	}
	if busybox == "" || len(kernels) == 0 {
		t.Skip("not tested: no Linux kernel and static busybox ('make kernel' fetches them; HOLDFAST_TEST_KERNEL names the directory)")
	}
	kernel := kernels[len(kernels)-1]
	modules := filepath.Join(root, "lib/modules", strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-"), "kernel")
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed) // as distributions do it
	member := func(name string, mode int, content []byte) {
		head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		for _, part := range []string{head, string(content)} {
			io.WriteString(zip, part+strings.Repeat("\x00", (4-len(part)%4)%4)) // each part ends at a multiple of 4
		}
	}
	for _, dir := range []string{"bin", "mod", "proc", "sys", "dev"} {
		member(dir, 0o40755, nil)
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	member("bin/busybox", 0o100755, b)
	member("init", 0o100755, []byte(linuxBegin+script))
	var order strings.Builder
	for _, m := range load {
		fmt.Fprintln(&order, filepath.Base(m))
	}
	member("mod/order", 0o100644, []byte(order.String()))
	for _, m := range load {
		if b, err := os.ReadFile(filepath.Join(modules, m+".ko")); err == nil { // else it is part of the kernel
			member("mod/"+filepath.Base(m)+".ko", 0o100644, b)
		}
	}
	member("TRAILER!!!", 0, nil)
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return linux{kernel, initrd}
}

// What guests need of a kernel, in the order in which it is loaded: what cards are
// plugged into, a network, disks, and a CD-ROM drive with what UEFI keeps.
var (
	linuxPCI = []string{"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_legacy_dev",
		"drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci"}
	linuxCard = []string{"net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"}
	linuxDisk = []string{"drivers/block/virtio_blk"}
	linuxCD   = []string{"drivers/scsi/scsi_common", "drivers/scsi/scsi_mod", "drivers/ata/libata", "drivers/ata/ata_piix",
		"drivers/cdrom/cdrom", "drivers/scsi/sr_mod", "fs/efivarfs/efivarfs"}
)

// linuxBegin is how every guest's system begins.
const linuxBegin = `#!/bin/busybox sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for m in $(cat /mod/order); do
  [ -f /mod/$m.ko ] && insmod /mod/$m.ko
done
`

// linuxNetwork brings a guest's network up, with the address that it always has:
// no time is spent on DHCP, which is tested elsewhere.
const linuxNetwork = `
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
`

// importFiles makes images of a guest's kernel and initrd.
func (s *scene) importFiles(l linux) {
	s.t.Helper()
	c := client.Socket(s.l.Hosts[0].Socket())
	defer c.Close()
	for name, path := range map[string]string{"kernel": l.kernel, "initrd": l.initrd} {
		b, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := c.ImportImage(s.t.Context(), client.NewImage{Name: name, Size: int64(len(b)), AsIs: true}, bytes.NewReader(b)); err != nil {
			s.t.Fatal(err)
		}
	}
}
