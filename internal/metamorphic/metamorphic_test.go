package metamorphic

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
)

// TestMain trades memory for time, as the simulator's does.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// config is what a history must not know of.
type config struct {
	copies      int
	compression string // off, fast, auto
	encrypt     bool
	tiny        bool // the maps have room for three pages
	trouble     string
}

func (c config) String() string {
	seal, maps := "clear", "roomy"
	if c.encrypt {
		seal = "sealed"
	}
	if c.tiny {
		maps = "tiny"
	}
	return fmt.Sprintf("%d-%s-%s-%s-%s", c.copies, c.compression, seal, maps, c.trouble)
}

// configs are all combinations.
func configs() (out []config) {
	for _, trouble := range troubles() {
		for copies := 1; copies <= 3; copies++ {
			for _, compression := range []string{"off", "fast", "auto"} {
				for i := range 4 {
					out = append(out, config{copies, compression, i&1 != 0, i&2 != 0, trouble})
				}
			}
		}
	}
	return out
}

// choice is a small part of them that has each value of each kind, another for
// each seed.
func choice(seed uint64) (out []config) {
	for i, trouble := range troubles() {
		k := int(seed) + i
		out = append(out, config{1 + k%3, []string{"off", "fast", "auto"}[(k/3+i)%3], (k/2)%2 == 0, k%2 == 0, trouble})
	}
	return out
}

// smoke is how many histories an ordinary test plays, each in a choice of
// configurations; METAMORPHIC_SEEDS plays that many in all.
const smoke = 2

func TestHistories(t *testing.T) {
	seeds, all := smoke, false
	if v, err := strconv.Atoi(os.Getenv("METAMORPHIC_SEEDS")); err == nil {
		seeds, all = v, true
	}
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		cases := choice(seed)
		if all {
			cases = configs()
		}
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			compare(t, newHistory(seed), cases, io.Discard, nil)
		})
	}
}

// TestOne plays the history of METAMORPHIC_SEED aloud, in all configurations or
// those that -run names.
func TestOne(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("METAMORPHIC_SEED"), 10, 64)
	if err != nil {
		t.Skip("nothing asked for: METAMORPHIC_SEED names a history to play aloud")
	}
	var log io.Writer
	if os.Getenv("METAMORPHIC_LOG") != "" {
		log = os.Stdout
	}
	compare(t, newHistory(seed), configs(), os.Stdout, log)
}

// compare plays a history in several configurations, which must tell the same.
func compare(t *testing.T, h *history, cases []config, out, log io.Writer) {
	var mu sync.Mutex
	var first []string
	var firstOf config
	for _, cfg := range cases {
		t.Run(cfg.String(), func(t *testing.T) {
			if out == io.Discard {
				t.Parallel()
			}
			var told bytes.Buffer
			wrong, diffs := play(h, cfg, io.MultiWriter(&told, out), log)
			again := fmt.Sprintf("METAMORPHIC_SEED=%d go test -count=1 -v -run 'TestOne/^%v$' ./internal/metamorphic", h.seed, cfg)
			if len(wrong) > 0 {
				t.Fatalf("%s\nagain with: %s", &told, again)
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first, firstOf = diffs, cfg
			}
			for i := range first {
				if diffs[i] != first[i] {
					t.Fatalf("%v tells\n%s\n%v tells\n%s\nagain with: %s", firstOf, first[i], cfg, diffs[i], again)
				}
			}
		})
	}
}

// TestAWrongByteIsSeen: a comparison that cannot fail says nothing.
func TestAWrongByteIsSeen(t *testing.T) {
	h := newHistory(1)
	cfg := config{copies: 2, compression: "auto", encrypt: true, trouble: calm}
	h.steps = h.steps[:2]
	v := h.steps[1].want[firstVolume]
	c := cell(v.head[0].bytes())
	c[7] ^= 1
	v.head[0] = &c
	if wrong, _ := play(h, cfg, io.Discard, nil); len(wrong) == 0 {
		t.Error("a head that is not what the model says was not noticed")
	}
}

// TestPastCases plays what once found something.
func TestPastCases(t *testing.T) {
	for _, seed := range []uint64{10, 11} {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			compare(t, newHistory(seed), []config{{2, "off", false, false, diskloss}}, io.Discard, nil)
		})
	}
}
