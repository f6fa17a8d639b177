package volume

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// What a volume holds where, and what of it has changed since a snapshot.

// Extents implements export.Disk.
func (ss *session) Extents(off, n int64, max int) ([]export.Extent, error) {
	return ss.v.Extents(off, n, max)
}

// Changes implements export.Comparer.
func (ss *session) Changes(since holdfast.SnapshotID, off, n int64, max int) ([]export.Change, error) {
	return ss.v.Changes(since, off, n, max)
}

// Extents describes a byte range of the volume, at most max pieces.
func (v *Volume) Extents(off, n int64, max int) ([]export.Extent, error) {
	v.mu.Lock()
	local, failed, blocks := v.local, v.failed, v.rec.Blocks
	v.mu.Unlock()
	if failed != nil {
		return nil, failed
	}
	if off < 0 || n <= 0 || max <= 0 || off+n > int64(blocks)*holdfast.BlockSize {
		return nil, holdfast.Errorf(holdfast.Invalid, "volume %s: %d bytes at %d are beyond its end", v.rec.Name, n, off)
	}
	if local == nil {
		return []export.Extent{{Length: n}}, nil // allocation is known only where a replica is: claim data
	}
	first := uint64(off) / holdfast.BlockSize
	count := (uint64(off+n)+holdfast.BlockSize-1)/holdfast.BlockSize - first
	runs, err := local.r.Extents(first, count, max)
	if err != nil {
		return nil, err
	}
	var out []export.Extent
	skip := off - int64(first)*holdfast.BlockSize
	for _, r := range runs {
		l := int64(r.Blocks)*holdfast.BlockSize - skip
		skip = 0
		if l = min(l, n); l > 0 {
			out = append(out, export.Extent{Length: l, Hole: r.Hole})
			n -= l
		}
	}
	return out, nil
}

// changeSteps bounds the comparisons that one Changes makes.
const changeSteps = 16

// Changes tells what of a byte range of the volume is not what it was when a
// snapshot was made, in whole blocks, at most max pieces. It looks at no more of
// the maps than the range needs, and may cover less.
func (v *Volume) Changes(since holdfast.SnapshotID, off, n int64, max int) ([]export.Change, error) {
	v.mu.Lock()
	blocks := v.rec.Blocks
	v.mu.Unlock()
	if off < 0 || n <= 0 || max <= 0 || off+n > int64(blocks)*holdfast.BlockSize {
		return nil, holdfast.Errorf(holdfast.Invalid, "volume %s: %d bytes at %d are beyond its end", v.rec.Name, n, off)
	}
	first := uint64(off) / holdfast.BlockSize
	c := comparing{at: first, end: (uint64(off+n) + holdfast.BlockSize - 1) / holdfast.BlockSize, max: max}
	for range changeSteps {
		if c.at >= c.end || c.full {
			break
		}
		d, err := v.diffUntil(replica.RootRef{Snapshot: since}, replica.RootRef{}, c.at, c.end, max)
		switch {
		case err == nil:
			c.take(d)
		case c.at == first:
			return nil, err
		default: // the next request is told
			c.full = true
		}
	}
	return c.bytes(off, n), nil
}

// comparing is what is known of the blocks before at.
type comparing struct {
	at, end uint64
	max     int
	full    bool
	runs    []export.Change // in blocks
}

// take adds a step that began at c.at.
func (c *comparing) take(d replica.Diff) {
	next := min(d.Next, c.end)
	if d.Next <= c.at { // the replica is smaller: nothing was written there yet
		next = c.end
	}
	for _, e := range d.Extents {
		c.add(min(e.Addr, next), false)
		c.add(min(e.Addr+e.Blocks, next), true)
	}
	c.add(next, false)
}

// add says what the blocks up to another one are.
func (c *comparing) add(to uint64, dirty bool) {
	if to <= c.at || c.full {
		return
	}
	n := int64(to - c.at)
	switch k := len(c.runs) - 1; {
	case k >= 0 && c.runs[k].Dirty == dirty:
		c.runs[k].Length += n
	case len(c.runs) == c.max:
		c.full = true
		return
	default:
		c.runs = append(c.runs, export.Change{Length: n, Dirty: dirty})
	}
	c.at = to
}

// bytes cuts the runs, which begin with the block of off, to the range.
func (c *comparing) bytes(off, n int64) (out []export.Change) {
	skip := off % holdfast.BlockSize
	for _, r := range c.runs {
		l := min(r.Length*holdfast.BlockSize-skip, n)
		skip = 0
		if l > 0 {
			out = append(out, export.Change{Length: l, Dirty: r.Dirty})
			n -= l
		}
	}
	return out
}
