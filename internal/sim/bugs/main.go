// Command bugs plants known bugs in the product, one at a time, and has the
// simulator look for each. A bug that it does not find means that a fault is
// not played or a check is missing.
//
// The source is not touched: the go command reads the changed files in place of
// the real ones (-overlay). What came of each bug is kept in a file, so that a
// later hunt goes on after the last seed that was tried, and the page
// docs/PLANTED_BUGS.md is written from it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/sim"
)

// hunt is what was asked for on the command line.
type hunt struct {
	seeds uint64 // in all, of each bug
	only  string
	left  bool // only bugs that were not found
	anew  bool
	jobs  int
	file  string
	page  string
	tries int // runs of the reducer, of each bug that was found; 0: it is not reduced
}

func main() {
	var h hunt
	flag.Uint64Var(&h.seeds, "seeds", 100, "seeds to look for each bug in, those included that were tried before in the same sources")
	flag.StringVar(&h.only, "only", "", "names of bugs, with commas between; all if empty")
	flag.BoolVar(&h.left, "left", false, "leave out the bugs that were found, in whatever sources")
	flag.BoolVar(&h.anew, "anew", false, "begin with seed 1 though seeds were tried in the same sources")
	flag.IntVar(&h.jobs, "jobs", runtime.NumCPU(), "seeds at once")
	flag.StringVar(&h.file, "results", "docs/campaigns/"+sim.BugsFile, "file of what came of every bug; empty: do not keep it")
	flag.StringVar(&h.page, "page", "docs/PLANTED_BUGS.md", "page that shows it; empty: do not write it")
	flag.IntVar(&h.tries, "reduce", 0, "have the reducer make the seed smaller that found each bug, in up to so many runs; with -play that seed")
	write := flag.Bool("write", false, "write the page only")
	crashes := flag.Int("crash-points", 0, "plant bugs of the store instead, and replay up to so many crash points of each (ADR 0083)")
	crashFile := flag.String("crash-results", "docs/campaigns/crash-bugs.json", "file of what came of those; empty: do not keep it")
	play := flag.Uint64("play", 0, "play one seed and exit with status 1 if it finds something")
	flag.Parse()
	if *play != 0 {
		os.Exit(h.playOne(*play))
	}
	err := error(nil)
	switch {
	case *crashes > 0:
		err = replay(*crashes, *crashFile)
	case *write:
		err = h.keep(nil)
	default:
		err = h.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bugs:", err)
		os.Exit(1)
	}
}

// A seed of a hunt has fewer operations of clients than usual, and more of what comes
// after them, which is aimed at what one of these bugs needs.
const (
	freeSteps  = 1500
	situations = 4
)

// playOne plays a seed and prints what it finds.
func (h *hunt) playOne(seed uint64) int {
	debug.SetGCPercent(400) // a world's garbage is short-lived
	if h.tries > 0 {
		return reduceOne(seed, h.tries)
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: patience, Max: patience + 10})
	r := sim.Run(sim.Options{Seed: seed, Steps: freeSteps, Situations: situations})
	for _, f := range r.Failures {
		fmt.Println(f)
	}
	if len(r.Failures) > 0 {
		return 1
	}
	return 0
}

// run plants the bugs, one after the other.
func (h *hunt) run() error {
	dir, err := os.MkdirTemp("", "holdfast-bugs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	chosen, err := choose(h.only)
	if err != nil {
		return err
	}
	world, err := sim.HashSources(os.DirFS("."), append(sim.ProtocolPackages(), sim.SimulatorPackages()...))
	if err != nil {
		return fmt.Errorf("run it in the root of the source: %w", err)
	}
	commit, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	before, err := sim.PlantedBugs(h.file)
	if err != nil {
		return err
	}
	missed := 0
	for _, b := range chosen {
		was := resultOf(before, b.name)
		known := !h.anew && was.World == world && was.Seed != 0
		if h.left && was.Seed != 0 || known && h.tries == 0 || !known && !h.anew && was.World == world && was.Tried >= h.seeds {
			continue
		}
		r := result{Bug: b.name, Commit: strings.TrimSpace(string(commit)), World: world}
		if !h.anew && was.World == world {
			r.Tried = was.Tried
		}
		if known {
			r = was
		}
		program, err := plant(dir, &b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		begun := time.Now()
		look(program, &r, h.seeds, h.jobs)
		if h.tries > 0 && r.Seed != 0 {
			if r.Reduced, err = reduced(program, r.Seed, h.tries); err != nil {
				fmt.Fprintf(os.Stderr, "bugs: %s: seed %d was not reduced: %v\n", b.name, r.Seed, err)
			}
		}
		_ = os.Remove(program)
		if r.Seed == 0 {
			missed++
		}
		fmt.Printf("%-40s %s, after %.0f s\n", b.name, told(&r), time.Since(begun).Seconds())
		if err := h.keep(&r); err != nil {
			return err
		}
	}
	if missed > 0 {
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
