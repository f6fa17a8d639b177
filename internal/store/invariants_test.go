package store

import (
	"fmt"
	"slices"
)

// checkSpace reports the first thing wrong with the accounting of places and
// blocks.
func (s *Store) checkSpace() error {
	s.lock()
	defer s.unlock()
	sp := s.space
	owner := make(map[uint32]string)
	var err error
	claim := func(p uint32, who string) {
		if o, ok := owner[p]; ok && err == nil {
			err = fmt.Errorf("place %d belongs to %s and to %s", p, o, who)
		}
		if p >= sp.virgin && err == nil {
			err = fmt.Errorf("place %d of %s was never given out", p, who)
		}
		owner[p] = who
	}
	for _, p := range sp.free {
		claim(p, "free")
	}
	for _, p := range sp.fresh {
		claim(p, "fresh")
	}
	if s.wal.next != noPlace {
		claim(s.wal.next, "next")
	}
	for c, places := range s.catalog {
		for _, p := range places {
			claim(p, fmt.Sprint("catalog ", c))
		}
	}
	for c, l := range s.catalogList {
		if l.known {
			claim(l.place, fmt.Sprint("list of catalog ", c))
		}
	}
	live := int64(0)
	resident := make(map[*segment]int)
	sp.each(func(g *segment) {
		if g.place != noPlace {
			claim(g.place, fmt.Sprint("segment ", g.num))
		}
		n := 0
		for slot := range sp.segUnits() {
			if !g.isLive(uint16(slot)) {
				continue
			}
			n++
			if at, _ := sp.locate(g.num, uint16(slot)); at != nil {
				resident[at]++
			}
		}
		for r := range g.moved.runs() {
			h := sp.segs[r.seg]
			if !g.dead(r) && (h == nil || h.place == noPlace || !slices.Contains(h.guests, g.num)) && r.seg != lostSegment && err == nil {
				err = fmt.Errorf("slots %d to %d of segment %d are said to be in segment %d, which is gone or does not know", r.slot, r.end()-1, g.num, r.seg)
			}
		}
		live += int64(n)
		if n != g.nlive && err == nil {
			err = fmt.Errorf("segment %d counts %d live blocks, it has %d", g.num, g.nlive, n)
		}
	})
	sp.each(func(g *segment) {
		if resident[g] != g.resident && err == nil {
			err = fmt.Errorf("segment %d counts %d residents, it has %d", g.num, g.resident, resident[g])
		}
	})
	if live != sp.live && err == nil {
		err = fmt.Errorf("%d blocks are counted live, there are %d", sp.live, live)
	}
	return err
}
