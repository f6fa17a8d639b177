package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Of a witness's memory most is not its own: the kernel maps the pages of the
// program around each that is used, those that were only needed to start, and
// etcd has all pages of its database read, used or not. On a small computer these
// are in the way of others, so a witness lets go of them when they are many: what
// it needs comes back, from the kernel's cache or the disk.
const (
	manyPages = 28 << 20         // bytes of files in memory: what is used is less
	lookEvery = time.Second      // at how many there are
	letPause  = 20 * time.Second // after letting go, at least
)

// mapping is one entry of /proc/PID/smaps (proc(5)), of a file.
type mapping struct {
	from, to uintptr
	perms    string
	path     string
	own      int // KiB that are this process's alone and not the file's
}

// letGoOfFiles lets go of the pages of files when there are many, until ctx ends.
func letGoOfFiles(ctx context.Context) {
	wait := time.NewTimer(lookEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		pause := lookEvery
		if text, err := os.ReadFile("/proc/self/statm"); err == nil && filePages(string(text))*int64(os.Getpagesize()) > manyPages {
			pause = letPause
			if f, err := os.Open("/proc/self/smaps"); err == nil {
				letGo(readMappings(f))
				f.Close()
			}
		}
		wait.Reset(pause)
	}
}

// filePages returns how many pages of files a /proc/PID/statm (proc(5)) counts
// as in memory; 0 if it cannot be read.
func filePages(statm string) int64 {
	f := strings.Fields(statm)
	if len(f) < 3 {
		return 0
	}
	n, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0
	}
	return n
}

// letGo lets go of the program's own pages, which nobody changes or moves, and
// has those of a database written back and dropped. The latter is asked for in a
// way that loses nothing, for the mapping may be another one by now.
func letGo(ms []mapping) {
	program, err := os.Executable()
	if err != nil {
		return
	}
	for _, m := range ms {
		switch {
		case m.path == program && !strings.Contains(m.perms, "w") && m.own == 0:
			madvise(m, unix.MADV_DONTNEED)
		case strings.HasSuffix(m.path, "/snap/db") && strings.HasPrefix(m.perms, "r--s"):
			madvise(m, unix.MADV_PAGEOUT)
		}
	}
}

// madvise asks for something to be done with a mapping; where the kernel does
// not, all stays as it is.
func madvise(m mapping, advice int) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, uintptr(advice))
}

// readMappings reads /proc/PID/smaps as far as it can be understood.
func readMappings(r io.Reader) (out []mapping) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		switch {
		case len(f) < 2:
		case strings.Contains(f[0], "-"):
			out = append(out, readMapping(f)) // what follows is about it
		case len(out) > 0 && (f[0] == "Private_Dirty:" || f[0] == "Anonymous:"):
			kib, err := strconv.Atoi(f[1])
			if err != nil || kib < 0 {
				kib = 1
			}
			out[len(out)-1].own += kib
		}
	}
	return out
}

// readMapping reads the first line of an entry; of no file, or not understood, it
// is the zero mapping.
func readMapping(f []string) mapping {
	from, to, _ := strings.Cut(f[0], "-")
	a, aerr := strconv.ParseUint(from, 16, 64)
	b, berr := strconv.ParseUint(to, 16, 64)
	if aerr != nil || berr != nil || a >= b || len(f) < 6 || !strings.HasPrefix(f[5], "/") {
		return mapping{}
	}
	return mapping{from: uintptr(a), to: uintptr(b), perms: f[1], path: f[5]}
}
