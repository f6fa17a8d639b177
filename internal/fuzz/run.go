package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// bench is where the programs are that fuzz.
type bench struct {
	root  string // of the source
	cache string // of the go command, for what fuzzing found
	path  string // of the module
	dir   string // temporary, for programs

	mu    sync.Mutex // one go command at a time: they would build the same
	built map[string]string
}

func newBench(ctx context.Context) (*bench, error) {
	b := &bench{built: map[string]string{}}
	for _, v := range []struct {
		to   *string
		args []string
	}{{&b.root, []string{"list", "-m", "-f", "{{.Dir}}"}}, {&b.path, []string{"list", "-m"}}, {&b.cache, []string{"env", "GOCACHE"}}} {
		out, err := exec.CommandContext(ctx, "go", v.args...).Output()
		if err != nil {
			return nil, fmt.Errorf("go %s: %w", strings.Join(v.args, " "), err)
		}
		*v.to = strings.TrimSpace(string(out))
	}
	var err error
	b.dir, err = os.MkdirTemp("", "holdfast-fuzz")
	return b, err
}

// program builds the tests of a package, for fuzzing or for counting what they
// reach.
func (b *bench) program(ctx context.Context, t target, flags ...string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := t.pkg + strings.Join(flags, " ")
	if p := b.built[key]; p != "" {
		return p, nil
	}
	p := filepath.Join(b.dir, fmt.Sprint(len(b.built), ".test"))
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"test", "-c", "-o", p}, flags...), "./internal/"+t.pkg)...)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	b.built[key] = p
	return p, nil
}

// found is where the go command stores what a target found.
func (b *bench) found(t target) string {
	return filepath.Join(b.cache, "fuzz", filepath.FromSlash(b.path), "internal", filepath.FromSlash(t.pkg))
}

// home is the package's directory, and corpus what is kept there of a target.
func (b *bench) home(t target) string {
	return filepath.Join(b.root, "internal", filepath.FromSlash(t.pkg))
}

func (b *bench) corpus(t target) string {
	return filepath.Join(b.home(t), "testdata", "fuzz", t.name)
}

// result is what came of fuzzing.
type result struct {
	ran          time.Duration
	execs        int64
	fresh, total int // inputs that reach something new; all there are
	stalls       int
}

// progress is a line that the fuzzer prints every three seconds, and failing
// one that names the input of a finding.
func progress() *regexp.Regexp {
	return regexp.MustCompile(`elapsed: (\S+), execs: (\d+) .* new interesting: (\d+) \(total: (\d+)\)`)
}
func failing() *regexp.Regexp { return regexp.MustCompile(`Failing input written to (\S+)`) }

// stall is the time between two lines of progress from which on the machine is
// taken to have stood still; none of it is counted.
const stall = 10 * time.Second

// add takes into account what a run printed.
func (r *result) add(out []byte) {
	var execs int64
	var at time.Duration
	var fresh int
	for _, line := range progress().FindAllSubmatch(out, -1) {
		now, _ := time.ParseDuration(string(line[1]))
		if now-at < stall {
			r.ran += now - at
		} else {
			r.stalls++
		}
		at = now
		execs, _ = strconv.ParseInt(string(line[2]), 10, 64)
		fresh, _ = strconv.Atoi(string(line[3]))
		r.total, _ = strconv.Atoi(string(line[4]))
	}
	r.execs, r.fresh = r.execs+execs, r.fresh+fresh
}

// replays is how often an input of a process that hung is played alone.
const replays = 100

// maxIdle is how many runs in a row may pass without an input that is new.
const maxIdle = 5

// errNoTime is no finding.
var errNoTime = errors.New("the machine gave it no time for anything but what it knows already; run it again where less goes on")

// fuzz runs a target for some time. A worker that takes ten seconds for one
// input is taken for hung; where the whole machine stood still for so long, the
// input does nothing of that when it is played alone, and the run goes on.
func (b *bench) fuzz(ctx context.Context, t target, d time.Duration) (r result, err error) {
	p, err := b.program(ctx, t, "-fuzz=.")
	if err != nil {
		return r, err
	}
	if err := os.MkdirAll(b.found(t), 0o755); err != nil {
		return r, err
	}
	for idle := 0; ; {
		before := r.ran
		left := (d - r.ran).Round(time.Second)
		if left <= 0 {
			return r, ctx.Err()
		}
		out, err := b.run(ctx, t, p, "-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+left.String(), "-test.fuzzminimizetime=10s",
			"-test.parallel=1", "-test.timeout=0", "-test.fuzzcachedir="+b.found(t))
		r.add(out)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		if err == nil && r.ran > before {
			idle = 0
			continue // until it has had all its time
		}
		if idle++; err == nil && idle < maxIdle {
			continue // all its time went by while it played what it knows already
		}
		if err == nil {
			return r, errNoTime
		}
		input := failing().FindSubmatch(out)
		if input == nil && bytes.Contains(out, []byte("context deadline exceeded")) && r.ran > before {
			continue // the time ran out while a worker was busy; Go's fuzzer calls that a failure now and then
		}
		if input == nil || !bytes.Contains(out, []byte("hung or terminated unexpectedly")) {
			return r, fmt.Errorf("it ended: %v\n%s", err, tail(out))
		}
		file := filepath.Join(b.home(t), filepath.FromSlash(string(input[1])))
		again, rerr := b.run(ctx, t, p, fmt.Sprintf("-test.run=^%s$/^%s$", t.name, filepath.Base(file)), fmt.Sprintf("-test.count=%d", replays), "-test.timeout=5m")
		if rerr != nil {
			return r, fmt.Errorf("%w\n%s%s", rerr, tail(out), tail(again))
		}
		if err := os.Remove(file); err != nil {
			return r, err
		}
	}
}

// run runs a program in the package's directory.
func (b *bench) run(ctx context.Context, t target, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.home(t)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = ctx.Err()
	}
	return out, err
}

// tail returns the last lines of what a program printed.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n") + "\n"
}
