package blockmap

// Diff calls f, in order of address, for every block from block from on whose
// entry differs between a and b, until f returns false. Subtrees that both
// share are skipped without a look. In a run of n > 1 blocks each side is
// either never written or a range of tombstones whose LSNs rise by one per
// block. The maps may differ in size; what lies beyond one's end it has never
// written. Both must come from the same Pages.
//
// A *Miss ends it: continue from the end of the last run that f saw. f may
// change trees; it must not Evict or release a or b.
func Diff(a, b *Root, from uint64, f func(addr, n uint64, ea, eb Entry) bool) error {
	return DiffUntil(a, b, from, max(a.m.blocks, b.m.blocks), f)
}

// DiffUntil is Diff of the blocks before block end: pages of others are not
// needed.
func DiffUntil(a, b *Root, from, end uint64, f func(addr, n uint64, ea, eb Entry) bool) error {
	d := differ{p: a.m.p, from: from, end: min(end, max(a.m.blocks, b.m.blocks)), f: f}
	_, err := d.diff(side{a.m.top, a.m.level}, side{b.m.top, b.m.level}, max(a.m.level, b.m.level), 0)
	return err
}

type differ struct {
	p         *Pages
	from, end uint64
	f         func(addr, n uint64, ea, eb Entry) bool
}

// side is one map's slot at some place. Its level is lower than the place's
// where the map is too small to reach up there: it then is the first child.
type side struct {
	slot
	level int
}

func (s side) child(d *differ, level, i int) side {
	switch {
	case s.level < level && i == 0:
		return s
	case s.level < level:
		return side{level: level - 1}
	case s.page == 0:
		return side{s.slot.child(level, i), level - 1}
	}
	return side{d.p.nodes[s.page].inner[i], level - 1}
}

// flat reports whether the side is one run of tombstones or nothing, and what.
func (s side) flat(level int, off uint64) (Entry, bool) {
	switch {
	case s.max == 0:
		return Entry{}, true
	case s.page == 0 && s.level == level:
		return s.holeEntry(level, off), true
	}
	return Entry{}, false
}

func (s side) entry(d *differ, i int) Entry {
	if s.page != 0 {
		return d.p.nodes[s.page].leaf[i]
	}
	e, _ := s.flat(0, uint64(i))
	return e
}

func (d *differ) diff(a, b side, level int, base uint64) (bool, error) {
	if base+span(level) <= d.from || base >= d.end || a.slot == b.slot && (a.level == b.level || a.max == 0) {
		return true, nil
	}
	lo, hi := max(base, d.from), min(base+span(level), d.end)
	ea, flatA := a.flat(level, lo-base)
	eb, flatB := b.flat(level, lo-base)
	if flatA && flatB {
		return d.f(lo, hi-lo, ea, eb), nil
	}
	for _, s := range []side{a, b} {
		if s.page != 0 && s.level == level {
			if err := d.p.need(s.slot, level, base); err != nil {
				return false, err
			}
		}
	}
	if level == 0 {
		for at := lo; at < hi; at++ {
			ea, eb := a.entry(d, int(at-base)), b.entry(d, int(at-base))
			if ea != eb && !d.f(at, 1, ea, eb) {
				return false, nil
			}
		}
		return true, nil
	}
	for i := range Fan {
		if more, err := d.diff(a.child(d, level, i), b.child(d, level, i), level-1, base+uint64(i)*span(level-1)); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}
