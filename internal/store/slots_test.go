package store

import (
	"math/rand/v2"
	"testing"
)

// A set of slots is compared with a plain one through random changes, some of
// whole blocks, some not.
func TestSlotsAgreeWithAPlainSet(t *testing.T) {
	const segBlocks = 64
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		whole := seed%3 == 0
		var set slots
		var plain [segBlocks * blockUnit]bool
		for range 200 {
			slot, n := rng.IntN(len(plain)), 1+rng.IntN(2*blockUnit)
			if whole {
				slot, n = slot/blockUnit*blockUnit, (n+blockUnit-1)/blockUnit*blockUnit
			}
			n = min(n, len(plain)-slot)
			if rng.IntN(5) == 0 {
				set.thin()
			}
			in := rng.IntN(2+int(seed%5)) == 0 // some become thin
			if in {
				set.add(uint16(slot), uint16(n), segBlocks)
			} else {
				set.remove(uint16(slot), uint16(n), segBlocks)
			}
			for i := range n {
				plain[slot+i] = in
			}
		}
		if whole && set.fine {
			t.Errorf("seed %d: a bit per unit: %v", seed, set.fine)
		}
		count := 0
		for i, in := range plain {
			if set.has(uint16(i)) != in {
				t.Fatalf("seed %d: slot %d: %v", seed, i, !in)
			}
			if in {
				count++
			}
			n := 1 + rng.IntN(len(plain)-i)
			k := 1
			for k < n && plain[i+k] == in {
				k++
			}
			if got, is := set.stretch(uint16(i), uint16(n)); int(got) != k || is != in {
				t.Fatalf("seed %d: stretch of %d from %d: %d, %v instead of %d, %v", seed, n, i, got, is, k, in)
			}
		}
		if got := len(slotsOf(&set)); got != count {
			t.Errorf("seed %d: %d slots, runs of %d", seed, count, got)
		}
	}
}

// A block that lies in two places counts where its parts lie.
func TestABlockThatTheCleanerHasCut(t *testing.T) {
	sp := newSpace(64, 8)
	g, a, b := sp.open(0, classLog), sp.open(1, classCold), sp.open(2, classCold)
	sp.mark(g.num, 13, 9)
	sp.move(g.num, g.num, []run{{seg: a.num, slot: 13, dst: 100, n: 4}})
	sp.move(g.num, g.num, []run{{seg: b.num, slot: 17, dst: 8, n: 5}})
	if g.resident != 0 || a.resident != 4 || b.resident != 5 || g.nlive != 9 {
		t.Fatalf("resident %d, %d, %d; %d live", g.resident, a.resident, b.resident, g.nlive)
	}
	at, unit, n := sp.extent(g.num, 13, 9)
	if at != a || unit != 100 || n != 4 {
		t.Fatalf("first part: %v at %d, %d units", at, unit, n)
	}
	if at, unit, n = sp.extent(g.num, 17, 5); at != b || unit != 8 || n != 5 {
		t.Fatalf("second part: %v at %d, %d units", at, unit, n)
	}
	if items := sp.residents(b); len(items) != 1 || items[0] != (item{g.num, 17, 8, 5}) {
		t.Fatalf("residents %+v", items)
	}
	sp.clear(g.num, 13, 9)
	if a.resident != 0 || b.resident != 0 || sp.live != 0 || g.moved != nil {
		t.Fatalf("resident %d, %d; %d live; moved %v", a.resident, b.resident, sp.live, g.moved)
	}
}
