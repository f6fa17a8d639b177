package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// A volatile host keeps its data directory, the control plane's log in it, on a
// file system of its own, which goes with its power: what a process had written
// and not synced is gone then, names of files included, as if the kernel had died
// with it. The file system itself is told to forget (FS_IOC_SHUTDOWN, as xfstests
// do); its journal makes it sound when it is mounted again.

const (
	volatileSize = 1 << 30 // of the image, which is sparse
	// fsShutdown is FS_IOC_SHUTDOWN, _IOR('X', 125, __u32); fsNoLogFlush has not
	// even the journal written out (linux/fs.h, ext4.h).
	fsShutdown    = 0x8004587d
	fsNoLogFlush  = 2
	unmountWithin = 20 * time.Second
)

// CanVolatile says why no lab here can have volatile hosts, nil if it can.
func CanVolatile() error {
	if os.Getuid() != 0 {
		return holdfast.Errorf(holdfast.Denied, "hosts that forget what they have not synced need file systems of their own, which root may mount: run it as root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "hosts that forget what they have not synced need mkfs.ext4, which is in the package e2fsprogs")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "hosts that forget what they have not synced need loop devices, which this kernel does not have: %w", err)
	}
	return nil
}

// image is the file that a volatile host's data lies in.
func (h Host) image() string { return filepath.Join(h.Dir, "data.img") }

// mounted reports whether the host's file system is there.
func (h Host) mounted() (bool, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && unescape(f[4]) == h.Data() {
			return true, nil
		}
	}
	return false, nil
}

// unescape undoes what proc_pid_mountinfo(5) does to a path.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mount makes a volatile host's file system, if there is none, and mounts it.
func (h Host) mount() error {
	if !h.Volatile {
		return nil
	}
	if is, err := h.mounted(); is || err != nil {
		return err
	}
	if err := h.makeImage(); err != nil {
		return err
	}
	if err := os.MkdirAll(h.Data(), 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	dev, close, err := h.loop()
	if err != nil {
		return err
	}
	defer close() // the mount holds it from then on
	if err := unix.Mount(dev, h.Data(), "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
		return holdfast.Errorf(holdfast.IO, "mount the data of host %s: %w", h.Name, err)
	}
	if err := os.Chmod(h.Data(), 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return nil
}

func (h Host) makeImage() error {
	if _, err := os.Stat(h.image()); err == nil {
		return nil
	}
	tmp := h.image() + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(volatileSize), f.Close())
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", tmp).CombinedOutput(); err != nil {
		return holdfast.Errorf(holdfast.IO, "make the file system of host %s: %w: %s", h.Name, err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(tmp, h.image()); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return nil
}

// loop makes a loop device of the host's image (loop(4)), which goes when nobody
// holds it any more.
func (h Host) loop() (path string, close func(), err error) {
	fail := func(err error) (string, func(), error) {
		return "", nil, holdfast.Errorf(holdfast.IO, "a loop device for host %s: %w", h.Name, err)
	}
	file, err := os.OpenFile(h.image(), os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	defer ctl.Close()
	for range 100 { // somebody else may take the same one
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fail(err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return fail(err)
		}
		c := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &c)
		if err == nil {
			return path, func() { dev.Close() }, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return fail(err)
		}
	}
	return fail(unix.EBUSY)
}

// forget has the file system of a volatile host forget what was not synced. Its
// processes stand still by then.
func (h Host) forget() error {
	is, err := h.mounted()
	if !is || err != nil {
		return err
	}
	d, err := os.Open(h.Data())
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), fsShutdown, fsNoLogFlush); err != nil {
		return holdfast.Errorf(holdfast.IO, "take what host %s has not synced: %w", h.Name, err)
	}
	return nil
}

// unmount ends a volatile host's file system, once its processes are gone and the
// namespaces that they had have let go of it.
func (h Host) unmount() error {
	for end := time.Now().Add(unmountWithin); ; time.Sleep(pollEvery) {
		is, err := h.mounted()
		if !is || err != nil {
			return err
		}
		if err = unix.Unmount(h.Data(), 0); err != nil && time.Now().After(end) {
			return holdfast.Errorf(holdfast.IO, "unmount the data of host %s: %w", h.Name, err)
		}
	}
}

// volatiles are the hosts that forget.
func volatiles(hosts []Host) (out []Host) {
	for _, h := range hosts {
		if h.Volatile {
			out = append(out, h)
		}
	}
	return out
}
