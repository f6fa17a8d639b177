package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// runDir is one machine's directory, DIR/<vm id>:
//
//	lock           held (flock) by QEMU and its descendants as long as one lives
//	machine.json   the spec, and which processes run it
//	jail.json      what the jail helper is to do
//	log            QEMU's and the helper's standard error
//	files/         copies of kernel, initrd and seed
//	root/          where the jail is built; empty for everyone else
//	serial.in      a pipe: what is typed into the guest's serial port
//	serial.out     what the guest printed there; QEMU may write these two files
//	sock/          monitor, screen, net: QEMU's own; in no other directory may it make files
//	net/           what the network companion owns
//	disks/         sockets of disks that came while the machine ran, and of what
//	               lies in its CD-ROM drive, by slot; and where its memory goes to
//	               when that is saved (one that is restored comes by sock/memory)
//
// The lock is the truth about whether the machine is alive: it is inherited
// across exec and goes when the last holder is gone, however it ended.
type runDir string

func (d runDir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

func (d runDir) lockPath() string   { return d.path("lock") }
func (d runDir) recordPath() string { return d.path("machine.json") }
func (d runDir) jailPath() string   { return d.path("jail.json") }
func (d runDir) logPath() string    { return d.path("log") }
func (d runDir) monitor() string    { return d.path("sock", "monitor") }
func (d runDir) serial() string     { return d.path("serial") }
func (d runDir) serialIn() string   { return d.serial() + ".in" }
func (d runDir) serialOut() string  { return d.serial() + ".out" }
func (d runDir) screen() string     { return d.path("sock", "screen") }
func (d runDir) netSocket() string  { return d.path("sock", "net") }
func (d runDir) dialSocket() string { return d.path("net", "dial") }
func (d runDir) memoryOut() string  { return d.path("disks", "memory") }
func (d runDir) memoryIn() string   { return d.path("sock", "memory") }
func (d runDir) netConfig() string  { return d.path("net", "config.json") }

// disk is where QEMU finds the socket of a disk that came while it ran.
func (d runDir) disk(slot int) string { return d.path("disks", strconv.Itoa(slot)) }

// maxSocketPath is what fits a unix socket address (sun_path).
const maxSocketPath = 107

// create makes the directory anew, removing what a dead machine left. The
// caller holds the lock or is about to take it.
func (d runDir) create() error {
	if len(d.monitor()) > maxSocketPath {
		return holdfast.Errorf(holdfast.Invalid, "the path %s is too long for a socket; use a shorter run directory", d.monitor())
	}
	for _, sub := range []string{"sock", "net", "files", "root", "disks"} {
		if err := os.RemoveAll(d.path(sub)); err != nil {
			return holdfast.Errorf(holdfast.IO, "clear the machine's directory: %w", err)
		}
		if err := os.MkdirAll(d.path(sub), 0o700); err != nil {
			return holdfast.Errorf(holdfast.IO, "make the machine's directory: %w", err)
		}
	}
	if err := os.Chmod(d.path("disks"), 0o755); err != nil { // QEMU's user looks there, in its jail
		return holdfast.Errorf(holdfast.IO, "make the machine's directory: %w", err)
	}
	if err := d.createSerial(); err != nil {
		return holdfast.Errorf(holdfast.IO, "make the files of the machine's serial port: %w", err)
	}
	return nil
}

func (d runDir) createSerial() error {
	for _, path := range []string{d.serialIn(), d.serialOut()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := unix.Mkfifo(d.serialIn(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(d.serialOut(), nil, 0o600)
}

// dial connects to a socket that QEMU listens on. The directory is QEMU's, which a
// guest may have broken into: whatever else stands at the socket's place, such as
// a link to a socket of this host or of another VM, is not followed.
func dial(path string) (net.Conn, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, holdfast.Errorf(holdfast.Corrupt, "%s is no socket: what QEMU listened on was replaced; stop the machine by force and find out what runs in it", path)
	}
	return net.DialTimeout("unix", fmt.Sprintf("/proc/self/fd/%d", fd), commandTimeout)
}

// lock takes the machine's lock. The file is not closed on exec by its owner's
// choice: whoever inherits it holds it too. Kind Busy: a machine is alive.
func (d runDir) lock() (*os.File, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "make the machine's directory: %w", err)
	}
	f, err := os.OpenFile(d.lockPath(), os.O_RDWR|os.O_CREATE, 0o644) // the network companion looks at it
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "open the machine's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, holdfast.Errorf(holdfast.Busy, "a machine already runs in %s", d)
		}
		return nil, holdfast.Errorf(holdfast.IO, "lock the machine's directory: %w", err)
	}
	return f, nil
}

// alive reports whether a process of the machine lives.
func (d runDir) alive() bool {
	f, err := os.OpenFile(d.lockPath(), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return true
	}
	unix.Flock(int(f.Fd()), unix.LOCK_UN)
	return false
}

// record is what machine.json holds. Version 2.
type record struct {
	Version     int             `json:"version"`
	Spec        hypervisor.Spec `json:"spec"`
	Kind        string          `json:"kind,omitempty"` // Hypervisor.Kind when it was started
	Accelerator string          `json:"accelerator"`
	Sandbox     string          `json:"sandbox"`
	StartedUnix int64           `json:"started_unix"` // seconds, wall clock, for display
	QEMU        process         `json:"qemu"`         // zero until it was started
	Net         process         `json:"net"`
}

const recordVersion = 2

// maxRecord bounds machine.json, in bytes.
const maxRecord = 1 << 20

func (d runDir) writeRecord(r record) error {
	r.Version = recordVersion
	return writeJSON(d.recordPath(), r)
}

func (d runDir) readRecord() (record, error) {
	b, err := readBounded(d.recordPath())
	if err != nil {
		return record{}, holdfast.Errorf(holdfast.NotFound, "read the machine's record: %w", err)
	}
	return parseRecord(b)
}

func parseRecord(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, holdfast.Errorf(holdfast.Corrupt, "a machine's record is not readable: %w", err)
	}
	if r.Version != recordVersion {
		return record{}, holdfast.Errorf(holdfast.Invalid, "a machine's record has version %d, this program knows %d", r.Version, recordVersion)
	}
	return r, checkSpec(r.Spec)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRecord))
}

// writeJSON replaces a file in one step. It is not synced: no machine outlives
// a power cut.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return holdfast.Errorf(holdfast.Invalid, "encode %s: %w", filepath.Base(path), err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return holdfast.Errorf(holdfast.IO, "write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return holdfast.Errorf(holdfast.IO, "write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// copyFile copies an input of the machine to where its user may read it.
func copyFile(dst, src string, uid int) error {
	in, err := os.Open(src)
	if err != nil {
		return holdfast.Errorf(holdfast.NotFound, "open %s: %w", src, err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o400)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "copy %s: %w", src, err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return holdfast.Errorf(holdfast.IO, "copy %s: %w", src, err)
	}
	if uid >= 0 {
		if err := out.Chown(uid, uid); err != nil {
			return holdfast.Errorf(holdfast.IO, "copy %s: %w", src, err)
		}
	}
	return nil
}
