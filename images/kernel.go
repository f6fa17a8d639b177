package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// kernelMeta is the package that depends on the release's present kernel for
// virtual machines.
const kernelMeta = "linux-image-cloud-amd64"

var kernelPackage = regexp.MustCompile(`linux-image-[0-9][0-9a-z.+-]*-cloud-amd64`)

// shellPackage holds a busybox that needs no libraries.
const shellPackage = "busybox-static"

// fetchKernel downloads Debian's kernel for virtual machines and unpacks it,
// with a static busybox for an initrd: boot/vmlinuz-VERSION, lib/modules/VERSION
// and bin/busybox below out. Nothing is installed.
func fetchKernel(out string, fresh bool) error {
	dir, err := cacheDir()
	if err != nil {
		return err
	}
	depends, err := output(dir, "apt-cache", "depends", kernelMeta)
	name := kernelPackage.FindString(depends)
	if err != nil || name == "" {
		return fmt.Errorf("no package %s is known to apt here (%v): only Debian has it, and 'apt-get update' may be needed", kernelMeta, err)
	}
	kept := filepath.Join(dir, name)
	if _, err := os.Stat(kept); fresh || errors.Is(err, fs.ErrNotExist) {
		if err := unpack(dir, kept, name, shellPackage); err != nil {
			return err
		}
	}
	if out == "" {
		fmt.Println(kept)
		return nil
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := command("cp", "-a", "--reflink=auto", kept, out).Run(); err != nil {
		return err
	}
	now := time.Now()
	return os.Chtimes(out, now, now) // for make, which compares it with the recipe
}

// unpack downloads packages and unpacks them into one directory.
func unpack(dir, kept string, names ...string) error {
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	get := command("apt-get", append([]string{"-qq", "-o", "APT::Sandbox::User=root", "download"}, names...)...)
	get.Dir = work
	if err := get.Run(); err != nil {
		return fmt.Errorf("download %q: %w", names, err)
	}
	debs, _ := filepath.Glob(filepath.Join(work, "*.deb"))
	if len(debs) != len(names) {
		return fmt.Errorf("download %q: %d packages came", names, len(debs))
	}
	tree := filepath.Join(work, "tree")
	for _, deb := range debs {
		if err := command("dpkg-deb", "-x", deb, tree).Run(); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	return os.Rename(tree, kept)
}

// output runs a command and returns what it printed.
func output(dir, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C")
	b, err := c.Output()
	return string(b), err
}
