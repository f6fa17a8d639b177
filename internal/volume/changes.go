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
	rg := byteRange{off: off, n: n}
	first, end, err := rg.blocks(v, blocks, max)
	if err != nil {
		return nil, err
	}
	if local == nil {
		return []export.Extent{{Length: n}}, nil // allocation is known only where a replica is: claim data
	}
	runs, err := local.r.Extents(first, end-first, max)
	if err != nil {
		return nil, err
	}
	var out []export.Extent
	for _, r := range runs {
		if l := rg.next(int64(r.Blocks)); l > 0 {
			out = append(out, export.Extent{Length: l, Hole: r.Hole})
		}
	}
	return out, nil
}

// byteRange is what is left to be described of a range of a volume.
type byteRange struct{ off, n int64 }

// blocks returns the blocks that the range touches, if it is one of a volume of so
// many blocks that can be described in at most max pieces.
func (r byteRange) blocks(v *Volume, blocks uint64, max int) (first, end uint64, err error) {
	if r.off < 0 || r.n <= 0 || max <= 0 || r.off+r.n > int64(blocks)*holdfast.BlockSize {
		return 0, 0, holdfast.Errorf(holdfast.Invalid, "volume %s: %d bytes at %d are beyond its end", v.rec.Name, r.n, r.off)
	}
	return uint64(r.off) / holdfast.BlockSize, (uint64(r.off+r.n) + holdfast.BlockSize - 1) / holdfast.BlockSize, nil
}

// next takes a run of blocks that begins with the block of the range's beginning,
// and returns how many bytes of the range it describes.
func (r *byteRange) next(blocks int64) int64 {
	l := max(0, min(blocks*holdfast.BlockSize-r.off%holdfast.BlockSize, r.n))
	r.off, r.n = r.off+l, r.n-l
	return l
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
	rg := byteRange{off: off, n: n}
	first, end, err := rg.blocks(v, blocks, max)
	if err != nil {
		return nil, err
	}
	c := comparing{at: first, end: end, max: max}
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
	return c.bytes(rg), nil
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

// bytes cuts the runs, which begin with the range's first block, to the range.
func (c *comparing) bytes(rg byteRange) (out []export.Change) {
	for _, r := range c.runs {
		if l := rg.next(r.Length); l > 0 {
			out = append(out, export.Change{Length: l, Dirty: r.Dirty})
		}
	}
	return out
}
