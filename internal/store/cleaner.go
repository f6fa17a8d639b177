package store

import (
	"cmp"
	"math/bits"
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
		case g.resident*100 <= int(s.space.segBlocks)*95:
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
	gain, cost := float64(int(s.space.segBlocks)-g.resident), float64(int(s.space.segBlocks)+g.resident)
	if short {
		return gain
	}
	return gain / cost * float64(1+s.space.next-g.num)
}

// item is a live block of a victim.
type item struct {
	num       uint32
	slot, blk uint16
}

// residents lists what lives in a segment's place, by block.
func (sp *space) residents(g *segment) []item {
	var out []item
	for w, x := range g.live {
		for ; x != 0; x &= x - 1 {
			slot := uint16(w*64 + bits.TrailingZeros64(x))
			if at, blk := sp.locate(g.num, slot); at == g {
				out = append(out, item{g.num, slot, blk})
			}
		}
	}
	for _, r := range g.guests {
		o := sp.segs[r.seg]
		for i := range r.n {
			if o == nil || !o.isLive(r.slot+i) {
				continue
			}
			if at, blk := sp.locate(r.seg, r.slot+i); at == g && blk == r.dst+i {
				out = append(out, item{r.seg, r.slot + i, blk})
			}
		}
	}
	slices.SortFunc(out, func(a, b item) int { return cmp.Compare(a.blk, b.blk) })
	return slices.Compact(out)
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
	n := min(len(*items), cleanChunk, int(s.space.segBlocks-pos))
	from := g.place
	s.unlock()

	part := (*items)[:n]
	*items = (*items)[n:]
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
	s.relocate(g, part, c.num, uint16(pos), lost)
	return true
}

// readItems reads blocks of a place into consecutive ones of buf, and tells
// which cannot be read.
func (s *Store) readItems(buf []byte, items []item, place uint32) (lost map[int]bool) {
	for i := 0; i < len(items); {
		k := 1
		for i+k < len(items) && items[i+k].blk == items[i+k-1].blk+1 {
			k++
		}
		if s.dev.ReadAt(buf[i*blockSize:(i+k)*blockSize], s.offset(place, uint32(items[i].blk))) != nil {
			for j := i; j < i+k; j++ {
				if s.dev.ReadAt(buf[j*blockSize:(j+1)*blockSize], s.offset(place, uint32(items[j].blk))) != nil {
					if lost == nil {
						lost = make(map[int]bool)
					}
					lost[j] = true
				}
			}
		}
		i += k
	}
	return lost
}

// relocate enters moved blocks into the slot directory, unless they died or
// moved elsewhere meanwhile.
func (s *Store) relocate(g *segment, items []item, to uint32, dst uint16, lost map[int]bool) {
	valid := func(i int) bool {
		o := s.space.segs[items[i].num]
		if o == nil || !o.isLive(items[i].slot) {
			return false
		}
		at, blk := s.space.locate(items[i].num, items[i].slot)
		return at == g && blk == items[i].blk
	}
	for i := 0; i < len(items); {
		if !valid(i) {
			i++
			continue
		}
		k := 1
		for i+k < len(items) && items[i+k].num == items[i].num && items[i+k].slot == items[i].slot+uint16(k) && lost[i+k] == lost[i] && valid(i+k) {
			k++
		}
		target, at := to, dst+uint16(i)
		if lost[i] {
			target, at = lostSegment, 0
			s.log.Warn("blocks could not be read when they had to be moved; repair them from another replica",
				"disk", s.id.Disk.String(), "segment", items[i].num, "slot", items[i].slot, "blocks", k)
		}
		s.space.move(items[i].num, items[i].slot, uint16(k), target, at)
		i += k
	}
}
