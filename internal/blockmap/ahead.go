package blockmap

import "errors"

// Ahead returns the pages that are not in memory and that a Diff of a and b, or
// a Walk of a if b is nil, asks for between block from and block to: those that
// can be known without others that are not in memory either. Calls for what
// follows can read them together.
func Ahead(a, b *Root, from, to uint64) []*Miss {
	d := differ{p: a.m.p, from: from, end: to}
	x, y := side{a.m.top, a.m.level}, side{level: a.m.level}
	if b != nil {
		y = side{b.m.top, b.m.level}
	}
	return d.ahead(nil, x, y, max(x.level, y.level), 0)
}

func (d *differ) ahead(out []*Miss, a, b side, level int, base uint64) []*Miss {
	if base+span(level) <= d.from || base >= d.end || a.slot == b.slot && (a.level == b.level || a.max == 0) {
		return out
	}
	there := true
	for _, s := range []side{a, b} {
		if s.page != 0 && s.level == level {
			err := d.p.need(s.slot, level, base)
			var m *Miss
			if errors.As(err, &m) {
				out = append(out, m)
			}
			there = there && err == nil
		}
	}
	if !there || level == 0 || a.page == 0 && b.page == 0 {
		return out
	}
	for i := range Fan {
		out = d.ahead(out, a.child(d, level, i), b.child(d, level, i), level-1, base+uint64(i)*span(level-1))
	}
	return out
}
