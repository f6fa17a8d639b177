package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// The cleaner moves live blocks out of segments that are mostly dead, so that
// their places become free. A block keeps its identity (segment, slot): only
// the slot directory changes, however many maps refer to it. The old place is
// used again after the next checkpoint, which holds the new directory.

const (
	cleanPercent = 25          // cleaning begins when fewer places than this are free
	cleanPause   = time.Second // between two victims when it just has begun; 0 at the reserve
	cleanChunk   = 256         // blocks that are moved with one write
)

// cleaning says what the cleaner should do now.
type cleaning struct {
	victim     *segment
	checkpoint bool // empty segments wait for one
	after      time.Duration
}

// cleanGoal is how many places should be free. On a small disk the reserve is
// more than its share, and cleaning must begin before only that is left.
func (s *Store) cleanGoal() int { return max(int(s.sb.places)*cleanPercent/100, s.reserve()+2) }

// plan chooses. Under the lock.
func (s *Store) planCleaning() (c cleaning) {
	free, goal, reserve := s.space.freePlaces(), s.cleanGoal(), s.reserve()
	if free >= goal {
		return c
	}
	empty, best := 0, 0.0
	s.space.each(func(g *segment) {
		switch {
		case g.open || g.place == noPlace || g.readers > 0 || g.class == classLog && g.num >= s.ckptSeg:
		case g.resident == 0:
			empty++
		case g.resident*100 <= int(s.space.segUnits())*95:
			if x := s.worth(g, free <= reserve); x > best {
				c.victim, best = g, x
			}
		}
	})
	c.checkpoint = empty > 0 && (free <= reserve || empty > (goal-free)/2 || c.victim == nil)
	if free < 3 {
		c.victim = nil // what is left is for the log and the checkpoint
	}
	if free > reserve {
		c.after = cleanPause * time.Duration(free-reserve) / time.Duration(goal-reserve)
	}
	return c
}

// worth is what cleaning a segment gains by what it costs; when space is short
// only the gain counts, else old segments come first: what is still alive in
// them will live on.
func (s *Store) worth(g *segment, short bool) float64 {
	gain, cost := float64(int(s.space.segUnits())-g.resident), float64(int(s.space.segUnits())+g.resident)
	if short {
		return gain
	}
	return gain / cost * float64(1+s.space.next-g.num)
}

// item is live units of a victim that lie behind one another, there and among
// the slots of their segment: one block, several, or a part of one.
type item struct {
	num           uint32
	slot, unit, n uint16
}

// residents lists what lives in a segment's place, in the order it lies there.
func (sp *space) residents(g *segment) []item {
	var out []item
	// look adds what of n live slots lies in g; as a guest, at unit dst.
	look := func(num uint32, slot, n uint16, guest bool, dst uint16) {
		for n > 0 {
			at, unit, k := sp.extent(num, slot, n)
			if at == g && (!guest || unit == dst) {
				out = append(out, item{num, slot, unit, k})
			}
			slot, n, dst = slot+k, n-k, dst+k
		}
	}
	for slot, n := range g.live.runs() {
		look(g.num, slot, n, false, 0)
	}
	for _, r := range g.guests {
		o := sp.segs[r.seg]
		if o == nil {
			continue
		}
		for slot, dst, left := r.slot, r.dst, r.n; left > 0; {
			k, in := o.live.stretch(slot, left)
			if in {
				look(r.seg, slot, k, true, dst)
			}
			slot, dst, left = slot+k, dst+k, left-k
		}
	}
	slices.SortFunc(out, func(a, b item) int { return cmp.Or(cmp.Compare(a.unit, b.unit), cmp.Compare(b.n, a.n)) })
	return slices.CompactFunc(out, func(a, b item) bool { return a.unit == b.unit })
}

// clean empties one segment.
func (s *Store) clean(g *segment) {
	s.lock()
	items := s.space.residents(g)
	g.readers++
	s.unlock()
	for len(items) > 0 && s.moveSome(g, &items) {
	}
	s.lock()
	g.readers--
	s.unlock()
}

// moveSome moves the first items of a victim and takes them off the list; false
// if it cannot go on.
func (s *Store) moveSome(g *segment, items *[]item) bool {
	s.lock()
	c := s.coldSeg
	if c == nil || c.pos == s.space.segBlocks {
		if c != nil {
			c.open = false
			s.coldSeg = nil
		}
		place, ok := s.space.take()
		if !ok {
			s.unlock()
			return false
		}
		c = s.space.open(place, classCold)
		s.coldSeg = c
	}
	pos, place := c.pos, c.place
	room := min(cleanChunk, int(s.space.segBlocks-pos))
	from := g.place
	s.unlock()

	part, units := cutItems(items, room*blockUnit)
	n := (units + blockUnit - 1) / blockUnit
	buf := newBuffer(shape{header: n}).b
	lost := s.readItems(buf, part, from)
	if err := s.devWrite(&s.usage.Cleaned, buf, s.offset(place, pos)); err != nil {
		s.lock()
		s.fence(holdfast.Errorf(holdfast.IO, "disk %s: write of the cleaner failed: %w; the disk is not used any more", s.id.Disk.Short(), err))
		s.unlock()
		return false
	}
	s.lock()
	defer s.unlock()
	c.pos += uint32(n)
	s.relocate(g, part, c.num, uint16(pos)*blockUnit, lost)
	return true
}

// cutItems takes as many items off the front of a list as have at most room
// units, the last one in part if need be.
func cutItems(items *[]item, room int) (part []item, units int) {
	list := *items
	i := 0
	for ; i < len(list) && units+int(list[i].n) <= room; i++ {
		units += int(list[i].n)
	}
	part = slices.Clip(list[:i])
	if k := uint16(room - units); i < len(list) && k > 0 {
		x := list[i]
		part = append(part, item{x.num, x.slot, x.unit, k})
		list[i] = item{x.num, x.slot + k, x.unit + k, x.n - k}
		units = room
	}
	*items = list[i:]
	return part, units
}

// readItems reads units of a place, one behind the other, into buf and tells
// which cannot be read, by their position in buf.
func (s *Store) readItems(buf []byte, items []item, place uint32) (lost slots) {
	at := 0
	for i := 0; i < len(items); {
		n, k := int(items[i].n), 1
		for i+k < len(items) && int(items[i+k].unit) == int(items[i].unit)+n {
			n += int(items[i+k].n)
			k++
		}
		first := int(items[i].unit)
		block, end := first/blockUnit, (first+n+blockUnit-1)/blockUnit
		p := buf[at*unitSize : (at+n)*unitSize]
		whole := first%blockUnit == 0 && n%blockUnit == 0 && at%blockUnit == 0
		if !whole {
			p = newBuffer(shape{header: end - block}).b
		}
		bad := s.readBad(p, place, block)
		if !whole {
			copy(buf[at*unitSize:(at+n)*unitSize], p[(first-block*blockUnit)*unitSize:])
		}
		for _, b := range bad {
			from, to := max(b*blockUnit, first), min((b+1)*blockUnit, first+n)
			lost.add(uint16(at+from-first), uint16(to-from), uint32(len(buf)/blockSize))
		}
		at += n
		i += k
	}
	return lost
}

// readBad reads blocks of a place and tells which cannot be read.
func (s *Store) readBad(p []byte, place uint32, block int) (bad []int) {
	if s.dev.ReadAt(p, s.offset(place, uint32(block))) == nil {
		return nil
	}
	for i := range len(p) / blockSize {
		if s.dev.ReadAt(p[i*blockSize:(i+1)*blockSize], s.offset(place, uint32(block+i))) != nil {
			bad = append(bad, block+i)
		}
	}
	return bad
}

// relocate enters moved units into the slot directory, unless they died or
// moved elsewhere meanwhile.
func (s *Store) relocate(g *segment, items []item, to uint32, dst uint16, lost slots) {
	for at := 0; len(items) > 0; items = items[1:] {
		x := items[0]
		for x.n > 0 {
			k := s.relocateSome(g, x, to, dst+uint16(at), uint16(at), &lost)
			x.slot, x.unit, x.n = x.slot+k, x.unit+k, x.n-k
			at += int(k)
		}
	}
}

// relocateSome does the first units of an item, which stand at at in what was
// read, as many as can be treated alike.
func (s *Store) relocateSome(g *segment, x item, to uint32, dst, at uint16, lost *slots) uint16 {
	o := s.space.segs[x.num]
	if o == nil {
		return x.n
	}
	n, live := o.live.stretch(x.slot, x.n)
	if !live {
		return n
	}
	now, unit, n := s.space.extent(x.num, x.slot, n)
	if now != g || unit != x.unit {
		return n
	}
	n, gone := lost.stretch(at, n)
	if gone {
		s.log.Warn("blocks could not be read when they had to be moved; repair them from another replica",
			"disk", s.id.Disk.String(), "segment", x.num, "slot", x.slot, "units", n)
		to, dst = lostSegment, 0
	}
	s.space.move(x.num, x.slot, n, to, dst)
	return n
}
