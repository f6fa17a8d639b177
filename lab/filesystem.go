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

// filesystem is an ext4 in a sparse file that is mounted for a part of a host, so
// that it can fail by itself.
type filesystem struct {
	host  string // for messages
	image string
	at    string // where it is mounted
	size  int64
}

// fsShutdown is FS_IOC_SHUTDOWN, _IOR('X', 125, __u32); after it the file system
// answers with errors. fsFlush has all written out before, fsNoLogFlush not even the
// journal (linux/fs.h, ext4.h).
const (
	fsShutdown    = 0x8004587d
	fsFlush       = 0
	fsNoLogFlush  = 2
	unmountWithin = 20 * time.Second
)

// canMount says why hosts here can have no file systems of their own, nil if they
// can; what names the hosts that need them.
func canMount(what string) error {
	if os.Getuid() != 0 {
		return holdfast.Errorf(holdfast.Denied, "%s need file systems of their own, which root may mount: run it as root", what)
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "%s need mkfs.ext4, which is in the package e2fsprogs", what)
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "%s need loop devices, which this kernel does not have: %w", what, err)
	}
	return nil
}

// mounted reports whether it is there.
func (f filesystem) mounted() (bool, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if w := strings.Fields(line); len(w) > 4 && unescape(w[4]) == f.at {
			return true, nil
		}
	}
	return false, nil
}

// unescape undoes what proc_pid_mountinfo(5) does to a path.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mount makes it, if there is none, and mounts it, if it is not.
func (f filesystem) mount() error {
	if is, err := f.mounted(); is || err != nil {
		return err
	}
	if err := f.makeImage(); err != nil {
		return err
	}
	if err := os.MkdirAll(f.at, 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	dev, close, err := f.loop()
	if err != nil {
		return err
	}
	defer close() // the mount holds it from then on
	if err := unix.Mount(dev, f.at, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
		return holdfast.Errorf(holdfast.IO, "mount %s of host %s: %w", filepath.Base(f.at), f.host, err)
	}
	if err := os.Chmod(f.at, 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return nil
}

func (f filesystem) makeImage() error {
	if _, err := os.Stat(f.image); err == nil {
		return nil
	}
	tmp := f.image + ".new"
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err == nil {
		err = errors.Join(file.Truncate(f.size), file.Close())
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", tmp).CombinedOutput(); err != nil {
		return holdfast.Errorf(holdfast.IO, "make the file system of host %s: %w: %s", f.host, err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(tmp, f.image); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return nil
}

// loop makes a loop device of the image (loop(4)), which goes when nobody holds it
// any more.
func (f filesystem) loop() (path string, close func(), err error) {
	fail := func(err error) (string, func(), error) {
		return "", nil, holdfast.Errorf(holdfast.IO, "a loop device for host %s: %w", f.host, err)
	}
	file, err := os.OpenFile(f.image, os.O_RDWR, 0)
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

// shutdown has everything that is asked of it fail from now on, until it is mounted
// anew.
func (f filesystem) shutdown(how int) error {
	is, err := f.mounted()
	if !is || err != nil {
		return err
	}
	d, err := os.Open(f.at)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), fsShutdown, how); err != nil {
		return holdfast.Errorf(holdfast.IO, "shut %s of host %s down: %w", filepath.Base(f.at), f.host, err)
	}
	return nil
}

// unmount ends it, once the processes that used it are gone and the namespaces that
// they had have let go of it.
func (f filesystem) unmount() error {
	for end := time.Now().Add(unmountWithin); ; time.Sleep(pollEvery) {
		is, err := f.mounted()
		if !is || err != nil {
			return err
		}
		if err = unix.Unmount(f.at, 0); err != nil && time.Now().After(end) {
			return holdfast.Errorf(holdfast.IO, "unmount %s of host %s: %w", filepath.Base(f.at), f.host, err)
		}
	}
}

// anew mounts it again whoever still uses it: they go on with one that is shut down.
func (f filesystem) anew() error {
	if is, err := f.mounted(); err != nil {
		return err
	} else if is {
		if err := unix.Unmount(f.at, unix.MNT_DETACH); err != nil {
			return holdfast.Errorf(holdfast.IO, "detach %s of host %s: %w", filepath.Base(f.at), f.host, err)
		}
	}
	return f.mount()
}
