// Command bugs plants known bugs in the product, one at a time, and has the
// simulator look for each. A bug that it does not find means that a fault is
// not played or a check is missing.
//
// The source is not touched: the go command reads the changed files in place of
// the real ones (-overlay).
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/sim"
)

func main() {
	seeds := flag.Int("seeds", 100, "seeds to look for each bug in")
	first := flag.Uint64("first", 1, "the first of them")
	only := flag.String("only", "", "names of bugs, with commas between; all if empty")
	smoke := flag.Bool("smoke", false, "exit with status 1 unless every bug is found; those known to be hard are left out")
	play := flag.Uint64("play", 0, "play one seed and exit with status 1 if it finds something")
	flag.Parse()
	if *play != 0 {
		os.Exit(playOne(*play))
	}
	if err := campaign(*first, *seeds, *only, *smoke); err != nil {
		fmt.Fprintln(os.Stderr, "bugs:", err)
		os.Exit(1)
	}
}

// playOne plays a seed and prints its first finding.
func playOne(seed uint64) int {
	debug.SetGCPercent(400) // a world's garbage is short-lived
	r := sim.Run(sim.Options{Seed: seed})
	for _, f := range r.Failures {
		fmt.Println(f)
		return 1
	}
	return 0
}

// campaign plants the bugs, one after the other.
func campaign(first uint64, seeds int, only string, smoke bool) error {
	dir, err := os.MkdirTemp("", "holdfast-bugs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	missed := 0
	for _, b := range chosen {
		if smoke && b.hard {
			continue
		}
		program, err := plant(dir, &b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		begun := time.Now()
		f := hunt(program, first, seeds)
		switch {
		case f.seed != 0:
			fmt.Printf("%-38s found by seed %d (seed number %d) after %.0f s: %s\n", b.name, f.seed, f.seed-first+1, time.Since(begun).Seconds(), f.what)
		case b.hard:
			fmt.Printf("%-38s NOT FOUND in %d seeds; %s\n", b.name, seeds, b.test)
		default:
			missed++
			fmt.Printf("%-38s NOT FOUND in %d seeds\n", b.name, seeds)
		}
	}
	if missed > 0 && smoke {
		return fmt.Errorf("%d bugs were not found", missed)
	}
	return nil
}

// choose returns the bugs of the names given with commas between; all of none.
func choose(names string) ([]bug, error) {
	if names == "" {
		return bugs(), nil
	}
	var chosen []bug
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(bugs(), func(b bug) bool { return b.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %q: there is no such bug, see internal/sim/bugs/table.go", name)
		}
		chosen = append(chosen, bugs()[i])
	}
	return chosen, nil
}

// plant builds this program with a bug in it.
func plant(dir string, b *bug) (program string, err error) {
	texts := make(map[string]string)
	for _, e := range b.edits {
		if _, ok := texts[e.file]; !ok {
			t, err := os.ReadFile(e.file)
			if err != nil {
				return "", fmt.Errorf("run it in the root of the source: %w", err)
			}
			texts[e.file] = string(t)
		}
		if n := strings.Count(texts[e.file], e.old); n != 1 {
			return "", fmt.Errorf("%s has %d times, instead of once: %q", e.file, n, e.old)
		}
		texts[e.file] = strings.Replace(texts[e.file], e.old, e.new, 1)
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for file, text := range texts {
		real, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		planted := filepath.Join(dir, b.name+"-"+filepath.Base(file))
		if err := os.WriteFile(planted, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[real] = planted
	}
	o, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, b.name+".json")
	if err := os.WriteFile(list, o, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, b.name)
	if out, err := exec.Command("go", "build", "-overlay", list, "-o", program, "./internal/sim/bugs").CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not build: %s", out)
	}
	return program, nil
}

// finding is the first seed that found something; seed 0: none did.
type finding struct {
	seed uint64
	what string
}

// patience is how long a seed may take, in which it takes a second or two; one
// that takes longer spins.
const patience = time.Minute

// hunt plays seeds, as many at a time as there are processors, until one finds
// something. The first seed in order that did is told.
func hunt(program string, first uint64, seeds int) finding {
	width := runtime.NumCPU()
	for done := 0; done < seeds; done += width {
		found := make(chan finding, width)
		n := min(width, seeds-done)
		for i := range n {
			go func() { found <- try(program, first+uint64(done+i)) }()
		}
		var best finding
		for range n {
			if f := <-found; f.seed != 0 && (best.seed == 0 || f.seed < best.seed) {
				best = f
			}
		}
		if best.seed != 0 {
			return best
		}
	}
	return finding{}
}

// try plays one seed in a process of its own, since a bug may panic or spin.
func try(program string, seed uint64) finding {
	var out bytes.Buffer
	c := exec.Command(program, "-play", strconv.FormatUint(seed, 10))
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return finding{seed, "it cannot be started: " + err.Error()}
	}
	spins := time.AfterFunc(patience, func() { c.Process.Kill() })
	err := c.Wait()
	if !spins.Stop() {
		return finding{seed, "it does not end"}
	}
	if err == nil {
		return finding{}
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	return finding{seed, line}
}
