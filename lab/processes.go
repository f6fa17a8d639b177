package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// proc is what /proc/PID/stat says (proc_pid_stat(5)).
type proc struct {
	pid, parent int
	state       byte   // R, S, D, T, Z, …
	start       string // clock ticks since boot: with the pid, an identity
	name        string
}

func readProc(pid int) (proc, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return proc{}, err
	}
	return parseStat(pid, b)
}

// parseStat reads a stat line. The name is in brackets and may hold anything,
// also brackets and spaces, so what follows is found from the last bracket.
func parseStat(pid int, b []byte) (proc, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return proc{}, fmt.Errorf("process %d: no name in its stat", pid)
	}
	rest := bytes.Fields(b[end+1:])
	if len(rest) < 20 || len(rest[0]) != 1 {
		return proc{}, fmt.Errorf("process %d: its stat is cut short", pid)
	}
	parent, err := strconv.Atoi(string(rest[1]))
	if err != nil {
		return proc{}, err
	}
	return proc{pid: pid, parent: parent, state: rest[0][0], start: string(rest[19]), name: string(b[open+1 : end])}, nil
}

// below returns every process below the given ones, parents first, without
// those that are dead already. What is below a dead one is found, too: a
// process whose first thread has ended looks dead while others still run, and
// keeps its children until they have ended.
func below(roots []int) ([]proc, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]proc{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, err := readProc(pid); err == nil {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	var out []proc
	todo := slices.Clone(roots)
	for len(todo) > 0 && len(out) < 100000 {
		next := children[todo[0]]
		todo = todo[1:]
		for _, p := range next {
			if p.state != 'Z' && p.state != 'X' {
				out = append(out, p)
			}
			todo = append(todo, p.pid)
		}
	}
	return out, nil
}

// processes returns what runs on some hosts.
func processes(hosts []Host) ([]proc, error) {
	var roots []int
	for _, h := range hosts {
		roots = append(roots, h.keepers()...)
	}
	return below(roots)
}

// signalAll sends sig to every process of the hosts, again and again until
// settled says that all have got it: a process may be starting another one
// meanwhile.
func signalAll(hosts []Host, sig syscall.Signal, settled func(proc) bool) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		ps, err := processes(hosts)
		if err != nil {
			return err
		}
		left := 0
		for _, p := range ps {
			if settled(p) {
				continue
			}
			left++
			if err := send(p, sig); err != nil {
				return err
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return holdfast.Errorf(holdfast.Unavailable, "%d processes did not obey signal %v", left, sig)
		}
		time.Sleep(2 * time.Millisecond) // the kernel tells nobody of the state of processes that are no children
	}
}

// send signals one process, if it still is the one that was seen: the handle
// is opened first and the identity compared after.
func send(p proc, sig syscall.Signal) error {
	h, err := os.FindProcess(p.pid)
	if err != nil {
		return nil // gone
	}
	defer h.Release()
	if now, err := readProc(p.pid); err != nil || now.start != p.start {
		return nil
	}
	if err := h.Signal(sig); err != nil && !os.IsPermission(err) {
		return nil // gone
	} else if err != nil {
		return holdfast.Errorf(holdfast.Denied, "process %d (%s) cannot be signalled: %w; run the lab's commands as the user who made it", p.pid, p.name, err)
	}
	return nil
}

// Kill pulls the plug of some hosts: everything that runs on them is ended
// with SIGKILL, machines included.
// It returns when they are gone: what they held, such as locks and addresses,
// is free again. What volatile hosts have written and not synced is gone, too.
func Kill(hosts []Host) error {
	forgetful := volatiles(hosts)
	if len(forgetful) > 0 { // at one moment, or others would be told of errors
		if err := errors.Join(Freeze(hosts), each(forgetful, Host.forget)); err != nil {
			return err
		}
	}
	if err := killAll(hosts); err != nil {
		return err
	}
	return each(forgetful, func(h Host) error { return h.data().unmount() })
}

func killAll(hosts []Host) error {
	seen := map[int]proc{}
	err := signalAll(hosts, syscall.SIGKILL, func(p proc) bool {
		seen[p.pid] = p
		return false
	})
	for deadline := time.Now().Add(20 * time.Second); err == nil && len(seen) > 0; {
		for pid, p := range seen {
			if p.gone() {
				delete(seen, pid)
			}
		}
		if len(seen) == 0 {
			break
		}
		if time.Now().After(deadline) {
			err = holdfast.Errorf(holdfast.Unavailable, "%d killed processes are still there", len(seen))
		}
		time.Sleep(2 * time.Millisecond)
	}
	return err
}

// gone reports whether no thread of a process runs any more. Its parent may
// be dead, too, and nobody may have collected it yet.
func (p proc) gone() bool {
	now, err := readProc(p.pid)
	if err != nil || now.start != p.start {
		return true
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	return err != nil || (now.state == 'Z' || now.state == 'X') && len(threads) <= 1
}

// Freeze stops everything that runs on some hosts where it stands (SIGSTOP);
// Thaw lets it go on.
func Freeze(hosts []Host) error {
	return signalAll(hosts, syscall.SIGSTOP, func(p proc) bool { return p.state == 'T' || p.state == 't' })
}

// Thaw lets frozen hosts go on.
func Thaw(hosts []Host) error {
	return signalAll(hosts, syscall.SIGCONT, func(p proc) bool { return p.state != 'T' })
}

// What a host's processes may be doing.
const (
	isRunning  = "running"
	isFrozen   = "frozen"
	isAgentOut = "agent dead" // its machines live, but nothing answers for the host
	isDead     = "dead"
)

// condition says in a word what a host's processes are doing.
func (h Host) condition() (word string, running int) {
	ps, err := processes([]Host{h})
	if err != nil || len(ps) == 0 {
		return isDead, 0
	}
	frozen, serves := 0, false
	for _, p := range ps {
		if p.state == 'T' {
			frozen++
		}
		serves = serves || h.isServe(p)
	}
	switch {
	case frozen == len(ps):
		return isFrozen, len(ps)
	case !serves:
		return isAgentOut, len(ps)
	}
	return isRunning, len(ps)
}

// isServe reports whether a process is the host's own, by what it was started
// with.
func (h Host) isServe(p proc) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	_, args, _ := strings.Cut(string(b), "\x00") // whatever the program's path is
	return err == nil && args == strings.Join(serveArgs(h), "\x00")+"\x00"
}

// serveArgs are what a host's own process is started with.
func serveArgs(h Host) []string { return []string{"serve", "--config", h.Config()} }

// Programs returns the names of all processes on some hosts, as the kernel
// knows them (15 characters at most).
func Programs(hosts []Host) ([]string, error) {
	ps, err := processes(hosts)
	var out []string
	for _, p := range ps {
		out = append(out, p.name)
	}
	return out, err
}
