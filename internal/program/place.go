package program

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

const (
	running  = "/proc/self/exe" // leads to the file that runs, whatever its name is by now
	next     = ".next"
	previous = ".previous"
	older    = ".older" // what was previous, while a program is on trial

	askTimeout = 10 * time.Second // for a program to say which version it is
	maxSaid    = 4 << 10          // bytes of what it says that are read
)

// Place is where a host's program stands. Its methods may be called from any
// goroutine.
type Place struct {
	path string

	mu    sync.Mutex // guards known
	known map[string]looked

	taking sync.Mutex // held while the files change
}

// looked is what is known of a file, as long as that is the same one.
type looked struct {
	file  identity
	build upgrade.Build
}

// identity changes with whatever a file holds.
type identity struct {
	dev, ino          uint64
	size              int64
	modified, changed unix.Timespec
}

// Open returns the place at path, which is absolute.
func Open(path string) *Place { return &Place{path: path, known: make(map[string]looked)} }

// Own returns the place of the program that this process runs.
func Own() (*Place, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "where this program is: %w", err)
	}
	return Open(path), nil
}

// Path is where the program stands.
func (p *Place) Path() string { return p.path }

// Running is the build that this process is; version is what it calls itself.
func (p *Place) Running(version string) (upgrade.Build, error) {
	return p.look(running, func() (string, error) { return version, nil })
}

// Disk is the build that is run at the next start. NotFound: there is none.
func (p *Place) Disk(ctx context.Context) (upgrade.Build, error) { return p.at(ctx, p.path) }

// Next is the build that was taken in last. NotFound: there is none.
func (p *Place) Next(ctx context.Context) (upgrade.Build, error) { return p.at(ctx, p.path+next) }

// Previous is the build before the last exchange. NotFound: there is none.
func (p *Place) Previous(ctx context.Context) (upgrade.Build, error) {
	return p.at(ctx, p.path+previous)
}

func (p *Place) at(ctx context.Context, path string) (upgrade.Build, error) {
	return p.look(path, func() (string, error) { return ask(ctx, path) })
}

// look says which build a file is. It reads a file once: to hash it takes a small
// computer a second.
func (p *Place) look(path string, version func() (string, error)) (b upgrade.Build, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, holdfast.Errorf(holdfast.NotFound, "there is no program at %s", path)
	}
	if err != nil {
		return b, holdfast.Errorf(holdfast.IO, "program: %w", err)
	}
	defer f.Close()
	now, err := identify(f)
	if err != nil {
		return b, err
	}
	p.mu.Lock()
	was, ok := p.known[path]
	p.mu.Unlock()
	if ok && was.file == now {
		return was.build, nil
	}
	if b.Arch, err = archOf(f, path); err != nil {
		return upgrade.Build{}, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, now.size)); err != nil {
		return upgrade.Build{}, holdfast.Errorf(holdfast.IO, "read %s: %w", path, err)
	}
	b.Sum = hex.EncodeToString(h.Sum(nil))
	if b.Arch == runtime.GOARCH {
		if b.Version, err = version(); err != nil {
			return upgrade.Build{}, err
		}
	}
	p.mu.Lock()
	p.known[path] = looked{now, b}
	p.mu.Unlock()
	return b, nil
}

func identify(f *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, holdfast.Errorf(holdfast.IO, "program %s: %w", f.Name(), err)
	}
	return identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// ask runs a program to hear its version. Invalid: it does not run, or is another
// program.
func ask(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	said, err := run(ctx, path, "--version")
	for i := 0; errors.Is(err, syscall.ETXTBSY) && i < 100 && ctx.Err() == nil; i++ {
		// A process that is being started meanwhile still has the file open as it
		// was written (golang.org/issue/22315).
		time.Sleep(10 * time.Millisecond)
		said, err = run(ctx, path, "--version")
	}
	switch {
	case ctx.Err() != nil:
		return "", holdfast.Errorf(holdfast.Invalid, "the program does not say its version within %v ('%s --version'): it does not run here", askTimeout, path)
	case err != nil:
		return "", holdfast.Errorf(holdfast.Invalid, "the program does not run here ('%s --version': %w): is the file whole?", path, err)
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(said), "holdfast version ")
	if !ok || version == "" || len(version) > 100 || strings.ContainsFunc(version, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", holdfast.Errorf(holdfast.Invalid, "the program is not Holdfast: '%s --version' does not answer 'holdfast version …'", path)
	}
	return version, nil
}

// run runs a program and returns the beginning of what it says.
func run(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.WaitDelay = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, time.Second
	var out head
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return string(out.b), err
}

// head keeps the beginning of what is written to it.
type head struct{ b []byte }

func (h *head) Write(b []byte) (int, error) {
	h.b = append(h.b, b[:min(len(b), maxSaid-len(h.b))]...)
	return len(b), nil
}

// syncDir makes renames in a directory last.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
