package store

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// An identity (origin, address, LSN) names one content for ever, and so does a
// slot of a segment. So a block can be restored from any replica that has it,
// whatever has become of either volume meanwhile, and without its writer.

// Restore replaces the stored bytes of a block that is at fault by good ones of
// the same identity, and reports whether it did: if nothing refers to the block
// any more, or it has been restored already, there is nothing to do.
func (s *Store) Restore(f Fault, b Block) (bool, error) {
	if b.Hole || b.Lost || f.seg == 0 || b.Addr != f.Addr || b.LSN != f.LSN || b.Origin != f.Origin || b.Hash != f.Hash {
		return false, holdfast.Errorf(holdfast.Invalid, "block %d at %v is not the one to be restored", b.Addr, b.LSN)
	}
	if err := b.check(); err != nil {
		return false, err
	}
	s.lock()
	r := s.replicas[f.Replica]
	s.unlock()
	if r == nil {
		return false, nil
	}
	return r.replaceBytes(b, func() (uint32, uint16, error) {
		if g := s.space.segs[f.seg]; g == nil || !g.isLive(f.slot) || !s.atFault(f) {
			return 0, 0, nil
		}
		return f.seg, f.slot, nil
	})
}

// replaceBytes logs good bytes for the block that find names, 0: none, and
// reports whether there was one. find runs
// under the lock; its error may be a *blockmap.Miss.
func (r *Replica) replaceBytes(b Block, find func() (uint32, uint16, error)) (bool, error) {
	s := r.s
	var bt *batch
	var seg, home uint32
	var slot, at uint16
	err := s.withMap(func() error {
		err := r.usable()
		if err == nil {
			seg, slot, err = find()
		}
		if err != nil || seg == 0 {
			return err
		}
		bt, at = s.putRepair(r, &b, seg, slot)
		home = bt.head.seg
		s.space.segs[home].readers++
		return nil
	})
	if err != nil || bt == nil {
		return false, err
	}
	err = s.durable(func() error { return nil })
	s.lock()
	defer s.unlock()
	s.space.segs[home].readers--
	if err == nil {
		s.space.move(seg, noPlace, []run{{seg: home, slot: slot, dst: at, n: uint16(checksum.Units(b.Hash))}})
		s.repairedAt(seg, slot)
		s.log.Info("block repaired", "disk", s.id.Disk.String(), "replica", r.id.String(), "block", b.Addr)
	}
	return err == nil, err
}

// Find reads what is stored of the block of an identity into dst, which is as
// long as its hash says, from whichever of the replica's roots has it: head, snapshots, what they descend
// from, and a head that a build has not replaced yet. Kind NotFound if none has.
func (r *Replica) Find(want Block, dst []byte) error {
	if !checksum.Proper(want.Hash) || len(dst) != checksum.Units(want.Hash)*unitSize || want.Hole || want.Addr >= holdfast.MaxVolumeBlocks {
		return holdfast.Errorf(holdfast.Invalid, "block %d at %v cannot be looked for", want.Addr, want.LSN)
	}
	s := r.s
	ft := s.storedFetching()
	defer ft.end()
	err := s.withMap(func() error {
		if err := r.usable(); err != nil {
			return err
		}
		f, err := r.holder(want)
		if err != nil {
			return err
		}
		ft.begin(dst)
		ft.want(0, f, want.Addr)
		return nil
	})
	if err != nil {
		return err
	}
	err = ft.read()
	ft.unpin()
	if err != nil {
		return r.readError(err)
	}
	return nil
}

// holder finds where a replica has an identity. Under the lock.
func (r *Replica) holder(want Block) (found, error) {
	is := func(f found) bool {
		return f.stored() && f.lsn == want.LSN && f.hash == want.Hash && r.s.origins[f.origin] == want.Origin
	}
	var seen map[*node]bool
	ancestors := func(n *node) (found, error) {
		for ; n != nil && !seen[n]; n = n.parent {
			if seen == nil {
				seen = make(map[*node]bool)
			}
			seen[n] = true
			if n.lsn < want.LSN || want.Addr >= n.root.Blocks() {
				continue
			}
			e, err := n.root.Get(want.Addr)
			if f := foundEntry(e); err != nil || is(f) {
				return f, err
			}
		}
		return found{}, nil
	}
	for _, h := range []*head{r.head, r.fallback} {
		if h == nil {
			continue
		}
		if want.Addr < h.blocks {
			if f, err := h.lookup(want.Addr); err != nil || is(f) {
				return f, err
			}
		}
		if f, err := ancestors(h.parent); err != nil || f.stored() {
			return f, err
		}
		for _, sn := range h.snaps {
			f, err := ancestors(sn.node)
			if sn.node == nil && want.Addr < sn.blocks {
				f, err = h.lookupSnap(sn, want.Addr)
			}
			if err != nil || is(f) {
				return f, err
			}
		}
	}
	return found{}, holdfast.Errorf(holdfast.NotFound, "replica %s does not have block %d of %v", r.id.Short(), want.Addr, want.LSN)
}

func foundEntry(e blockmap.Entry) found {
	return found{lsn: e.LSN, hash: e.Hash, origin: e.Origin, seg: e.Seg, slot: e.Slot}
}
