package store

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
)

// The cleaner moves live blocks out of segments that are mostly dead, so that
// their places become free. A block keeps its identity (segment, slot): only
// the slot directory changes, however many maps refer to it. The old place is
// used again after the next checkpoint, which holds the new directory.

// cleanChunk is how many blocks are moved with one write.
const cleanChunk = 256

// cleaner is where it stands. Under the store's lock; buf and span belong to
// the keeper.
type cleaner struct {
	victim *segment        // being emptied; it counts a reader
	items  []item          // what is left to move of it
	costs  float64         // blocks moved per block that the victim gains
	owed   float64         // blocks to move for what the log has taken
	grant  int64           // blocks that the log may take below the low level
	lanes  [lanes]*segment // open
	idle   bool            // there is nothing that it could do
	empty  int             // segments that were emptied and wait for a checkpoint

	buf, span []byte
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
	// look adds what of n slots is live, which lie in g from a unit on.
	look := func(o *segment, slot, unit, n uint16) {
		for n > 0 {
			k, in := o.live.stretch(slot, n)
			if in {
				out = append(out, item{o.num, slot, unit, k})
			}
			slot, unit, n = slot+k, unit+k, n-k
		}
	}
	for slot, n := range g.live.runs() {
		for n > 0 {
			at, unit, k := sp.extent(g.num, slot, n)
			if at == g {
				look(g, slot, unit, k)
			}
			slot, n = slot+k, n-k
		}
	}
	slices.Sort(g.guests)
	g.guests = slices.Compact(g.guests)
	for _, num := range g.guests {
		o := sp.segs[num]
		if o == nil || o == g {
			continue
		}
		for r := range o.moved.runs() {
			if r.seg == g.num {
				look(o, r.slot, r.dst, r.n)
			}
		}
	}
	slices.SortFunc(out, func(a, b item) int { return cmp.Compare(a.unit, b.unit) })
	return out
}

// cleanOnce moves some blocks, if it is time to. It reports whether more is to
// be done at once.
func (s *Store) cleanOnce() bool {
	s.lock()
	c := &s.cleaner
	p := s.effort()
	if p.factor == 0 || !p.urgent && c.owed < cleanChunk {
		s.unlock()
		return false
	}
	if c.victim == nil && s.space.freePlaces() >= 3 { // else what is left is for the log and the checkpoint
		c.victim = s.choose()
	}
	c.idle = c.victim == nil
	if c.idle {
		c.owed = 0
		s.drained()
		s.unlock()
		return false
	}
	if c.items == nil {
		g := c.victim
		g.readers++
		c.items = s.space.residents(g)
		c.costs = float64(g.resident) / float64(int(s.space.segUnits())-g.resident)
		crashpoint.At(crashpoint.CleanerChosen)
	}
	s.unlock()
	ok := len(c.items) == 0 || s.moveSome(c.victim, &c.items)
	s.lock()
	defer s.unlock()
	c.idle = !ok
	if !ok || len(c.items) == 0 {
		c.victim.readers--
		if ok {
			c.empty++
			crashpoint.At(crashpoint.CleanerEmptied)
		}
		c.victim, c.items = nil, nil
	}
	s.drained()
	return ok
}

// target is the segment that a lane fills, and whether there is one.
func (s *Store) target(l lane) (*segment, bool) {
	c := s.cleaner.lanes[l]
	if c != nil && c.pos < s.space.segBlocks {
		return c, true
	}
	if c != nil {
		c.open = false
		s.cleaner.lanes[l] = nil
	}
	place, ok := s.space.take()
	if !ok {
		return nil, false
	}
	c = s.space.open(place, classCold)
	s.cleaner.lanes[l] = c
	return c, true
}

// moveSome moves the first items of a victim and takes them off the list; false
// if it cannot go on.
func (s *Store) moveSome(g *segment, items *[]item) bool {
	s.lock()
	c, ok := s.target(s.destination(g))
	if !ok {
		s.unlock()
		return false
	}
	pos, place := c.pos, c.place
	room := min(cleanChunk, int(s.space.segBlocks-pos))
	from := g.place
	s.unlock()

	part, units := cutItems(items, room*blockUnit)
	n := (units + blockUnit - 1) / blockUnit
	buf, lost := s.readItems(part, from, n)
	if err := s.devWrite(&s.usage.Cleaned, buf, s.offset(place, pos)); err != nil {
		_ = s.fenceFor("write of the cleaner", err)
		return false
	}
	crashpoint.At(crashpoint.CleanerWritten)
	s.lock()
	defer s.unlock()
	c.inherit(g, n)
	c.pos += uint32(n)
	s.relocate(g, part, c.num, uint16(pos)*blockUnit, lost)
	s.cleaner.gained(s, n)
	crashpoint.At(crashpoint.CleanerMoved)
	return true
}

// inherit notes that n blocks of another segment join g: they are expected to
// die as they did there.
func (g *segment) inherit(from *segment, n int) {
	was := float64(g.pos) / float64(int(g.pos)+n)
	g.died = uint64(float64(g.died)*was + float64(from.died)*(1-was))
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

// cleanSpan is how far apart units may lie that are read with one call.
const cleanSpan = 4 * cleanChunk

// readItems reads units of a place, one behind the other, into so many blocks
// and tells which cannot be read, by their position there. What it returns is
// good until the next call.
func (s *Store) readItems(items []item, place uint32, blocks int) (buf []byte, lost slots) {
	c := &s.cleaner
	if c.buf == nil {
		c.buf, c.span = newBuffer(shape{header: cleanChunk}).b, newBuffer(shape{header: cleanSpan}).b
	}
	buf = c.buf[:blocks*blockSize]
	at := 0
	for i := 0; i < len(items); {
		block := int(items[i].unit) / blockUnit
		k, end := i, block
		for k < len(items) && items[k].endBlock() <= block+cleanSpan {
			end = items[k].endBlock()
			k++
		}
		span := c.span[:(end-block)*blockSize]
		bad := s.readBad(span, place, block)
		for ; i < k; i++ {
			first, n := int(items[i].unit), int(items[i].n)
			copy(buf[at*unitSize:], span[(first-block*blockUnit)*unitSize:][:n*unitSize])
			for _, b := range bad {
				from, to := max(b*blockUnit, first), min((b+1)*blockUnit, first+n)
				if from < to {
					lost.add(uint16(at+from-first), uint16(to-from), uint32(blocks))
				}
			}
			at += n
		}
	}
	clear(buf[at*unitSize:])
	return buf, lost
}

// endBlock is the block behind an item's last.
func (x *item) endBlock() int { return (int(x.unit) + int(x.n) + blockUnit - 1) / blockUnit }

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
	m := mover{s: s, from: g, to: to, lost: &lost}
	for at := uint16(0); len(items) > 0; items = items[1:] {
		for x := items[0]; x.n > 0; {
			k := m.some(x, dst+at, at)
			x.slot, x.unit, x.n = x.slot+k, x.unit+k, x.n-k
			at += k
		}
	}
	m.done()
}

// mover gathers the runs of one home, in the order of their slots, so that its
// directory is changed once.
type mover struct {
	s    *Store
	from *segment
	to   uint32
	lost *slots
	home uint32
	runs []run
}

// some does the first units of an item, which stand at at in what was read, as
// many as can be treated alike.
func (m *mover) some(x item, dst, at uint16) uint16 {
	o := m.s.space.segs[x.num]
	if o == nil {
		return x.n
	}
	n, live := o.live.stretch(x.slot, x.n)
	if !live {
		return n
	}
	now, unit, n := m.s.space.extent(x.num, x.slot, n)
	if now != m.from || unit != x.unit {
		return n
	}
	n, gone := m.lost.stretch(at, n)
	to := m.to
	if gone {
		m.s.log.Warn("blocks could not be read when they had to be moved; repair them from another replica",
			"disk", m.s.id.Disk.String(), "segment", x.num, "slot", x.slot, "units", n)
		to, dst = lostSegment, 0
	}
	if k := len(m.runs); k > 0 && (m.home != x.num || m.runs[k-1].slot > x.slot) {
		m.done()
	}
	m.home = x.num
	m.runs = append(m.runs, run{seg: to, slot: x.slot, dst: dst, n: n})
	return n
}

func (m *mover) done() {
	if len(m.runs) > 0 {
		m.s.space.move(m.home, m.from.num, m.runs)
	}
	m.runs = m.runs[:0]
}
