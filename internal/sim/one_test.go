package sim

import (
	"log/slog"
	"os"
	"strconv"
	"testing"
)

// TestOne plays the seed in SIM_SEED and prints everything.
func TestOne(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("SIM_SEED"), 10, 64)
	if err != nil {
		t.Skip("nothing asked for: SIM_SEED names a seed to play aloud")
	}
	if r := Run(Options{Seed: seed, Out: os.Stdout, Log: os.Stdout, Trace: slog.LevelDebug}); len(r.Failures) > 0 {
		t.Fail()
	}
}
