package store

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// PinnedRoot is a snapshot that a pin shows.
type PinnedRoot struct {
	RootID
	Blocks uint64
	Parent holdfast.SnapshotID // the nearest snapshot that its content descends from; zero: none
}

type keptRoot struct {
	PinnedRoot
	root *blockmap.Root
}

// Roots returns the snapshots that the pin shows, ascending.
func (p *Pin) Roots() []PinnedRoot {
	out := make([]PinnedRoot, len(p.kept))
	for i := range p.kept {
		out[i] = p.kept[i].PinnedRoot
	}
	return out
}

// Parent is the nearest snapshot that the head's content descends from; zero:
// none.
func (p *Pin) Parent() holdfast.SnapshotID { return p.above }

// keep takes the snapshots of a head. Under the lock; the error may be a
// *blockmap.Miss.
func (p *Pin) keep(h *head) error {
	parents, above := h.lineage()
	p.byID = make(map[holdfast.SnapshotID]*blockmap.Root, len(h.snaps))
	for _, sn := range h.snaps {
		if sn.dropped != 0 {
			continue
		}
		k := keptRoot{PinnedRoot: PinnedRoot{RootID: RootID{sn.id, sn.lsn}, Blocks: sn.blocks}}
		if up := parents[sn]; up != nil {
			k.Parent = up.id
		}
		if sn.node != nil {
			k.root = sn.node.root.Share()
		} else {
			tree, err := h.flattened(sn.blocks, &sn.index, sn.zeros, sn.under.top())
			if err != nil {
				return err
			}
			k.root = tree.Snapshot()
			tree.Release()
		}
		p.kept = append(p.kept, k)
		p.byID[k.ID] = k.root
	}
	if above != nil {
		p.above = above.id
	}
	return nil
}

// drop lets the pinned maps go. Under the lock.
func (p *Pin) drop() {
	p.root.Release()
	for _, k := range p.kept {
		k.root.Release()
	}
	p.root, p.kept, p.byID = nil, nil, nil
}

// lineage finds, for every snapshot and for the head, the nearest snapshot that
// is kept as of the prefix and whose content it descends from.
func (h *head) lineage() (parents map[*snap]*snap, above *snap) {
	of := make(map[*node]*snap)
	for _, sn := range h.snaps {
		if sn.node != nil {
			of[sn.node] = sn
		}
	}
	nearest := func(n *node) *snap {
		for ; n != nil; n = n.parent {
			if sn := of[n]; sn != nil {
				return sn
			}
		}
		return nil
	}
	up := make(map[*snap]*snap)
	for _, sn := range h.snaps {
		if sn.node != nil {
			up[sn] = nearest(sn.node.parent)
		}
	}
	cur := nearest(h.parent)
	for _, o := range h.overlay() {
		switch o.kind {
		case record.Snapshot:
			if sn := h.snapAt(o.lsn); sn != nil {
				up[sn] = cur
				cur = sn
			}
		case record.Revert:
			if i := slices.IndexFunc(h.snaps, func(sn *snap) bool { return sn.shown(o.ctl.Snapshot, o.lsn) }); i >= 0 {
				cur = h.snaps[i]
			}
		}
	}
	kept := func(sn *snap) *snap {
		for sn != nil && sn.dropped != 0 {
			sn = up[sn]
		}
		return sn
	}
	parents = make(map[*snap]*snap)
	for _, sn := range h.snaps {
		parents[sn] = kept(up[sn])
	}
	return parents, kept(cur)
}

// shown reports whether the snapshot was the one of that name at an LSN.
func (sn *snap) shown(id holdfast.SnapshotID, at holdfast.LSN) bool {
	return sn.id == id && sn.lsn < at && (sn.dropped == 0 || sn.dropped > at)
}

// walkSlice is how many blocks a walk collects under one hold of the lock.
const walkSlice = 1024

// Changes says which blocks a walk of a pin shows.
type Changes struct {
	Root    holdfast.SnapshotID // of this snapshot; zero: of the head
	Since   holdfast.LSN        // those of a higher LSN
	Against holdfast.SnapshotID // or, if not zero, those in which it differs from this snapshot, its ancestor
}

// Walk calls f for every block that c asks for, from address from on,
// ascending, tombstones included, until f returns false. That blocks above
// c.Since are all that changed since is for the caller to know: it is not so
// if the content was set back between (Reverted). Kind NotFound if the pin does
// not show a snapshot, kind Conflict if Against is no ancestor.
func (p *Pin) Walk(c Changes, from uint64, f func(addr uint64, b BlockRef) bool) error {
	step := func(from uint64, f func(addr, n uint64, e blockmap.Entry, told bool) bool) error {
		return p.walk(c, from, func(addr, n uint64, e blockmap.Entry) bool { return f(addr, n, e, e.LSN != 0) })
	}
	return p.runs(from, step, func(addr, n uint64, ref BlockRef) bool {
		for i := range n {
			if !f(addr+i, ref) {
				return false
			}
			ref.LSN++
		}
		return true
	})
}

// runs calls f, without the lock, for what step tells of the map from address
// from on, until f returns false: blocks, and runs of n without data, block i of
// which has LSN ref.LSN+i if any. step is called under the lock, for a slice at a time.
func (p *Pin) runs(from uint64, step func(from uint64, f func(addr, n uint64, e blockmap.Entry, told bool) bool) error, f func(addr, n uint64, ref BlockRef) bool) error {
	type item struct {
		addr, n uint64
		ref     BlockRef
	}
	var items []item
	for done := false; !done; {
		items = items[:0]
		seen := 0
		err := p.r.s.withMap(func() error {
			err := step(from, func(addr, n uint64, e blockmap.Entry, told bool) bool {
				if told {
					items = append(items, item{addr, n, BlockRef{e.LSN, p.r.s.origins[e.Origin], e.Hash, e.Hole()}})
				}
				from = addr + n
				seen++
				return seen < walkSlice
			})
			done = err == nil && seen < walkSlice
			return err
		})
		if err != nil {
			return err
		}
		for _, it := range items {
			if !f(it.addr, it.n, it.ref) {
				return nil
			}
		}
	}
	return nil
}

// walk is a slice of Walk, under the lock. f is told of blocks that did not
// change with the zero entry.
func (p *Pin) walk(c Changes, from uint64, f func(addr, n uint64, e blockmap.Entry) bool) error {
	root, err := p.shown(c.Root)
	if err != nil {
		return err
	}
	if c.Against.IsZero() {
		return root.Walk(c.Since, from, f)
	}
	against, err := p.shown(c.Against)
	if err != nil {
		return err
	}
	var foreign error
	err = blockmap.Diff(root, against, from, func(addr, n uint64, e, old blockmap.Entry) bool {
		switch {
		case e.LSN < old.LSN:
			foreign = holdfast.Errorf(holdfast.Conflict, "replica %s: block %d of one root is older than that of another, which it should descend from", p.r.id, addr)
			return false
		case e.LSN == old.LSN: // the same block, stored twice
			e = blockmap.Entry{}
		}
		return f(addr, n, e)
	})
	if foreign != nil {
		return foreign
	}
	return err
}

// shown finds a root of the pin; the zero name is the head's.
func (p *Pin) shown(id holdfast.SnapshotID) (*blockmap.Root, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if id.IsZero() {
		return p.root, nil
	}
	if root := p.byID[id]; root != nil {
		return root, nil
	}
	return nil, holdfast.Errorf(holdfast.NotFound, "replica %s: the pin shows no snapshot %s", p.r.id, id.Short())
}

// ReadBlock reads and verifies what is stored of one block of a root of the pin
// into buf, which has room for holdfast.MaxStoredUnits, and returns the part of
// it that is filled: nothing of a hole. The zero name is the head's.
func (p *Pin) ReadBlock(root holdfast.SnapshotID, addr uint64, buf []byte) (BlockRef, []byte, error) {
	if len(buf) < holdfast.MaxStoredUnits*unitSize {
		return BlockRef{}, nil, holdfast.Errorf(holdfast.Invalid, "read of a block into %d bytes: make room for %d", len(buf), holdfast.MaxStoredUnits*unitSize)
	}
	s := p.r.s
	var ref BlockRef
	ft := s.storedFetching()
	defer ft.end()
	err := s.withMap(func() error {
		r, err := p.shown(root)
		if err != nil {
			return err
		}
		e, err := r.Get(addr)
		if err != nil {
			return err
		}
		ref = BlockRef{e.LSN, s.origins[e.Origin], e.Hash, e.Hole()}
		ft.begin(buf[:ref.Bytes()])
		ft.want(0, foundAt(e), addr)
		return nil
	})
	if err != nil {
		return ref, nil, err
	}
	err = ft.read()
	ft.unpin()
	if err != nil {
		return ref, nil, p.r.readError(err)
	}
	return ref, buf[:ref.Bytes()], nil
}

// ReadAtOnce is how many blocks ReadBlocks reads at most.
const ReadAtOnce = readBlocks

// ReadBlocks reads and verifies what is stored of some blocks of a root of the
// pin, at most ReadAtOnce, those that lie together with one read. If one of them
// fails, all do, and ReadBlock tells which. The zero name is the head's.
func (p *Pin) ReadBlocks(root holdfast.SnapshotID, addrs []uint64) ([][]byte, error) {
	if len(addrs) > readBlocks {
		return nil, holdfast.Errorf(holdfast.Invalid, "read of %d blocks at once, at most %d", len(addrs), readBlocks)
	}
	s := p.r.s
	buf := newBuffer(shape{header: roundUp(len(addrs)*holdfast.MaxStoredUnits*unitSize) / blockSize}).b
	out := make([][]byte, len(addrs))
	ft := s.storedFetching()
	defer ft.end()
	err := s.withMap(func() error {
		r, err := p.shown(root)
		if err != nil {
			return err
		}
		var found [readBlocks]found
		at := 0
		for i, addr := range addrs {
			e, err := r.Get(addr)
			if err != nil {
				return err
			}
			found[i] = foundAt(e)
			ref := BlockRef{e.LSN, s.origins[e.Origin], e.Hash, e.Hole()}
			n := ref.Bytes()
			out[i] = buf[at : at+n : at+n]
			at += n
		}
		ft.begin(buf)
		at = 0
		for i, addr := range addrs { // only now: nothing is pinned if a page of the map is missing
			ft.want(at, found[i], addr)
			at += len(out[i])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = ft.read()
	ft.unpin()
	if err != nil {
		return nil, p.r.readError(err)
	}
	return out, nil
}

func foundAt(e blockmap.Entry) found {
	return found{lsn: e.LSN, hash: e.Hash, origin: e.Origin, seg: e.Seg, slot: e.Slot}
}
