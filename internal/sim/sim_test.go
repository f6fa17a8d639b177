package sim

import (
	"bytes"
	"log/slog"
	"os"
	"strconv"
	"testing"
)

// seeds is how many seeds a plain test run plays; SIM_SEEDS overrides it.
const seeds = 40

func TestSeeds(t *testing.T) {
	n := seeds
	if v, err := strconv.Atoi(os.Getenv("SIM_SEEDS")); err == nil {
		n = v
	}
	for seed := 1; seed <= n; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o := Options{Seed: uint64(seed), Out: &out}
			if os.Getenv("SIM_LOG") != "" {
				o.Log, o.Trace = &out, slog.LevelDebug
			}
			if r := Run(o); len(r.Failures) > 0 {
				t.Errorf("%s", out.String())
			}
		})
	}
}

func TestSameSeedSameHistory(t *testing.T) {
	for seed := range uint64(5) {
		var a, b bytes.Buffer
		ra, rb := Run(Options{Seed: 1000 + seed, Out: &a}), Run(Options{Seed: 1000 + seed, Out: &b})
		if ra.Hash != rb.Hash || a.String() != b.String() {
			t.Errorf("seed %d gave two histories: %016x and %016x", 1000+seed, ra.Hash, rb.Hash)
		}
	}
}
