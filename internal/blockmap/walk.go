package blockmap

import "github.com/holdfast-cloud/holdfast"

// Walk calls f, in order of address, for every entry from block from on whose
// LSN is above since, tombstones included, until f returns false. It looks only
// into subtrees that hold such an entry. A run of n > 1 blocks is always a
// range of tombstones: block addr+i has LSN e.LSN+i.
//
// A *Miss ends it: continue from the end of the last run that f saw. f may
// change trees; it must not Evict or release r.
func (r *Root) Walk(since holdfast.LSN, from uint64, f func(addr, n uint64, e Entry) bool) error {
	return r.m.walk(since, from, f)
}

// Walk is Root.Walk for the map as it is; f must not change this tree.
func (t *Tree) Walk(since holdfast.LSN, from uint64, f func(addr, n uint64, e Entry) bool) error {
	return t.m.walk(since, from, f)
}

func (m *mapping) walk(since holdfast.LSN, from uint64, f func(addr, n uint64, e Entry) bool) error {
	w := walker{p: m.p, since: since, from: from, end: m.blocks, f: f}
	_, err := w.walk(m.top, m.level, 0)
	return err
}

type walker struct {
	p         *Pages
	since     holdfast.LSN
	from, end uint64
	f         func(addr, n uint64, e Entry) bool
}

// walk returns whether to go on.
func (w *walker) walk(s slot, level int, base uint64) (bool, error) {
	if s.max <= w.since || base+span(level) <= w.from {
		return true, nil
	}
	if s.page == 0 {
		return w.hole(s, level, base), nil
	}
	if err := w.p.need(s, level, base); err != nil {
		return false, err
	}
	if l := w.p.nodes[s.page].leaf; l != nil {
		for i := range l {
			a := base + uint64(i)
			if e := l[i]; e.LSN > w.since && a >= w.from && !w.f(a, 1, e) {
				return false, nil
			}
		}
		return true, nil
	}
	in := w.p.nodes[s.page].inner
	for i := range in {
		if more, err := w.walk(in[i], level-1, base+uint64(i)*span(level-1)); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// hole reports the part of a hole that is wanted.
func (w *walker) hole(s slot, level int, base uint64) bool {
	lo, hi := max(base, w.from), min(base+span(level), w.end)
	if first := s.holeEntry(level, 0).LSN; w.since >= first {
		lo = max(lo, base+uint64(w.since-first)+1)
	}
	if lo >= hi {
		return true
	}
	return w.f(lo, hi-lo, s.holeEntry(level, lo-base))
}
