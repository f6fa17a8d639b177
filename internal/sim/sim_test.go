package sim

import (
	"bytes"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestMain trades memory for time: a world's garbage is short-lived.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// seeds is how many seeds a plain test run plays; SIM_SEEDS overrides it, as
// `make test` does.
const seeds = 40

func TestSeeds(t *testing.T) {
	n := seeds
	if v, err := strconv.Atoi(os.Getenv("SIM_SEEDS")); err == nil {
		n = v
	}
	play := pastSeeds(t)
	for seed := range n {
		play = append(play, uint64(seed+1))
	}
	slices.Sort(play)
	for _, seed := range slices.Compact(play) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o := Options{Seed: seed, Out: &out}
			if os.Getenv("SIM_LOG") != "" {
				o.Log, o.Trace = &out, slog.LevelDebug
			}
			if r := Run(o); len(r.Failures) > 0 {
				t.Errorf("%s", out.String())
			}
		})
	}
}

// pastSeeds are the seeds that once found something.
func pastSeeds(t *testing.T) (seeds []uint64) {
	b, err := os.ReadFile("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		seed, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			t.Fatalf("testdata/seeds.txt: %q is no seed", f[0])
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

// Nothing of the Go scheduler gets into a history: neither how many processors
// there are nor what else runs.
func TestSameSeedSameHistory(t *testing.T) {
	for seed := uint64(1000); seed < 1003; seed++ {
		var a, b, c bytes.Buffer
		before := runtime.GOMAXPROCS(1)
		ra := Run(Options{Seed: seed, Out: &a})
		runtime.GOMAXPROCS(max(4, before))
		var beside sync.WaitGroup
		var rc Result
		beside.Go(func() { rc = Run(Options{Seed: seed, Out: &c}) })
		rb := Run(Options{Seed: seed, Out: &b})
		beside.Wait()
		runtime.GOMAXPROCS(before)
		if ra.Hash != rb.Hash || ra.Hash != rc.Hash || a.String() != b.String() || a.String() != c.String() {
			t.Errorf("seed %d gave several histories: %016x, %016x and %016x", seed, ra.Hash, rb.Hash, rc.Hash)
		}
	}
}
