package store

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// Pin keeps the head and the snapshots as they were for walking, as for a
// resync. It is not durable, and it keeps the space of what is overwritten or
// let go meanwhile.
type Pin struct {
	r        *Replica
	lsn      holdfast.LSN
	root     *blockmap.Root
	kept     []keptRoot // snapshots, ascending
	byID     map[holdfast.SnapshotID]*blockmap.Root
	above    holdfast.SnapshotID
	parent   *node
	reverted holdfast.LSN
	held     slotSet // freed since, and freed for good at Release
	foreign  bool    // held has blocks that other replicas freed
	released bool
}

// BlockRef says what a block holds.
type BlockRef struct {
	LSN    holdfast.LSN
	Origin holdfast.VolumeID // the volume that it was written as: it seeds the hash
	Hash   uint64
	Hole   bool
}

// Bytes is how long what is stored of the block is; 0 of a hole or a block that
// was never written.
func (b *BlockRef) Bytes() int {
	if b.LSN == 0 || b.Hole {
		return 0
	}
	return min(checksum.Units(b.Hash), holdfast.MaxStoredUnits) * unitSize
}

// Pin keeps the head as of its current prefix, and the snapshots. If the map
// cannot be read, every method of the pin says so.
func (r *Replica) Pin() *Pin { return r.pin(true) }

// PinHead is Pin without the snapshots.
func (r *Replica) PinHead() *Pin { return r.pin(false) }

func (r *Replica) pin(snaps bool) *Pin {
	p := &Pin{r: r, held: make(slotSet)}
	err := r.s.withMap(func() error {
		if err := r.usable(); err != nil {
			return err
		}
		h := r.head
		tree, err := h.flatten()
		if err != nil {
			return err
		}
		p.root = tree.Snapshot()
		tree.Release()
		if snaps {
			if err := p.keep(h); err != nil {
				p.drop()
				return err
			}
		}
		p.lsn, p.parent, p.reverted = h.prefix, h.parent, h.reverted
		for _, o := range h.overlay() {
			if o.kind == record.Revert {
				p.reverted = o.lsn
			}
		}
		r.pins = append(r.pins, p)
		r.s.pins = append(r.s.pins, p)
		return nil
	})
	if err != nil {
		r.s.log.Warn("pin failed", "replica", r.id.String(), "err", err)
	}
	return p
}

// flatten returns a new tree with the overlay applied. Under the lock; the
// error may be a *blockmap.Miss.
func (h *head) flatten() (*blockmap.Tree, error) {
	return h.flattened(h.blocks, &h.index, h.zeros, h.under.top())
}

// flattened returns a new tree with some state of the overlay applied.
func (h *head) flattened(blocks uint64, index *overlayIndex, zeros zeroRanges, view *blockmap.Root) (*blockmap.Tree, error) {
	h.r.s.closeBatch()
	h.r.s.commit.Set()
	var under *blockmap.Root
	if view != nil {
		under = view.Share()
	} else {
		under = h.base.Snapshot()
	}
	tree := blockmap.FromRoot(under)
	under.Release()
	if err := h.overlayOn(tree, blocks, index, zeros); err != nil {
		tree.Release()
		return nil, err
	}
	return tree, nil
}

func (h *head) overlayOn(tree *blockmap.Tree, blocks uint64, index *overlayIndex, zeros zeroRanges) error {
	if blocks > tree.Blocks() {
		if err := tree.Grow(blocks); err != nil {
			return err
		}
	}
	for _, z := range zeros.above(h.pos) { // below the tree has it, and what was written over it
		for z.n > 0 {
			done, err := tree.SetRange(z.addr, z.n, z.lsn, h.r.origin, nil)
			if err != nil {
				return err
			}
			z = zeroRange{z.addr + done, z.n - done, z.lsn + holdfast.LSN(done)}
		}
	}
	for _, addr := range index.sorted() {
		lsn, _ := index.get(addr)
		if z, ok := zeros.find(addr); ok && z > lsn {
			continue
		}
		b, idx := h.written(lsn)
		if b == nil {
			continue // the tree has it
		}
		if _, err := tree.Set(addr, h.entryOf(b, idx, lsn)); err != nil {
			return err
		}
	}
	return nil
}

// LSN is the prefix that the pin shows.
func (p *Pin) LSN() holdfast.LSN { return p.lsn }

// Reverted is the volume's last revert as of the pin: a delta since an LSN
// below it is not possible.
func (p *Pin) Reverted() holdfast.LSN { return p.reverted }

// Release lets the pin go; a second call does nothing.
func (p *Pin) Release() {
	s := p.r.s
	s.lock()
	defer s.unlock()
	if p.released {
		return
	}
	p.released = true
	if p.root == nil {
		return
	}
	isP := func(x *Pin) bool { return x == p }
	p.r.pins = slices.DeleteFunc(p.r.pins, isP)
	s.pins = slices.DeleteFunc(s.pins, isP)
	p.drop()
	var heir *Pin
	if n := len(p.r.pins); n > 0 {
		heir = p.r.pins[n-1]
	} else if n := len(s.pins); n > 0 && p.foreign {
		heir = s.pins[n-1]
	}
	p.held.each(func(seg uint32, slot, n uint16) {
		if heir != nil {
			heir.held.add(seg, slot, n, s.space.segBlocks)
		} else {
			s.space.clear(seg, slot, n)
		}
	})
	if heir != nil {
		heir.foreign = heir.foreign || p.foreign
	}
	p.held = nil
	s.collect()
	s.kick()
}

func (p *Pin) check() error {
	switch {
	case p.root == nil:
		return holdfast.Errorf(holdfast.Unavailable, "replica %s could not be pinned", p.r.id)
	case p.released:
		return holdfast.Errorf(holdfast.Closed, "the pin was released")
	case p.r.s.stopped:
		return holdfast.Errorf(holdfast.Closed, "disk %s is closed", p.r.s.id.Disk)
	}
	return nil
}

// Tail calls f with the records above after, in order, Data included, up to
// about maxBytes of data but at least one. Kind Gap if they are not kept apart
// any more, which never happens for after at or above Stable. It stops at f's
// first error and returns it.
func (r *Replica) Tail(after holdfast.LSN, maxBytes int, f func(*record.Record) error) error {
	return r.tail(after, maxBytes, r.usable, f)
}

func (r *Replica) tail(after holdfast.LSN, maxBytes int, usable func() error, f func(*record.Record) error) error {
	for first := true; first || maxBytes > 0; first = false {
		var rec record.Record
		s := r.s
		ft := s.storedFetching()
		s.lock()
		err := usable()
		if err == nil && after < r.head.pos {
			err = holdfast.Errorf(holdfast.Gap, "replica %s: records above %v are not kept apart any more, only those above %v", r.id, after, r.head.pos)
		}
		var ok bool
		if err == nil {
			rec, ok = r.head.next(after)
		}
		if ok && rec.Kind == record.Write {
			r.tailData(ft, &rec)
		}
		s.unlock()
		if err == nil && ok {
			err = ft.read()
			ft.unpin()
		}
		ft.end()
		if !ok {
			return err
		}
		if err != nil {
			return r.readError(err)
		}
		if err := f(&rec); err != nil {
			return err
		}
		after = rec.Last()
		maxBytes -= record.HeaderSize + len(rec.Data)
	}
	return nil
}

// next finds the overlay's first record above an LSN, cut to what is above.
func (h *head) next(after holdfast.LSN) (record.Record, bool) {
	ov := h.overlay()
	i, _ := slices.BinarySearchFunc(ov, after+1, func(o orec, l holdfast.LSN) int {
		if o.last() < l {
			return -1
		}
		return 1
	})
	if i == len(ov) {
		return record.Record{}, false
	}
	o := ov[i]
	if o.ctl != nil {
		return *o.ctl, true
	}
	if o.lsn <= after {
		n := uint32(after - o.lsn + 1)
		o.lsn, o.addr, o.idx, o.count = o.lsn+holdfast.LSN(n), o.addr+uint64(n), o.idx+n, o.count-n
	}
	rec := record.Record{Kind: o.kind, LSN: o.lsn, Addr: o.addr, Count: o.count}
	if o.kind == record.Write {
		rec.Hashes = slices.Clone(o.b.hashes[o.idx : o.idx+o.count])
	}
	return rec, true
}

// tailData makes room for a record's data and asks for it. Under the lock.
func (r *Replica) tailData(ft *fetching, rec *record.Record) {
	rec.Data = make([]byte, checksum.Length(rec.Hashes))
	ft.begin(rec.Data)
	at := 0
	ov := r.head.overlay()
	i, _ := slices.BinarySearchFunc(ov, rec.LSN, func(o orec, l holdfast.LSN) int {
		if o.last() < l {
			return -1
		}
		return 1
	})
	o := &ov[i]
	for k := range int(rec.Count) {
		ft.want(at, found{lsn: rec.LSN + holdfast.LSN(k), hash: rec.Hashes[k], origin: r.origin, b: o.b, idx: o.idx + uint32(rec.LSN-o.lsn) + uint32(k)}, rec.Addr+uint64(k))
		at += checksum.Units(rec.Hashes[k]) * unitSize
	}
}
