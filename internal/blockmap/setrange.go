package blockmap

import "github.com/holdfast-cloud/holdfast"

// rangeLeaves bounds the leaf pages that one SetRange touches, and so how long
// its caller holds its lock: well under a millisecond.
const rangeLeaves = 64

// SetRange makes tombstones of n blocks from addr; block addr+i gets the LSN
// first+i. Whole subtrees become one slot, so that a range of 10^9 blocks costs
// what was stored there and no more. old, unless nil, is called with every
// stored entry that is replaced, in order; it must not touch the Pages.
//
// It works from addr upwards in slices and returns how many blocks are done:
// repeat with the rest until that is n. The error may be a *Miss; what is done
// stays done.
func (t *Tree) SetRange(addr, n uint64, first holdfast.LSN, origin uint16, old func(addr uint64, e Entry)) (done uint64, err error) {
	m := &t.m
	if n == 0 {
		return 0, nil
	}
	if err := m.check(addr, n); err != nil {
		return 0, err
	}
	if first == 0 || n-1 > holdfast.MaxCounter-first.Counter() {
		return 0, holdfast.Errorf(holdfast.Invalid, "block map: %d tombstones from LSN %v run out of the epoch", n, first)
	}
	w := ranger{p: m.p, lo: addr, hi: addr + n, first: first, origin: origin, old: old, left: rangeLeaves, at: addr}
	err = w.set(&m.top, m.level, 0)
	return w.at - addr, err
}

// ranger is one SetRange under way.
type ranger struct {
	p      *Pages
	lo, hi uint64
	first  holdfast.LSN
	origin uint16
	old    func(uint64, Entry)
	left   int    // leaf pages that may still be touched
	at     uint64 // everything in [lo, at) is done
}

// hole is the slot of a span that lies within the range.
func (w *ranger) hole(level int, base uint64) slot {
	return holeSlot(level, w.first+holdfast.LSN(base-w.lo), w.origin)
}

// set does what falls below s. After it, either w.at is the end of s or of the
// range, or the slice is over: an error, or w.left is 0.
func (w *ranger) set(s *slot, level int, base uint64) error {
	end := base + span(level)
	covered := w.lo <= base && end <= w.hi
	if covered && s.page == 0 {
		*s = w.hole(level, base)
		w.at = end
		return nil
	}
	if w.left == 0 {
		return nil
	}
	if s.page != 0 {
		if err := w.p.need(*s, level, base); err != nil {
			return err
		}
	}
	if level == 0 {
		w.setLeaf(s, base, covered)
		return nil
	}
	w.p.own(s, level)
	in := w.p.nodes[s.page].inner
	var err error
	for i := index(w.at, level); i < Fan && err == nil && w.at < min(end, w.hi); i++ {
		before := w.at
		err = w.set(&in[i], level-1, base+uint64(i)*span(level-1))
		if w.at == before {
			break
		}
	}
	if covered && w.at == end {
		w.p.release(s.page)
		*s = w.hole(level, base)
		return err
	}
	w.p.mend(s)
	return err
}

func (w *ranger) setLeaf(s *slot, base uint64, covered bool) {
	w.left--
	end := min(base+Fan, w.hi)
	if !covered {
		w.p.own(s, 0)
	}
	l := w.p.nodes[s.page].leaf
	for a := w.at; a < end; a++ {
		e := &l[a-base]
		if w.old != nil && e.Stored() {
			w.old(a, *e)
		}
		if !covered {
			*e = Entry{LSN: w.first + holdfast.LSN(a-w.lo), Origin: w.origin}
		}
	}
	w.at = end
	if covered {
		w.p.release(s.page)
		*s = w.hole(0, base)
		return
	}
	w.p.mend(s)
}
