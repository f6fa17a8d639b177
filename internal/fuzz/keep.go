package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// How much is kept of a target beyond what is there already.
const (
	maxFiles = 40
	maxBytes = 64 << 10
)

// reach is what an input reaches: the blocks of code that it runs, each with
// how often to the next power of two.
type reach map[string]struct{}

// input is one that fuzzing found.
type input struct {
	name  string
	size  int64
	reach reach
}

// keep copies inputs into the package's testdata that reach what its seeds and
// what is kept already do not, and returns how many are there then.
func (b *bench) keep(ctx context.Context, t target) (int, error) {
	kept, err := files(b.corpus(t))
	if err != nil {
		return 0, err
	}
	found, err := files(filepath.Join(b.found(t), t.name))
	if err != nil || len(found) == 0 {
		return len(kept), err
	}
	p, err := b.program(ctx, t, "-cover", "-covermode=count", "-coverpkg="+b.path+"/internal/"+t.pkg+"/...")
	if err != nil {
		return len(kept), err
	}
	known, err := b.reach(ctx, t, p, "^"+t.name+"$")
	if err != nil {
		return len(kept), err
	}
	var all []input
	for _, f := range found {
		if f.size > maxBytes/4 || slices.ContainsFunc(kept, func(k input) bool { return k.name == f.name }) {
			continue
		}
		if f.reach, err = b.measure(ctx, t, p, f); err != nil {
			return len(kept), err
		}
		all = append(all, f)
	}
	chosen := choose(all, known, maxFiles-len(kept), maxBytes-total(kept))
	return len(kept) + len(chosen), b.copy(t, chosen)
}

// files lists the inputs of a directory, which need not be there.
func files(dir string) (out []input, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, input{name: e.Name(), size: info.Size()})
	}
	return out, err
}

func total(in []input) (n int64) {
	for _, i := range in {
		n += i.size
	}
	return n
}

// choose takes inputs as long as one reaches something new: each time the one
// that reaches the most of it, the shortest of several.
func choose(all []input, known reach, n int, room int64) (chosen []input) {
	known = maps.Clone(known)
	for len(chosen) < n {
		best, most := -1, 0
		for i, in := range all {
			gain := 0
			for f := range in.reach {
				if _, ok := known[f]; !ok {
					gain++
				}
			}
			if in.size <= room && (gain > most || gain == most && gain > 0 && in.size < all[best].size) {
				best, most = i, gain
			}
		}
		if best < 0 {
			break
		}
		chosen = append(chosen, all[best])
		maps.Copy(known, all[best].reach)
		room -= all[best].size
		all = slices.Delete(slices.Clone(all), best, best+1)
	}
	return chosen
}

// measure plays one input alone: in an empty directory in which it is the only
// one of the corpus.
func (b *bench) measure(ctx context.Context, t target, program string, in input) (reach, error) {
	text, err := os.ReadFile(filepath.Join(b.found(t), t.name, in.name))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "input")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	corpus := filepath.Join(dir, "testdata", "fuzz", t.name)
	if err := os.MkdirAll(corpus, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(corpus, in.name), text, 0o644); err != nil {
		return nil, err
	}
	return b.reachIn(ctx, dir, program, "^"+t.name+"$/^"+in.name+"$")
}

// reach plays what is in the package already.
func (b *bench) reach(ctx context.Context, t target, program, run string) (reach, error) {
	return b.reachIn(ctx, b.home(t), program, run)
}

func (b *bench) reachIn(ctx context.Context, dir, program, run string) (reach, error) {
	profile, err := os.CreateTemp(b.dir, "cover")
	if err != nil {
		return nil, err
	}
	profile.Close()
	defer os.Remove(profile.Name())
	cmd := exec.CommandContext(ctx, program, "-test.run="+run, "-test.coverprofile="+profile.Name())
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, tail(out))
	}
	text, err := os.ReadFile(profile.Name())
	return parse(string(text)), err
}

// parse reads a profile of go test: lines of FILE:FROM,TO STATEMENTS COUNT.
func parse(profile string) reach {
	out := reach{}
	for line := range strings.Lines(profile) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 10, 64); err == nil && n > 0 {
			for i := range min(bits.Len64(n), 8) {
				out[f[0]+" "+strconv.Itoa(i)] = struct{}{}
			}
		}
	}
	return out
}

// copy puts inputs into the package's corpus.
func (b *bench) copy(t target, chosen []input) error {
	if len(chosen) == 0 {
		return nil
	}
	if err := os.MkdirAll(b.corpus(t), 0o755); err != nil {
		return err
	}
	for _, in := range chosen {
		text, err := os.ReadFile(filepath.Join(b.found(t), t.name, in.name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.corpus(t), in.name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
