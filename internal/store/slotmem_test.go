package store

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// aged is the segments of a disk without the disk: blocks are written at random,
// victims are chosen and emptied, places become free, as in a store.
type aged struct {
	s     *Store
	rng   *rand.Rand
	units uint16
	log   *segment
	at    uint16     // next slot of log
	where []identity // by address
	wrote int
	moved int
}

type identity struct {
	seg  uint32
	slot uint16
}

// newAged fills so many percent of what is usable on a disk of so many places
// with blocks of so many units.
func newAged(places uint32, percent int, units uint16) *aged {
	const segBlocks = maxSegmentBytes / blockSize
	s := &Store{space: newSpace(segBlocks, places), sb: superblock{places: places, segmentBytes: maxSegmentBytes}, ckptSeg: 1 << 31}
	a := &aged{s: s, rng: rand.New(rand.NewPCG(7, uint64(places))), units: units}
	blocks := int(places) * (100 - reservePercent) / 100 * segBlocks * percent / 100 * blockUnit / int(units)
	a.where = make([]identity, blocks)
	for addr := range a.where {
		a.write(addr)
	}
	return a
}

// write gives a block a new identity at the end of the log.
func (a *aged) write(addr int) {
	sp := a.s.space
	if a.log == nil || uint32(a.at)+uint32(a.units) > sp.segUnits() {
		if a.log != nil {
			a.log.open = false
		}
		for sp.freePlaces() <= int(sp.places)/20 {
			a.clean()
		}
		place, _ := sp.take()
		a.log, a.at = sp.open(place, classLog), 0
	}
	was := a.where[addr]
	sp.clear(was.seg, was.slot, a.units)
	a.where[addr] = identity{a.log.num, a.at}
	sp.mark(a.log.num, a.at, a.units)
	a.at += a.units
	a.wrote++
}

// clean empties one segment and makes what is empty free.
func (a *aged) clean() {
	s := a.s
	g := s.choose()
	items := s.space.residents(g)
	for len(items) > 0 {
		to, _ := s.target(s.destination(g))
		part, units := cutItems(&items, min(cleanChunk, int(s.space.segBlocks-to.pos))*blockUnit)
		n := (units + blockUnit - 1) / blockUnit
		pos := to.pos
		to.inherit(g, n)
		to.pos += uint32(n)
		s.relocate(g, part, to.num, uint16(pos)*blockUnit, slots{})
		a.moved += n * blockUnit
	}
	s.space.each(func(g *segment) { g.live.thin() })
	free := make(map[uint32]bool)
	s.space.each(func(g *segment) {
		free[g.num] = !g.open && g.place != noPlace && g.resident == 0
	})
	s.space.vacate(free)
}

// overwrite writes as many blocks as there are, times rounds, at random.
func (a *aged) overwrite(rounds int) {
	for range rounds * len(a.where) {
		a.write(a.rng.IntN(len(a.where)))
	}
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkExtent asks where blocks of an aged disk are, most of which were moved.
func BenchmarkExtent(b *testing.B) {
	a := newAged(32, 80, blockUnit)
	a.overwrite(1)
	for b.Loop() {
		x := a.where[a.rng.IntN(len(a.where))]
		if at, _, _ := a.s.space.extent(x.seg, x.slot, blockUnit); at == nil {
			b.Fatal("a block is nowhere")
		}
	}
}

// TestMemoryOfTheSlotDirectory ages a disk by uniform random overwrites, the worst
// for the slot directory: hardly two slots that lie behind one another live on
// together. What is known of segments grows with the disk, so what a block takes
// tells what it is for 1 TiB. HOLDFAST_PLACES is the size of the disk, in places of
// 16 MiB: 128 come close to what more would show.
func TestMemoryOfTheSlotDirectory(t *testing.T) {
	places, rounds, sizes := 32, 2, []uint16{blockUnit}
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_PLACES")); err == nil && n > 0 {
		places, rounds, sizes = n, 12, []uint16{blockUnit, blockUnit / 2}
	}
	for _, units := range sizes {
		before := heapBytes()
		a := newAged(uint32(places), 80, units)
		a.wrote, a.moved = 0, 0
		a.overwrite(rounds)
		a.s.space.old, a.s.space.laid = nil, nil // no more on a larger disk
		heap := float64(heapBytes() - before - uint64(len(a.where)*8))
		segs, runs := 0, 0
		a.s.space.each(func(g *segment) {
			segs++
			runs += g.moved.count()
		})
		var w catalogWriter
		w.segments(a.s, nil)
		blocks := float64(len(a.where))
		tib := float64(1<<20) / (float64(places) * maxSegmentBytes) // MiB for 1 TiB of disk
		t.Logf("%d blocks of %d bytes, written %d times: %.2f moved per written, %.2f segments known per place, %.2f runs a block; %.2f bytes a block, %.0f MiB for 1 TiB; in the catalog %.2f bytes a block, %.0f MiB",
			len(a.where), int(units)*unitSize, rounds+1, float64(a.moved)/float64(a.wrote)/float64(units), float64(segs)/float64(places), float64(runs)/blocks, heap/blocks, heap*tib, float64(len(w.b))/blocks, float64(len(w.b))*tib)
		if most := 2.5 * blocks * blockUnit / float64(units); heap > most {
			t.Errorf("the segments take %.0f bytes, at most %.0f were expected", heap, most)
		}
		runtime.KeepAlive(a)
	}
}
