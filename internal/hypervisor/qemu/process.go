package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// process names a process for good: a process id alone is used again.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since the computer's boot, /proc/PID/stat field 22
	Boot  string `json:"boot"`  // the computer's boot id
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// identify describes a living process.
func identify(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, holdfast.Errorf(holdfast.NotFound, "process %d is gone: %w", pid, err)
	}
	start, state, err := parseStat(b)
	if err != nil {
		return process{}, err
	}
	if state == 'Z' || state == 'X' {
		return process{}, holdfast.Errorf(holdfast.NotFound, "process %d has ended", pid)
	}
	return process{PID: pid, Start: start, Boot: bootID()}, nil
}

// parseStat reads the state (field 3) and the start time (field 22) from
// /proc/PID/stat; the name in field 2 may hold anything, brackets too (proc(5)).
func parseStat(b []byte) (start uint64, state byte, err error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, 0, holdfast.Errorf(holdfast.Invalid, "no process name in a stat line of %d bytes", len(b))
	}
	f := bytes.Fields(b[end+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return 0, 0, holdfast.Errorf(holdfast.Invalid, "a stat line has %d fields after the name", len(f))
	}
	start, err = strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return 0, 0, holdfast.Errorf(holdfast.Invalid, "the start time in a stat line: %w", err)
	}
	return start, f[0][0], nil
}

// handle is a process held by its pidfd, which no other process can take over.
type handle struct {
	process
	fd    *os.File
	child *os.Process // to be reaped, if it is ours
}

// open gets hold of the process, or says with kind NotFound that it is gone.
func (p process) open() (*handle, error) {
	if p.PID <= 1 {
		return nil, holdfast.Errorf(holdfast.NotFound, "no process was started")
	}
	fd, err := unix.PidfdOpen(p.PID, unix.O_NONBLOCK)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "process %d is gone: %w", p.PID, err)
	}
	now, err := identify(p.PID)
	if err == nil && now != p {
		err = holdfast.Errorf(holdfast.NotFound, "process %d is another one now", p.PID)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &handle{process: p, fd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// signal sends sig; a process that is gone is no error.
func (h *handle) signal(sig unix.Signal) error {
	raw, err := h.fd.SyscallConn()
	if err != nil {
		return holdfast.Errorf(holdfast.Closed, "signal process %d: %w", h.PID, err)
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return holdfast.Errorf(holdfast.Closed, "signal process %d: %w", h.PID, err)
	}
	if sent != nil && !errors.Is(sent, unix.ESRCH) {
		return holdfast.Errorf(holdfast.Denied, "signal process %d: %w", h.PID, sent)
	}
	return nil
}

// wait blocks until the process has ended or timeout (0: none) has passed, and
// reports whether it ended.
func (h *handle) wait(timeout time.Duration) bool {
	raw, err := h.fd.SyscallConn()
	if err != nil {
		return false
	}
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	h.fd.SetReadDeadline(deadline)
	ended := false
	raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		ended = err == nil && n == 1
		return ended
	})
	if ended && h.child != nil {
		h.child.Wait()
	}
	return ended
}

// stopped reports whether the process is held by SIGSTOP.
func (h *handle) stopped() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID))
	if err != nil {
		return false
	}
	start, state, err := parseStat(b)
	return err == nil && start == h.Start && state == 'T'
}

func (h *handle) close() { h.fd.Close() }

// holders finds the processes that hold a file open, for the case that an
// agent died between starting a machine and writing down its process.
func holders(path string) []process {
	want, err := os.Stat(path)
	if err != nil {
		return nil
	}
	var found []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		fds, _ := filepath.Glob(dir + "/fd/*")
		for _, fd := range fds {
			if got, err := os.Stat(fd); err == nil && os.SameFile(got, want) {
				if p, err := identify(pid); err == nil {
					found = append(found, p)
				}
				break
			}
		}
	}
	return found
}
