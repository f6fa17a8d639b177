package store

import (
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
// place on the disk. A slot is a unit's position in the segment that its block
// was first written to, a block the slots of its units; moved says where units
// went that live elsewhere now. The parts of a block may lie apart.
type segment struct {
	num      uint32
	place    uint32
	class    class
	open     bool   // still being written
	pos      uint32 // open cold and meta segments: next free block
	live     slots  // something refers to the unit of this identity
	nlive    int
	moved    directory
	guests   []uint32 // segments of which slots were moved here; some may be named twice, or have none here any more
	resident int      // live units in this place, guests included
	readers  int      // device reads under way in this place
	died     uint64   // when blocks here died of late, by space.marked
}

// deathsOfLate is how many of a segment's last deaths its died is about.
const deathsOfLate = 16

// run is n consecutive slots that lie in consecutive units elsewhere: slots
// slot… of a segment are at unit dst… of segment seg.
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
	live      int64    // live units
	marked    uint64   // units that have become live since the disk was opened: the cleaner's time
	old, laid []run    // of move, for the next time
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
	g := &segment{num: sp.next, died: sp.marked, place: place, class: c, open: true}
	sp.next++
	sp.add(g)
	return g
}

// adopt takes in a log segment that recovery has found.
func (sp *space) adopt(num, place uint32) *segment {
	g := &segment{num: num, died: sp.marked, place: place, class: classLog}
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

func (g *segment) isLive(slot uint16) bool { return g.live.has(slot) }

// segUnits is how many slots a segment has.
func (sp *space) segUnits() uint32 { return sp.segBlocks * blockUnit }

// locate says where the unit of an identity lies now; nil if nowhere.
func (sp *space) locate(num uint32, slot uint16) (at *segment, unit uint16) {
	at, unit, _ = sp.extent(num, slot, 1)
	return at, unit
}

// extent says where the unit of an identity lies now, nil if nowhere, and how
// many of n that follow lie behind it, or are nowhere as well; at least one.
func (sp *space) extent(num uint32, slot, n uint16) (at *segment, unit, k uint16) {
	g := sp.segs[num]
	if g == nil || uint32(slot)+uint32(n) > sp.segUnits() {
		return nil, 0, n
	}
	r, ok, next := g.moved.find(slot)
	if !ok {
		if uint32(next) < uint32(slot)+uint32(n) {
			n = next - slot
		}
		if g.place == noPlace {
			return nil, 0, n
		}
		return g, slot, n
	}
	n = min(n, r.n-(slot-r.slot))
	h := sp.segs[r.seg]
	if r.seg == lostSegment || h == nil || h.place == noPlace {
		return nil, 0, n
	}
	return h, r.dst + (slot - r.slot), n
}

// settle adds d, which is 1 or -1, for each unit of an identity to what counts
// as resident where it lies.
func (sp *space) settle(num uint32, slot, n uint16, d int) {
	for n > 0 {
		at, _, k := sp.extent(num, slot, n)
		if at != nil {
			at.resident += d * int(k)
		}
		slot, n = slot+k, n-k
	}
}

// mark makes n units of an identity live. Some may be so already.
func (sp *space) mark(num uint32, slot, n uint16) { sp.setLive(num, slot, n, true) }

// clear makes n units of an identity dead. Identities are never used twice, so
// clearing a dead one is harmless.
func (sp *space) clear(num uint32, slot, n uint16) { sp.setLive(num, slot, n, false) }

func (sp *space) setLive(num uint32, slot, n uint16, live bool) {
	g := sp.segs[num]
	if g == nil || uint32(slot)+uint32(n) > sp.segUnits() {
		return
	}
	d := -1
	if live {
		d = 1
	}
	changed := false
	for n > 0 {
		k, in := g.live.stretch(slot, n)
		if in != live {
			changed = true
			sp.settle(num, slot, k, d)
			g.nlive += d * int(k)
			sp.live += int64(d) * int64(k)
			if live {
				sp.marked += uint64(k)
				g.live.add(slot, k, sp.segBlocks)
			} else {
				if at, _ := sp.locate(num, slot); at != nil {
					at.died += (sp.marked - at.died) / deathsOfLate
				}
				g.live.remove(slot, k, sp.segBlocks)
			}
		}
		slot, n = slot+k, n-k
	}
	if changed && g.nlive == 0 {
		g.moved = nil
		if g.place == noPlace {
			delete(sp.segs, num)
		}
	}
}

// move notes where slots of an identity lie now: runs are in the order of their
// slots and do not overlap; one of lostSegment lies nowhere. What of them is dead
// in the victim, noPlace if there is none, is forgotten.
func (sp *space) move(num, victim uint32, runs []run) {
	g := sp.segs[num]
	if g == nil {
		return
	}
	count := func(d int) {
		for _, r := range runs {
			for at, left := r.slot, r.n; left > 0; {
				k, in := g.live.stretch(at, left)
				if in {
					sp.settle(num, at, k, d)
				}
				at, left = at+k, left-k
			}
		}
	}
	count(-1)
	sp.old = slices.AppendSeq(sp.old[:0], g.moved.runs())
	sp.laid = setRuns(sp.laid[:0], sp.old, runs)
	sp.laid = slices.DeleteFunc(sp.laid, func(r run) bool {
		return r.seg == victim && g.dead(r) // elsewhere a dead one keeps the next in its order
	})
	g.moved = pack(sp.laid)
	count(1)
	for _, r := range runs {
		if h := sp.segs[r.seg]; h != nil {
			h.welcome(num)
		}
	}
}

// welcome notes that slots of another segment lie here.
func (g *segment) welcome(num uint32) {
	k := len(g.guests)
	if k > 0 && g.guests[k-1] == num {
		return
	}
	if k == cap(g.guests) {
		slices.Sort(g.guests)
		g.guests = slices.Compact(g.guests)
	}
	g.guests = append(g.guests, num)
}

// dead reports whether nothing refers to slots of a run.
func (g *segment) dead(r run) bool {
	k, in := g.live.stretch(r.slot, r.n)
	return !in && k == r.n
}

// end is the first slot behind a run.
func (r *run) end() uint32 { return uint32(r.slot) + uint32(r.n) }

// from is what is left of a run from a slot on.
func (r run) from(slot uint32) run {
	skip := uint16(slot - uint32(r.slot))
	return run{r.seg, r.slot + skip, r.dst + skip, r.n - skip}
}

// setRuns puts runs over old ones, joins neighbours that continue each other and
// appends all to out. Both are in order and overlap nothing of their own; old is
// changed.
func setRuns(out, old, add []run) []run {
	put := func(x run) {
		if k := len(out) - 1; k >= 0 && out[k].seg == x.seg && out[k].end() == uint32(x.slot) && (x.seg == lostSegment || out[k].dst+out[k].n == x.dst) {
			out[k].n += x.n
			return
		}
		out = append(out, x)
	}
	for _, r := range add {
		for len(old) > 0 && old[0].end() <= uint32(r.slot) {
			put(old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].slot < r.slot {
			x := old[0]
			x.n = r.slot - x.slot
			put(x)
		}
		put(r)
		for len(old) > 0 && old[0].end() <= r.end() {
			old = old[1:]
		}
		if len(old) > 0 && uint32(old[0].slot) < r.end() {
			old[0] = old[0].from(r.end())
		}
	}
	for _, x := range old {
		put(x)
	}
	return out
}

// vacate gives back the places of segments, now that a checkpoint without them is
// on the disk.
func (sp *space) vacate(free map[uint32]bool) {
	sp.each(func(g *segment) {
		if !free[g.num] {
			return
		}
		sp.free = append(sp.free, g.place)
		g.place, g.guests = noPlace, nil
		if g.nlive == 0 {
			delete(sp.segs, g.num)
		}
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
		for r := range g.moved.runs() {
			h := sp.segs[r.seg]
			if r.seg != lostSegment && (h == nil || h.place == noPlace || uint32(r.dst)+uint32(r.n) > sp.segUnits()) {
				if g.dead(r) {
					continue
				}
				err = holdfast.Errorf(holdfast.Corrupt, "slot directory of segment %d names segment %d, which is not there", g.num, r.seg)
				return
			}
			if h != nil {
				h.welcome(g.num)
			}
		}
		for slot, n := range g.live.runs() {
			g.nlive += int(n)
			sp.live += int64(n)
			sp.settle(g.num, slot, n, 1)
		}
	})
	return err
}
