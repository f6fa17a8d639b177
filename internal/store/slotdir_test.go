package store

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// someRuns are runs that a segment of so many blocks might have.
func someRuns(rng *rand.Rand, segUnits uint32) []run {
	var out []run
	dst := uint16(0)
	for slot := uint32(0); slot < segUnits; {
		slot += rng.Uint32N(3) * blockUnit
		if rng.IntN(8) == 0 {
			slot += rng.Uint32N(300)
		}
		n := 1 + rng.Uint32N(9)
		if rng.IntN(2) == 0 {
			n = blockUnit
		}
		if slot+n > segUnits {
			break
		}
		if rng.IntN(4) == 0 {
			dst = uint16(rng.Uint32N(segUnits))
		}
		out = append(out, run{seg: rng.Uint32N(3), slot: uint16(slot), dst: dst, n: uint16(n)})
		slot, dst = slot+n, dst+uint16(n)
	}
	return out
}

func TestTheSlotDirectoryIsReadAsItWasWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, segUnits := range []uint32{512, 32768} {
		for range 60 {
			runs := someRuns(rng, segUnits)
			w := &catalogWriter{}
			w.moved(pack(runs))
			c := &catalogReader{b: w.b}
			got := slices.Collect(c.moved(segUnits).runs())
			if c.err != nil || !slices.Equal(got, runs) || len(c.b) != 0 {
				t.Fatalf("%v became %v: %v, %d bytes left", runs, got, c.err, len(c.b))
			}
		}
	}
}

// Every slot is looked for among runs, with marks between them and without.
func TestASlotIsFoundInTheDirectory(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, segUnits := range []uint32{100, 512, 32768} {
		runs := someRuns(rng, segUnits)
		d, i := pack(runs), 0
		for slot := range segUnits {
			for i < len(runs) && runs[i].end() <= slot {
				i++
			}
			r, ok, next := d.find(uint16(slot))
			switch {
			case i == len(runs):
				if ok || next != math.MaxUint16 {
					t.Fatalf("slot %d is behind all runs: %v, %v, %d", slot, r, ok, next)
				}
			case uint32(runs[i].slot) > slot:
				if ok || next != runs[i].slot {
					t.Fatalf("slot %d is before %v: %v, %v, %d", slot, runs[i], r, ok, next)
				}
			case !ok || r != runs[i]:
				t.Fatalf("slot %d is in %v: %v, %v, %d", slot, runs[i], r, ok, next)
			}
		}
	}
}

// What is moved again is cut out of the runs that say where it was.
func TestRunsAreLaidOverRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const segUnits = 800
	type at struct {
		seg uint32
		dst uint16
	}
	lay := func(where map[uint16]at, runs []run) {
		for _, r := range runs {
			for i := range r.n {
				a := at{r.seg, r.dst + i}
				if r.seg == lostSegment {
					a.dst = 0
				}
				where[r.slot+i] = a
			}
		}
	}
	for range 500 {
		old, add := someRuns(rng, segUnits), someRuns(rng, segUnits)
		add = slices.DeleteFunc(add, func(run) bool { return rng.IntN(3) > 0 })
		want, got := map[uint16]at{}, map[uint16]at{}
		lay(want, old)
		lay(want, add)
		laid := setRuns(nil, old, add)
		lay(got, laid)
		if len(want) != len(got) {
			t.Fatalf("%v over %v: %v", add, old, laid)
		}
		for slot, a := range want {
			if got[slot] != a {
				t.Fatalf("%v over %v: slot %d is at %v, not %v", add, old, slot, got[slot], a)
			}
		}
		for i := 1; i < len(laid); i++ {
			if uint32(laid[i].slot) < laid[i-1].end() {
				t.Fatalf("out of order: %v", laid)
			}
		}
	}
}

func FuzzSlotDirectory(f *testing.F) {
	w := &catalogWriter{}
	w.moved(pack(someRuns(rand.New(rand.NewPCG(1, 2)), 512)))
	f.Add(w.b)
	f.Add([]byte{1, 0, 0, 0, 0xf0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &catalogReader{b: b}
		runs := c.moved(512)
		if c.err != nil {
			return
		}
		again := &catalogWriter{}
		again.moved(runs)
		c = &catalogReader{b: again.b}
		if got := c.moved(512); c.err != nil || !bytes.Equal(got, runs) {
			t.Fatalf("%v became %v: %v", runs, got, c.err)
		}
	})
}
