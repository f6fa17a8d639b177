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
	free := make(map[uint32]bool)
	s.space.each(func(g *segment) {
		if free[g.num] = !g.open && g.place != noPlace && g.resident == 0; free[g.num] {
			s.space.forsake(g)
		}
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

func TestMemoryOfSegments(t *testing.T) {
	places, rounds := 48, 4
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_PLACES")); err == nil && n > 0 {
		places, rounds = n, 12
	}
	for _, units := range []uint16{8, 4, 3} {
		before := heapBytes()
		a := newAged(uint32(places), 80, units)
		a.wrote, a.moved = 0, 0
		a.overwrite(rounds)
		heap := heapBytes() - before - uint64(len(a.where)*8)
		sp := a.s.space
		count, homes := 0, 0
		sp.each(func(g *segment) {
			homes++
			count += g.moved.count()
		})
		disk := float64(places) * maxSegmentBytes
		t.Logf("%d blocks of %d units: %.2f moved per written; %d segments known, %.2f per place; %.2f bytes a block, %.0f MiB for 1 TiB; runs %d",
			len(a.where), units, float64(a.moved)/float64(a.wrote)/float64(units), homes, float64(homes)/float64(places), float64(heap)/float64(len(a.where)), float64(heap)/disk*(1<<20), count)
		runtime.KeepAlive(a)
	}
}
