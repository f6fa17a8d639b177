package store

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// Block is one block as it travels in a resync, rebuild or repair.
type Block struct {
	Addr   uint64
	LSN    holdfast.LSN
	Origin holdfast.VolumeID // the volume that it was written as
	Hash   uint64
	Hole   bool // a tombstone: no Hash, no Data
	Data   []byte
}

const ingestBytes = 48

func (b *Block) check() error {
	if b.Hole {
		if len(b.Data) != 0 || b.Hash != 0 {
			return holdfast.Errorf(holdfast.Invalid, "block %d: a hole with data", b.Addr)
		}
		return nil
	}
	if len(b.Data) != blockSize {
		return holdfast.Errorf(holdfast.Invalid, "block %d: %d bytes, need %d", b.Addr, len(b.Data), blockSize)
	}
	if checksum.Block(b.Origin, b.Addr, b.LSN, b.Data) != b.Hash {
		return holdfast.Errorf(holdfast.Corrupt, "block %d at %v does not match its hash; it was damaged on the way", b.Addr, b.LSN)
	}
	return nil
}

// build is what a head has more while a build is under way.
type build struct {
	base  holdfast.LSN // where the live stream continues
	made  []*node      // snapshots made by the stream
	drops []*node      // snapshots of the fallback, or made, that the stream dropped
}

// BeginBuild begins a resync or rebuild: it revokes eligibility durably, keeps
// the head as a fallback and goes on with a copy of it, or with nothing
// (fromScratch). From then on Append takes records following base, and Ingest
// blocks of LSN at or below base. A build under way is given up first.
func (r *Replica) BeginBuild(base holdfast.LSN, fromScratch bool) error {
	if err := r.AbortBuild(); err != nil {
		return err
	}
	s := r.s
	begun := false
	err := s.withMap(func() error {
		if err := r.usable(); err != nil {
			return err
		}
		if r.fallback != nil {
			return holdfast.Errorf(holdfast.Busy, "replica %s is being built already", r.id)
		}
		h, err := r.newBuild(base, fromScratch)
		if err != nil {
			return err
		}
		r.fallback, r.head, r.build = r.head, h, true
		s.put(entryBuild, r.num, nil)
		begun = true
		return nil
	})
	if err != nil || !begun {
		return err
	}
	return s.durable(func() error { return nil })
}

func (r *Replica) newBuild(base holdfast.LSN, fromScratch bool) (*head, error) {
	old := r.head
	var tree *blockmap.Tree
	var err error
	if fromScratch {
		tree, err = r.s.pages.New(old.blocks)
	} else {
		tree, err = old.flatten()
	}
	if err != nil {
		return nil, err
	}
	h := newHead(r, tree)
	h.owned = make(slotSet)
	h.building = &build{base: base}
	h.prefix, h.durable, h.stable, h.pos = base, base, base, base
	if fromScratch {
		return h, nil
	}
	h.parent, h.reverted = old.parent, old.reverted
	h.history = slices.Clone(old.history)
	for _, sn := range old.snaps {
		if sn.node != nil && sn.dropped == 0 {
			h.snaps = append(h.snaps, &snap{id: sn.id, lsn: sn.lsn, blocks: sn.blocks, node: sn.node})
		}
	}
	return h, nil
}

func (r *Replica) notBuilding() error {
	return holdfast.Errorf(holdfast.Conflict, "replica %s is not being built; call BeginBuild first", r.id)
}

// Ingest puts blocks of LSN at or below the build's base into the build, in any
// order; per block the higher LSN wins. Hashes are verified (kind Corrupt). The
// blocks are not durable before FinishBuild.
func (r *Replica) Ingest(blocks []Block) error {
	for i := range blocks {
		if err := blocks[i].check(); err != nil {
			return err
		}
	}
	s := r.s
	s.lock()
	h := r.head
	err := r.usable()
	switch {
	case err != nil:
	case h.building == nil:
		err = r.notBuilding()
	case s.floor():
		err = holdfast.Errorf(holdfast.NoSpace, "disk %s is full; the build of replica %s cannot go on", s.id.Disk, r.id)
	default:
		err = h.fit(blocks)
	}
	if err != nil {
		s.unlock()
		return err
	}
	entries := make([]blockmap.Entry, len(blocks))
	refs := make([]oref, len(blocks))
	for i := range blocks {
		refs[i] = s.putIngest(r, &blocks[i])
	}
	s.closeBatch()
	for i := range blocks {
		b := &blocks[i]
		entries[i] = blockmap.Entry{LSN: b.LSN, Origin: s.originIndex(b.Origin)}
		if !b.Hole {
			entries[i].Hash = b.Hash
			entries[i].Seg, entries[i].Slot = refs[i].b.head.seg, refs[i].b.slot+uint16(refs[i].idx)
			h.owned.add(entries[i].Seg, entries[i].Slot, s.space.segBlocks)
		}
	}
	s.unlock()
	at := 0
	err = s.withMap(func() error {
		for ; at < len(blocks); at++ {
			if r.head != h {
				return r.notBuilding()
			}
			if err := h.ingest(blocks[at].Addr, entries[at]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.wait(func(done func(error)) error {
		s.afterWrite(done)
		return nil
	})
}

// fit checks blocks against the build.
func (h *head) fit(blocks []Block) error {
	for i := range blocks {
		b := &blocks[i]
		if b.LSN > h.building.base || b.LSN == 0 {
			return holdfast.Errorf(holdfast.Invalid, "block %d has LSN %v, but the build takes blocks up to %v; later ones come as records", b.Addr, b.LSN, h.building.base)
		}
		if b.Addr >= holdfast.MaxVolumeBlocks {
			return holdfast.Errorf(holdfast.Invalid, "block %d is beyond the largest volume", b.Addr)
		}
		if b.Addr >= h.base.Blocks() { // the volume has grown since
			if err := h.base.Grow(b.Addr + 1); err != nil {
				return err
			}
			h.blocks = max(h.blocks, b.Addr+1)
		}
	}
	return nil
}

func (s *Store) putIngest(r *Replica, x *Block) oref {
	b := s.openBatch(ingestBytes)
	p := b.begin(entryIngest, r.num)
	p = append(p, x.Origin.UUID[:]...)
	p = le.AppendUint64(p, x.Addr)
	p = le.AppendUint64(p, uint64(x.LSN))
	p = le.AppendUint64(p, x.Hash)
	hole := byte(0)
	if x.Hole {
		hole = 1
	}
	b.end(append(p, hole, 0, 0, 0, 0, 0, 0, 0))
	return s.putPayload(b, x)
}

// putPayload adds a block's data, if it has any, to a batch.
func (s *Store) putPayload(b *batch, x *Block) oref {
	ref := oref{lsn: x.LSN, b: b, idx: uint32(b.n)}
	if !x.Hole {
		copy(b.payload(s.shape, b.n, 1), x.Data)
		b.n++
		b.hashes = append(b.hashes, x.Hash)
		s.wal.pending += blockSize
		s.usage.Appended += blockSize
	}
	return ref
}

// ingest applies one block to the base unless it has a newer one.
func (h *head) ingest(addr uint64, e blockmap.Entry) error {
	old, err := h.base.Get(addr)
	if err != nil {
		return err
	}
	if old.LSN >= e.LSN {
		if e.Stored() {
			h.giveBack(e)
		}
		return nil
	}
	return h.replace(addr, e)
}

// FinishBuild ends a build: everything is durable on return, the replica has
// the history and at least the size given, the fallback is gone, and Building
// and Damage are cleared.
func (r *Replica) FinishBuild(history []record.Start, blocks uint64) error {
	s := r.s
	if err := s.durable(func() error {
		if err := r.usable(); err != nil {
			return err
		}
		if r.head.building == nil {
			return r.notBuilding()
		}
		return nil
	}); err != nil {
		return err
	}
	if err := r.settleOverlay(); err != nil {
		return err
	}
	s.lock()
	h, old := r.head, r.fallback
	if h.building == nil {
		s.unlock()
		return r.notBuilding()
	}
	if blocks > h.base.Blocks() && blocks <= holdfast.MaxVolumeBlocks {
		if err := h.base.Grow(blocks); err != nil {
			s.unlock()
			return err
		}
	}
	h.blocks = max(h.blocks, blocks)
	h.adopt(history)
	r.dropFallback(old)
	r.fallback, r.finishing = nil, true
	r.build, r.damage = false, ""
	s.unlock()
	err := s.Checkpoint()
	s.lock()
	r.finishing = false
	if err != nil {
		r.build = true
	}
	s.unlock()
	return err
}

// adopt sets the history of what is in the base; starts that came in the
// stream follow.
func (h *head) adopt(history []record.Start) {
	var stream []record.Start
	for _, o := range h.overlay() {
		if o.kind == record.EpochStart {
			stream = append(stream, o.ctl.Start)
		}
	}
	h.history = slices.Clone(history)
	for _, st := range stream {
		if n := len(h.history); n == 0 || h.history[n-1].Epoch < st.Epoch {
			h.history = append(h.history, st)
		}
	}
	b := h.building
	h.building, h.owned = nil, nil
	for _, n := range b.drops {
		n.hidden = true
	}
}

// settleOverlay frees the blocks of the fallback's overlay that the build has
// replaced, and keeps the others.
func (r *Replica) settleOverlay() error {
	s := r.s
	return s.withMap(func() error {
		if r.head.building == nil || r.fallback == nil {
			return r.notBuilding()
		}
		old := r.fallback
		for ; old.settled < len(old.recs); old.settled++ {
			o := &old.recs[old.settled]
			if old.settled < old.gone || o.b == nil {
				continue
			}
			for i := range o.count {
				e := old.entryOf(o.b, o.idx+i, o.lsn+holdfast.LSN(i))
				x, err := r.head.base.Get(o.addr + uint64(i))
				if err != nil {
					return err
				}
				if x != e {
					r.unneeded = append(r.unneeded, e)
				}
			}
		}
		return nil
	})
}

// dropFallback gives up the head before the build.
func (r *Replica) dropFallback(old *head) {
	s, h := r.s, r.head
	for _, e := range r.unneeded {
		r.free(e.Seg, e.Slot, e.LSN)
	}
	r.unneeded = nil
	for _, sn := range old.snaps {
		kept := slices.ContainsFunc(h.snaps, func(x *snap) bool { return x.node == sn.node })
		if sn.node != nil && !kept {
			sn.node.hidden = true
		}
		if sn.node == nil {
			sn.under.drop()
		}
	}
	old.under.drop()
	now := h.base.Snapshot()
	var above *blockmap.Root
	if old.parent != nil {
		above = old.parent.root
	}
	s.drop(old.base.Snapshot(), now, above)
	now.Release()
	old.base.Release()
	r.fallback = nil
	s.collect()
}

// AbortBuild gives a build up and returns to the fallback. The replica stays
// not eligible. Without a build it does nothing.
func (r *Replica) AbortBuild() error {
	return r.s.durable(func() error {
		if err := r.usable(); err != nil {
			return err
		}
		if r.head.building == nil {
			return nil
		}
		r.abandon()
		r.s.put(entryAbort, r.num, nil)
		return nil
	})
}

// abandon returns to the fallback. Under the lock.
func (r *Replica) abandon() {
	s, h := r.s, r.head
	for _, o := range h.overlay() {
		if o.b != nil {
			for i := range o.count {
				h.freeOverlay(o.b, o.idx+i, o.lsn+holdfast.LSN(i))
			}
		}
	}
	h.owned.each(func(seg uint32, slot uint16) { s.freeAny(seg, slot) })
	for _, n := range h.building.made {
		n.root.Release()
		s.nodes = slices.DeleteFunc(s.nodes, func(x *node) bool { return x == n })
	}
	for _, sn := range h.snaps {
		sn.under.drop()
	}
	h.under.drop()
	h.base.Release()
	h.recs, h.gone, h.building = nil, 0, nil
	r.head, r.fallback, r.unneeded = r.fallback, nil, nil
	r.head.settled = 0
	r.head.durable = r.head.prefix
	s.collect()
}
