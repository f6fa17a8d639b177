// Command images builds what drills and tests boot, from Debian's packages.
//
//	go run ./images -o build/debian.raw                   Debian 12 with PostgreSQL 15, for the drill
//	go run ./images --cloud-init -o build/cloud-init.raw  Debian 12 with its cloud-init
//	go run ./images --kernel -o build/kernel              only a kernel and its modules, in a directory
//	go run ./images --probe -o build/probe.raw            the probe: a guest of a few kilobytes, built here
//
// The first two are raw disks that start from BIOS. An image is kept under
// $HOLDFAST_CACHE (or the user's cache directory) by the hash of its recipe: the
// second time it is a copy. Building needs root, or sudo, for mmdebstrap, and a
// Debian mirror: the one of this machine's apt.
// A kernel needs neither; on anything but Debian there is none to fetch.
//
// What a drill can count on:
//
//	memory     512 MiB
//	database   port 5432 on every address, user, password and database "holdfast"
//	           (a superuser; commits are synchronous, pages have checksums, the
//	           extension amcheck is there)
//	console    serial port, user root, password holdfast
//	network    DHCP on every network card
//
// The passwords are no secret: this image is for a test on one machine.
package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

//go:embed debian.sh customize.sh postgresql.sh cloud-init.sh disk.go
var recipe embed.FS

// rootUUID names the root file system to the loader and the kernel.
const rootUUID = "68647266-6173-4721-8000-000000000001"

// Flavours of the disk.
const (
	withPostgreSQL = "postgresql"
	withCloudInit  = "cloud-init"
)

func main() {
	out := flag.String("o", "", "`path` to write the image to; without it, it is only built and kept")
	fresh := flag.Bool("fresh", false, "build it again, with today's packages")
	cloud := flag.Bool("cloud-init", false, "a Debian with cloud-init instead of the drill's")
	kernel := flag.Bool("kernel", false, "only a kernel and its modules: a directory, not a disk")
	small := flag.Bool("probe", false, "the guest that writes, counts and verifies, of a few kilobytes")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "images: %q is too much; use -o FILE\n", flag.Args())
		os.Exit(2)
	}
	flavour := withPostgreSQL
	if *cloud {
		flavour = withCloudInit
	}
	run := func() error { return disk(flavour, *out, *fresh) }
	if *kernel {
		run = func() error { return fetchKernel(*out, *fresh) }
	}
	if *small {
		run = func() error { return writeProbe(*out) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// writeProbe writes the image of the probe as a sparse file.
func writeProbe(out string) error {
	const size = 16 << 20
	head, err := probe.Image(size)
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, head, 0o644); err != nil {
		return err
	}
	return os.Truncate(out, size)
}

// disk builds the disk of a flavour if it is not kept yet, and copies it to out.
func disk(flavour, out string, fresh bool) error {
	dir, err := cacheDir()
	if err != nil {
		return err
	}
	sum, err := recipeSum()
	if err != nil {
		return err
	}
	name := "debian-"
	if flavour != withPostgreSQL {
		name += flavour + "-"
	}
	kept := filepath.Join(dir, name+sum+".raw")
	if _, err := os.Stat(kept); fresh || errors.Is(err, fs.ErrNotExist) {
		if err := build(dir, flavour, kept); err != nil {
			return fmt.Errorf("build the Debian image: %w", err)
		}
	}
	if out == "" {
		fmt.Println(kept)
		return nil
	}
	// Written under another name first: who finds the file finds all of it.
	tmp := out + ".new"
	if err := command("cp", "--sparse=always", "--reflink=auto", kept, tmp).Run(); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("copy the image to %s: %w", out, err)
	}
	return os.Rename(tmp, out)
}

func cacheDir() (string, error) {
	dir := os.Getenv("HOLDFAST_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no directory to keep the image in: %w; set HOLDFAST_CACHE", err)
		}
		dir = filepath.Join(user, "holdfast")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// recipeSum hashes everything that decides what the image is, except the day.
func recipeSum() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := recipe.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n", path, len(b))
		h.Write(b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

// build makes the image in a directory of its own beside its place, so that an
// interrupted build leaves nothing that looks like one.
func build(dir, flavour, kept string) error {
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer func() { _ = asRoot("rm", "-rf", work).Run() }()
	if err := os.Chmod(work, 0o755); err != nil { // apt's own user looks in
		return err
	}
	for _, name := range []string{"debian.sh", "customize.sh", flavour + ".sh"} {
		b, err := recipe.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(work, name), b, 0o755)
		}
		if err != nil {
			return err
		}
	}
	start := time.Now()
	fmt.Fprintln(os.Stderr, "images: building Debian 12 with", flavour+"; this takes a minute or two")
	owner := strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid())
	err = asRoot("sh", filepath.Join(work, "debian.sh"), work, rootUUID, strconv.Itoa(partSize>>10), strconv.Itoa(partStart), owner, flavour).Run()
	if err != nil {
		return fmt.Errorf("debian.sh: %w; its messages are above", err)
	}
	boot, err := os.ReadFile(filepath.Join(work, "boot.img"))
	if err != nil {
		return err
	}
	core, err := os.ReadFile(filepath.Join(work, "core.img"))
	if err != nil {
		return err
	}
	disk := filepath.Join(work, "disk.raw")
	if err := finish(disk, boot, core); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "images: built in %v\n", time.Since(start).Round(time.Second))
	return os.Rename(disk, kept)
}

// asRoot runs a command as root, by sudo if need be.
func asRoot(name string, args ...string) *exec.Cmd {
	if os.Getuid() == 0 {
		return command(name, args...)
	}
	return command("sudo", append([]string{name}, args...)...)
}

func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	// Debian keeps mke2fs and chroot where users' paths do not lead.
	c.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	return c
}
