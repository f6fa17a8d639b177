package store

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// noPlace stands for a segment that holds nothing any more, and for no place.
const noPlace = ^uint32(0)

// class says what a segment was opened for.
type class uint8

const (
	classLog  class = 1 // batches of records, as they came
	classCold class = 2 // blocks that the cleaner moved
	classMeta class = 3 // pages of block maps
)

// segment is one logical segment: an identity (its ever-rising number) that map
// entries use together with a slot, and, until the cleaner has emptied it, a
// place on the disk. A slot is a block's position in the segment it was first
// written to; moved says where blocks went that live elsewhere now.
type segment struct {
	num      uint32
	place    uint32
	class    class
	open     bool     // still being written
	pos      uint32   // open cold and meta segments: next free block
	live     []uint64 // bit per slot: something refers to the block of this identity
	nlive    int
	moved    []run // by slot
	guests   []run // identities of other segments that were moved here; runs name the home
	resident int   // live blocks in this place, guests included
	readers  int   // device reads under way in this place
}

// run is n consecutive slots that lie in consecutive blocks elsewhere. In
// segment.moved: slots slot… of this segment are at block dst… of segment seg.
// In segment.guests: slots slot… of segment seg are at block dst… here.
type run struct {
	seg  uint32
	slot uint16
	dst  uint16
	n    uint16
}

// lostSegment as a run's target says that the blocks could not be read when
// they had to be moved.
const lostSegment = 0

// space is the segments of a disk and its free places. Under the store's lock.
type space struct {
	segBlocks uint32
	places    uint32
	segs      map[uint32]*segment
	order     []uint32 // numbers of segs, ascending; may hold gone ones
	next      uint32   // next segment number
	free      []uint32 // places that were written before and hold nothing
	fresh     []uint32 // places above that are zeroed and were never used
	virgin    uint32   // places from here on were never written
	live      int64    // live blocks
}

func newSpace(segBlocks, places uint32) *space {
	return &space{segBlocks: segBlocks, places: places, segs: make(map[uint32]*segment), next: 1}
}

// freePlaces counts the places that can be taken.
func (sp *space) freePlaces() int {
	return len(sp.free) + len(sp.fresh) + int(sp.places-sp.virgin)
}

// take gives out a place, one that was written before if possible.
func (sp *space) take() (uint32, bool) {
	switch {
	case len(sp.free) > 0:
		p := sp.free[0]
		sp.free = sp.free[1:]
		return p, true
	case len(sp.fresh) > 0:
		p := sp.fresh[0]
		sp.fresh = sp.fresh[1:]
		return p, true
	case sp.virgin < sp.places:
		sp.virgin++
		return sp.virgin - 1, true
	}
	return noPlace, false
}

// open makes a new segment on a place.
func (sp *space) open(place uint32, c class) *segment {
	g := &segment{num: sp.next, place: place, class: c, open: true, live: make([]uint64, (sp.segBlocks+63)/64)}
	sp.next++
	sp.add(g)
	return g
}

// adopt takes in a log segment that recovery has found.
func (sp *space) adopt(num, place uint32) *segment {
	g := &segment{num: num, place: place, class: classLog, live: make([]uint64, (sp.segBlocks+63)/64)}
	sp.add(g)
	sp.next = max(sp.next, num+1)
	return g
}

func (sp *space) add(g *segment) {
	sp.segs[g.num] = g
	if k := len(sp.order); k > 0 && sp.order[k-1] > g.num {
		i, _ := slices.BinarySearch(sp.order, g.num)
		sp.order = slices.Insert(sp.order, i, g.num)
		return
	}
	sp.order = append(sp.order, g.num)
}

// each calls f for every segment in the order of their numbers.
func (sp *space) each(f func(*segment)) {
	keep := sp.order[:0]
	for _, n := range sp.order {
		if g := sp.segs[n]; g != nil {
			keep = append(keep, n)
			f(g)
		}
	}
	sp.order = keep
}

func (g *segment) isLive(slot uint16) bool { return g.live[slot/64]&(1<<(slot%64)) != 0 }

// locate says where the block of an identity lies now; nil if nowhere.
func (sp *space) locate(num uint32, slot uint16) (at *segment, block uint16) {
	g := sp.segs[num]
	if g == nil || uint32(slot) >= sp.segBlocks {
		return nil, 0
	}
	if r := findRun(g.moved, slot); r != nil {
		if r.seg == lostSegment {
			return nil, 0
		}
		h := sp.segs[r.seg]
		if h == nil || h.place == noPlace {
			return nil, 0
		}
		return h, r.dst + (slot - r.slot)
	}
	if g.place == noPlace {
		return nil, 0
	}
	return g, slot
}

// findRun finds the run of a sorted list that holds a slot.
func findRun(runs []run, slot uint16) *run {
	i, ok := slices.BinarySearchFunc(runs, slot, func(r run, s uint16) int { return cmp.Compare(r.slot, s) })
	if !ok {
		i--
	}
	if i < 0 || slot-runs[i].slot >= runs[i].n {
		return nil
	}
	return &runs[i]
}

// mark makes a block live. It may be so already.
func (sp *space) mark(num uint32, slot uint16) {
	g := sp.segs[num]
	if g == nil || uint32(slot) >= sp.segBlocks || g.isLive(slot) {
		return
	}
	g.live[slot/64] |= 1 << (slot % 64)
	g.nlive++
	sp.live++
	if at, _ := sp.locate(num, slot); at != nil {
		at.resident++
	}
}

// clear makes a block dead. Identities are never used twice, so clearing a dead
// one is harmless.
func (sp *space) clear(num uint32, slot uint16) {
	g := sp.segs[num]
	if g == nil || uint32(slot) >= sp.segBlocks || !g.isLive(slot) {
		return
	}
	if at, _ := sp.locate(num, slot); at != nil {
		at.resident--
	}
	g.live[slot/64] &^= 1 << (slot % 64)
	g.nlive--
	sp.live--
	if g.nlive == 0 {
		g.moved = nil
		if g.place == noPlace {
			delete(sp.segs, num)
		}
	}
}

// move notes that n live slots of an identity lie at block dst of segment to
// now (lostSegment: nowhere).
func (sp *space) move(num uint32, slot, n uint16, to uint32, dst uint16) {
	g := sp.segs[num]
	if g == nil {
		return
	}
	for i := range n {
		if !g.isLive(slot + i) {
			continue
		}
		if at, _ := sp.locate(num, slot+i); at != nil {
			at.resident--
		}
		if h := sp.segs[to]; h != nil && to != lostSegment {
			h.resident++
		}
	}
	g.moved = setRun(g.moved, run{seg: to, slot: slot, dst: dst, n: n})
	if h := sp.segs[to]; h != nil {
		h.guests = append(h.guests, run{seg: num, slot: slot, dst: dst, n: n})
	}
}

// setRun puts r into a sorted list of runs, over what was there, and joins it
// with its neighbour if it continues it.
func setRun(runs []run, r run) []run {
	out := make([]run, 0, len(runs)+2)
	placed := false
	put := func(x run) {
		if k := len(out) - 1; k >= 0 && out[k].seg == x.seg && out[k].slot+out[k].n == x.slot && (x.seg == lostSegment || out[k].dst+out[k].n == x.dst) {
			out[k].n += x.n
			return
		}
		out = append(out, x)
	}
	end := uint32(r.slot) + uint32(r.n)
	for _, x := range runs {
		xend := uint32(x.slot) + uint32(x.n)
		if xend <= uint32(r.slot) {
			put(x)
			continue
		}
		if x.slot < r.slot {
			put(run{x.seg, x.slot, x.dst, r.slot - x.slot})
		}
		if !placed {
			put(r)
			placed = true
		}
		if xend > end {
			skip := uint16(0)
			if end > uint32(x.slot) {
				skip = uint16(end - uint32(x.slot))
			}
			put(run{x.seg, x.slot + skip, x.dst + skip, x.n - skip})
		}
	}
	if !placed {
		put(r)
	}
	return out
}

// prune drops the runs of a segment's directory that hold nothing live: their
// homes may be gone.
func (g *segment) prune() {
	g.moved = slices.DeleteFunc(g.moved, func(r run) bool {
		for i := range r.n {
			if g.isLive(r.slot + i) {
				return false
			}
		}
		return true
	})
}

// recount computes resident counts and guests from scratch, after loading.
func (sp *space) recount() error {
	sp.live = 0
	for _, g := range sp.segs {
		g.resident, g.guests, g.nlive = 0, nil, 0
	}
	var err error
	sp.each(func(g *segment) {
		for _, r := range g.moved {
			h := sp.segs[r.seg]
			if r.seg != lostSegment && (h == nil || h.place == noPlace || uint32(r.dst)+uint32(r.n) > sp.segBlocks) {
				err = holdfast.Errorf(holdfast.Corrupt, "slot directory of segment %d names segment %d, which is not there", g.num, r.seg)
				return
			}
			if h != nil {
				h.guests = append(h.guests, run{seg: g.num, slot: r.slot, dst: r.dst, n: r.n})
			}
		}
		for w, x := range g.live {
			for ; x != 0; x &= x - 1 {
				slot := uint16(w*64 + bits.TrailingZeros64(x))
				g.nlive++
				sp.live++
				if at, _ := sp.locate(g.num, slot); at != nil {
					at.resident++
				}
			}
		}
	})
	return err
}

// slotSet is a set of identities, a bitmap per segment.
type slotSet map[uint32][]uint64

func (ss slotSet) add(num uint32, slot uint16, segBlocks uint32) {
	b := ss[num]
	if b == nil {
		b = make([]uint64, (segBlocks+63)/64)
		ss[num] = b
	}
	b[slot/64] |= 1 << (slot % 64)
}

func (ss slotSet) has(num uint32, slot uint16) bool {
	b := ss[num]
	return b != nil && b[slot/64]&(1<<(slot%64)) != 0
}

func (ss slotSet) remove(num uint32, slot uint16) {
	if b := ss[num]; b != nil {
		b[slot/64] &^= 1 << (slot % 64)
	}
}

// each calls f for every identity, in order.
func (ss slotSet) each(f func(num uint32, slot uint16)) {
	nums := make([]uint32, 0, len(ss))
	for n := range ss {
		nums = append(nums, n)
	}
	slices.Sort(nums)
	for _, n := range nums {
		for w, x := range ss[n] {
			for ; x != 0; x &= x - 1 {
				f(n, uint16(w*64+bits.TrailingZeros64(x)))
			}
		}
	}
}
