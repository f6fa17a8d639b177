package serve

import (
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// A host's memory holds the cluster key, the data keys of the volumes it has
// open, and what their clients read and wrote. It is kept out of core dumps;
// whether it may get to swap is for the machine's administrator, and told.
// Locking some pages would not do: keys are also in AES key schedules, TLS
// buffers and stacks, which Go places and copies as it likes (docs/THREATS.md).

// dontDump keeps the memory of this process, and of those it starts, out of
// core dumps. A limit of one byte is less than any dump has and, other than
// zero, also means none where dumps are piped to a program (core(5)).
func dontDump() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
	if err != nil { // less is allowed already
		err = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "core dumps cannot be turned off: %w", err)
	}
	return nil
}

const swapCondition = "swap"

// tellSwap says if keys of this host's memory may be written to a disk.
func (h *Host) tellSwap(m *member, root fs.FS) {
	text := ""
	if len(m.node.Keys.IDs()) > 0 {
		if to := swap(root); len(to) > 0 {
			text = "host " + h.cfg.Name + " has the cluster key in its memory, and swaps to " + strings.Join(to, ", ") +
				", which is not encrypted: the key may get there and stay; turn swap off, encrypt it, or run holdfast in a cgroup with memory.swap.max 0"
		}
	}
	m.node.Condition(swapCondition, "info", text)
}

// swap returns where this process's memory may be swapped to: devices and files
// that are neither memory themselves nor encrypted. root is /.
func swap(root fs.FS) (to []string) {
	b, _ := fs.ReadFile(root, "proc/swaps")
	for i, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) == 0 {
			continue
		}
		name := path.Base(f[0])
		uuid, _ := fs.ReadFile(root, "sys/class/block/"+name+"/dm/uuid")
		if !strings.HasPrefix(name, "zram") && !strings.HasPrefix(string(uuid), "CRYPT-") {
			to = append(to, f[0])
		}
	}
	if len(to) > 0 && neverSwapped(root) {
		return nil
	}
	return to
}

// neverSwapped reports whether the cgroup of this process, or one above it, may
// use no swap (cgroup-v2, memory.swap.max).
func neverSwapped(root fs.FS) bool {
	b, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		at, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		for ; ok && at != "." && at != ""; at = path.Dir(at) {
			if limit, _ := fs.ReadFile(root, path.Join("sys/fs/cgroup", at, "memory.swap.max")); strings.TrimSpace(string(limit)) == "0" {
				return true
			}
		}
	}
	return false
}
