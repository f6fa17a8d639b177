package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tarball packs the tree, to be unpacked at the root.
func (p *packer) tarball(tree, base string) (err error) {
	f, err := os.Create(filepath.Join(p.out, base+".tar.gz"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	err = filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		name, rerr := filepath.Rel(tree, path)
		if err != nil || rerr != nil || name == "." {
			return errors.Join(err, rerr)
		}
		return p.add(t, path, name, d)
	})
	return errors.Join(err, t.Close(), z.Close())
}

// add adds a file or directory, which is root's wherever it was made.
func (p *packer) add(t *tar.Writer, path, name string, d fs.DirEntry) error {
	h := &tar.Header{Name: name, Mode: 0o755, ModTime: p.when, Format: tar.FormatPAX, Typeflag: tar.TypeDir}
	if d.IsDir() {
		h.Name += "/"
		return t.WriteHeader(h)
	}
	st, err := d.Info()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size, h.Mode = tar.TypeReg, st.Size(), int64(st.Mode().Perm())
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return err
}

// debianPackage adds what Debian wants to know (deb-control(5)) to the tree and has
// dpkg-deb pack it.
func (p *packer) debianPackage(tree, arch string) (string, error) {
	version := debianVersion(p.version, p.when)
	if err := put(tree, "DEBIAN/control", []byte(control(version, arch, sizeOf(tree)))); err != nil {
		return "", err
	}
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		b, err := os.ReadFile(filepath.Join(p.repo, "deploy/debian", name))
		if err == nil {
			err = put(tree, "DEBIAN/"+name, b)
		}
		if err == nil {
			err = os.Chmod(filepath.Join(tree, "DEBIAN", name), 0o755)
		}
		if err != nil {
			return "", err
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		return "", err
	}
	name := "holdfast_" + version + "_" + arch + ".deb"
	c := exec.Command("dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, filepath.Join(p.out, name))
	c.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", p.when.Unix()))
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	return name, nil
}

// control is what the package says of itself. Nothing is needed to run a host that
// keeps data; VMs need QEMU and what connects them.
func control(version, arch string, kib int64) string {
	return fmt.Sprintf(`Package: holdfast
Version: %s
Architecture: %s
Installed-Size: %d
Maintainer: Holdfast maintainers <maintainers@users.noreply.github.com>
Section: admin
Priority: optional
Homepage: https://github.com/holdfast-cloud/holdfast
Recommends: qemu-system-x86, qemu-utils, ovmf, passt, iproute2
Description: private cloud that survives the loss of a rack
 Holdfast turns the disks of two or more computers into one replicated block
 store, runs virtual machines on it, and starts them elsewhere, with every
 committed byte, when a rack is lost. This package is everything: the host, the
 command line, a lab on one machine, drills and a simulator.
`, version, arch, kib)
}

// sizeOf is the size of all files, in KiB.
func sizeOf(tree string) (kib int64) {
	_ = filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				kib += (st.Size() + 1023) / 1024
			}
		}
		return nil
	})
	return kib
}

// debianVersion makes a version of what git describe tells that sorts as it was
// made (deb-version(7)): v1.2.3 is 1.2.3, commits after it are 1.2.3+4.gabcdef, and
// before the first tag there is only the day and the commit.
func debianVersion(described string, when time.Time) string {
	v, dirty := strings.CutSuffix(described, "-dirty")
	if tag, ok := strings.CutPrefix(v, "v"); ok && tag != "" && tag[0] >= '0' && tag[0] <= '9' {
		v = strings.ReplaceAll(strings.Replace(tag, "-", "+", 1), "-", ".")
	} else {
		v = when.UTC().Format("0.0~20060102.150405") + "." + v
	}
	if dirty {
		v += "+changed"
	}
	return v
}
