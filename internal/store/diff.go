package store

import (
	"errors"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
)

// RootRef names a root of a replica that Diff compares: a snapshot, the head
// (no Snapshot), or a volume in which nothing was ever written.
type RootRef struct {
	Snapshot holdfast.SnapshotID // zero: the head
	Nothing  bool                // as if nothing was ever written
}

// Extent is a stretch of blocks that differ between two roots.
type Extent struct {
	Addr   uint64 // first block
	Blocks uint64
	Hole   bool // they read as zero in the later root
}

// MaxExtents bounds what one Diff returns; diffSlice bounds the blocks it
// compares one by one, all under one hold of the lock.
const (
	MaxExtents = 2048
	diffSlice  = 2048
)

// Diff tells which blocks of to, from block addr on and in order, do not hold
// what from holds: at most limit extents (MaxExtents at most). next is where to
// go on, above addr unless it is over: when it is size, that of to in blocks.
// A block that reads as zero in both does not differ.
//
// Nothing is kept between two calls, so a walk can be broken off and taken up
// again at any time, after a restart too. A walk to the head shows all that was
// written before its first call and perhaps later writes; one between snapshots
// is exact. Kind NotFound if a snapshot is not there (any more), Unavailable
// while the replica is being built.
func (r *Replica) Diff(from, to RootRef, addr uint64, limit int) (out []Extent, next, size uint64, err error) {
	return r.DiffUntil(from, to, addr, holdfast.MaxVolumeBlocks, limit)
}

// DiffUntil is Diff that looks at no block from block end on: a step goes on at
// end, or before it.
func (r *Replica) DiffUntil(from, to RootRef, addr, end uint64, limit int) (out []Extent, next, size uint64, err error) {
	limit = max(1, min(limit, MaxExtents))
	err = r.s.withMap(func() error {
		if err := r.usable(); err != nil {
			return err
		}
		if r.head.building != nil {
			return holdfast.Errorf(holdfast.Unavailable, "replica %s is being built; compare on another one", r.id)
		}
		a, err := r.head.side(from)
		if err != nil {
			return err
		}
		defer a.root.Release()
		b, err := r.head.side(to)
		if err != nil {
			return err
		}
		defer b.root.Release()
		if size = b.blocks; addr >= size {
			next = size
			return nil
		}
		if addr >= end {
			next = addr
			return nil
		}
		d := differ{a: a, b: b, end: min(end, size), limit: limit}
		next, err = d.step(addr)
		out = d.out
		return err
	})
	if err != nil {
		return nil, addr, size, r.unreadableNow(err)
	}
	return out, next, size, nil
}

// unreadableNow is unreadable without the lock.
func (r *Replica) unreadableNow(err error) error {
	r.s.lock()
	defer r.s.unlock()
	return r.unreadable(err)
}

// side is a root with what lies over it in memory: only the head has that.
type side struct {
	h      *head
	root   *blockmap.Root
	blocks uint64
	index  *overlayIndex // nil: nothing
	zeros  zeroRanges
}

// side finds a root; the caller releases it. Under the lock; the error may be a
// *blockmap.Miss.
func (h *head) side(ref RootRef) (side, error) {
	switch {
	case ref.Nothing:
		t, err := h.r.s.pages.New(h.blocks)
		if err != nil {
			return side{}, err
		}
		defer t.Release()
		return side{h: h, root: t.Snapshot(), blocks: h.blocks}, nil
	case ref.Snapshot.IsZero():
		sd := side{h: h, blocks: h.blocks, index: &h.index, zeros: h.zeros}
		if top := h.under.top(); top != nil {
			sd.root = top.Share()
		} else {
			sd.root = h.base.Snapshot()
		}
		return sd, nil
	}
	sn := h.snap(ref.Snapshot)
	if sn == nil {
		return side{}, holdfast.Errorf(holdfast.NotFound, "replica %s has no snapshot %s", h.r.id, ref.Snapshot)
	}
	sd := side{h: h, blocks: sn.blocks, index: &sn.index, zeros: sn.zeros}
	switch {
	case sn.node != nil:
		sd.root = sn.node.root.Share()
	case sn.under.top() != nil:
		sd.root = sn.under.top().Share()
	default:
		sd.root = h.base.Snapshot()
	}
	return sd, nil
}

// get is what a block holds.
func (sd *side) get(addr uint64) (found, error) {
	if addr >= sd.blocks {
		return found{}, nil
	}
	return sd.h.resolve(addr, sd.index, sd.zeros, sd.root)
}

// differ is one step of a Diff.
type differ struct {
	a, b  side
	end   uint64 // no block from here on is looked at
	limit int
	out   []Extent
}

// step compares from block at on and returns where to go on. A page that is
// missing is only reported if nothing could be done without it.
func (d *differ) step(at uint64) (uint64, error) {
	addrs, end, err := d.candidates(at)
	if err != nil {
		return at, err
	}
	for _, addr := range addrs {
		x, err := d.a.get(addr)
		y := x
		if err == nil {
			y, err = d.b.get(addr)
		}
		var miss *blockmap.Miss
		switch {
		case errors.As(err, &miss) && addr > at:
			return addr, nil
		case err != nil:
			return at, err
		case !x.stored() && !y.stored() || x.lsn == y.lsn && x.origin == y.origin:
			continue
		case !d.add(addr, !y.stored()):
			return addr, nil
		}
	}
	return end, nil
}

// add appends a block; false if that were an extent too many.
func (d *differ) add(addr uint64, hole bool) bool {
	if k := len(d.out) - 1; k >= 0 && d.out[k].Hole == hole && d.out[k].Addr+d.out[k].Blocks == addr {
		d.out[k].Blocks++
		return true
	}
	if len(d.out) == d.limit {
		return false
	}
	d.out = append(d.out, Extent{addr, 1, hole})
	return true
}

// candidates finds the blocks from at on, ascending, that may differ, and up to
// where that is all of them.
func (d *differ) candidates(at uint64) (addrs []uint64, end uint64, err error) {
	end = d.end
	err = blockmap.DiffUntil(d.a.root, d.b.root, at, end, func(addr, n uint64, _, _ blockmap.Entry) bool {
		if n == 1 { // a run has no data on either side
			addrs = append(addrs, addr)
		}
		if len(addrs) < diffSlice {
			return true
		}
		end = min(end, addr+n)
		return false
	})
	if err != nil {
		var miss *blockmap.Miss
		if len(addrs) == 0 || !errors.As(err, &miss) {
			return nil, at, err
		}
		end = min(end, addrs[len(addrs)-1]+1)
	}
	for _, two := range [][2]*side{{&d.a, &d.b}, {&d.b, &d.a}} {
		if addrs, end, err = two[0].overlaid(addrs, at, end, two[1]); err != nil {
			return nil, at, err
		}
	}
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	if i, _ := slices.BinarySearch(addrs, end); i < len(addrs) {
		addrs = addrs[:i]
	}
	if len(addrs) > diffSlice {
		end, addrs = addrs[diffSlice], addrs[:diffSlice]
	}
	return addrs, end, nil
}

// overlaid adds what the overlay of sd may change in [at, end): what it wrote,
// and where it zeroed what the other side has.
func (sd *side) overlaid(addrs []uint64, at, end uint64, other *side) ([]uint64, uint64, error) {
	if sd.index != nil && end-at < uint64(sd.index.len()) { // rather by the range than by all of it
		for addr := at; addr < end; addr++ {
			if _, there := sd.index.get(addr); there {
				addrs = append(addrs, addr)
			}
		}
	} else {
		for addr := range sd.index.all() {
			if addr >= at && addr < end {
				addrs = append(addrs, addr)
			}
		}
	}
	for _, z := range sd.zeros[sd.zeros.at(at):] {
		if z.addr >= end {
			break
		}
		n := 0
		err := other.root.Walk(0, max(z.addr, at), func(addr, run uint64, e blockmap.Entry) bool {
			if addr >= min(z.addr+z.n, end) {
				return false
			}
			if e.Stored() {
				addrs = append(addrs, addr)
				n++
			}
			if n >= diffSlice {
				end = addr + 1
			}
			return n < diffSlice
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return addrs, end, nil
}
