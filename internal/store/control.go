package store

import (
	"math"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
)

const (
	createBytes   = 16 + 16 + 8
	cloneBytes    = 16 + 16 + 4 + 16 + 8 + 4
	repairBytes   = 4 + 4 + 16 + 8 + 8 + 8
	maxDamageText = 512
)

// Replicas returns the disk's replicas, sorted by identity.
func (s *Store) Replicas() []*Replica {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.sorted)
}

// Replica finds a replica; nil if it is absent.
func (s *Store) Replica(id holdfast.ReplicaID) *Replica {
	s.lock()
	defer s.unlock()
	return s.replicas[id]
}

// addReplica makes a replica known.
func (s *Store) addReplica(num uint32, id holdfast.ReplicaID, vol holdfast.VolumeID) (*Replica, error) {
	origin, err := s.originIndex(vol)
	if err != nil {
		return nil, err
	}
	r := &Replica{s: s, id: id, vol: vol, num: num, origin: origin, origins: []uint16{origin}}
	s.replicas[id] = r
	s.byNum[num] = r
	s.nextNum = max(s.nextNum, num+1)
	i, _ := slices.BinarySearchFunc(s.sorted, id, func(x *Replica, id holdfast.ReplicaID) int {
		return slices.Compare(x.id.UUID[:], id.UUID[:])
	})
	s.sorted = slices.Insert(s.sorted, i, r)
	return r, nil
}

// Create makes an empty replica with prefix 0, durable on return. Repeating it
// for the same replica and volume returns what is there; the same replica of
// another volume is kind Exists.
func (s *Store) Create(id holdfast.ReplicaID, vol holdfast.VolumeID, blocks uint64) (*Replica, error) {
	var r *Replica
	err := s.durable(func() error {
		var err error
		if r, err = s.existing(id, vol); r != nil || err != nil {
			return err
		}
		tree, err := s.pages.New(blocks)
		if err != nil {
			return err
		}
		if r, err = s.addReplica(s.nextNum, id, vol); err != nil {
			return err
		}
		r.head = newHead(r, tree)
		p := append(append([]byte(nil), id.UUID[:]...), vol.UUID[:]...)
		s.put(entryCreate, r.num, le.AppendUint64(p, blocks))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Store) existing(id holdfast.ReplicaID, vol holdfast.VolumeID) (*Replica, error) {
	if s.closing {
		return nil, holdfast.Errorf(holdfast.Closed, "disk %s is closed", s.id.Disk)
	}
	if id.IsZero() || vol.IsZero() {
		return nil, holdfast.Errorf(holdfast.Invalid, "a replica needs an identity and a volume")
	}
	if r := s.replicas[id]; r != nil {
		if r.vol != vol {
			return nil, holdfast.Errorf(holdfast.Exists, "replica %s is of volume %s, not of %s", id, r.vol, vol)
		}
		return r, nil
	}
	return nil, nil
}

// Clone makes a linked clone of a snapshot of from, or of its head (zero
// SnapshotID), which must be stable throughout: O(1), it shares map pages. Its
// prefix, durable and stable LSN are the root's; its history is empty.
func (s *Store) Clone(id holdfast.ReplicaID, vol holdfast.VolumeID, from *Replica, snap holdfast.SnapshotID) (*Replica, error) {
	if from == nil || from.s != s {
		return nil, holdfast.Errorf(holdfast.Invalid, "a clone needs a replica of the same disk to start from")
	}
	var r *Replica
	err := s.withMap(func() error {
		var err error
		if s.err != nil {
			return s.err
		}
		if r, err = s.existing(id, vol); r != nil || err != nil {
			return err
		}
		if err := from.usable(); err != nil {
			return err
		}
		at, err := from.head.cloneable(snap)
		if err != nil {
			return err
		}
		if err := from.head.merge(at, math.MaxInt); err != nil {
			return err
		}
		if r, err = s.addReplica(s.nextNum, id, vol); err != nil {
			return err
		}
		r.linkTo(from.head, snap)
		p := append(append([]byte(nil), id.UUID[:]...), vol.UUID[:]...)
		p = append(le.AppendUint32(p, from.num), snap.UUID[:]...)
		s.put(entryClone, r.num, append(le.AppendUint64(p, uint64(at)), 0, 0, 0, 0))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.durable(func() error { return nil }); err != nil {
		return nil, err
	}
	return r, nil
}

// cloneable finds the LSN of what is to be cloned.
func (h *head) cloneable(id holdfast.SnapshotID) (holdfast.LSN, error) {
	if h.building != nil {
		return 0, holdfast.Errorf(holdfast.Unavailable, "replica %s is being built; clone from another one", h.r.id)
	}
	at := h.prefix
	if !id.IsZero() {
		sn := h.snap(id)
		if sn == nil {
			return 0, holdfast.Errorf(holdfast.NotFound, "replica %s has no snapshot %s", h.r.id, id)
		}
		at = sn.lsn
	}
	if at > h.stable {
		return 0, holdfast.Errorf(holdfast.Unavailable, "replica %s: %v is not yet stable, only %v is; flush first", h.r.id, at, h.stable)
	}
	return at, nil
}

// linkTo makes r's head a child of a root of from: of a snapshot, which has
// been merged, or of from's whole content.
func (r *Replica) linkTo(from *head, id holdfast.SnapshotID) {
	s := r.s
	r.mayHold(from.r.origins...)
	var n *node
	blocks := from.blocks
	if !id.IsZero() {
		sn := from.snap(id)
		n, blocks = sn.node, sn.blocks
	} else if p := from.parent; p != nil && p.lsn == from.pos && from.reverted != from.pos {
		n = p // nothing was written since
	} else {
		n = s.newNode(from.parent, from.base.Snapshot(), from.pos)
		n.hidden = true
		from.parent = n
	}
	h := newHead(r, blockmap.FromRoot(n.root))
	h.blocks = blocks
	h.parent = n
	h.prefix, h.durable, h.stable, h.pos = n.lsn, n.lsn, n.lsn, n.lsn
	r.head = h
}

// Remove gives a replica up, durably; its space comes back in the background.
// Kind NotFound if it is not there.
func (s *Store) Remove(id holdfast.ReplicaID) error {
	return s.durable(func() error {
		r := s.replicas[id]
		if r == nil {
			return holdfast.Errorf(holdfast.NotFound, "disk %s has no replica %s", s.id.Disk, id)
		}
		s.put(entryRemove, r.num, nil)
		s.removeReplica(r)
		return nil
	})
}

func (s *Store) removeReplica(r *Replica) {
	if r.head.building != nil {
		r.abandon()
	}
	r.dropTaking()
	for _, sn := range r.aside {
		sn.node.hidden = true
	}
	r.aside = nil
	r.removed = true
	delete(s.replicas, r.id)
	delete(s.byNum, r.num)
	s.sorted = slices.DeleteFunc(s.sorted, func(x *Replica) bool { return x == r })
	s.dropHead(r.head)
}

// markDamaged makes a replica ineligible for good; the first reason stays.
func (r *Replica) markDamaged(why string) {
	if !r.setDamage(why, false) {
		return
	}
	if r.s.err == nil && r.s.running {
		r.s.put(entryDamage, r.num, []byte(r.damage))
	}
}

// markUnread makes a replica ineligible since a page of its map cannot be read. If
// that is for what the page holds, it is so for good. If the disk gave nothing, it
// may have been out for a moment, and it is so until the disk is opened again:
// nothing is lost of what the replica has, and it may be the last copy.
func (r *Replica) markUnread(err error) {
	why := "its block map cannot be read: " + err.Error()
	if holdfast.IsKind(err, holdfast.IO) {
		r.setDamage(why, true)
	} else {
		r.markDamaged(why)
	}
}

// setDamage notes why a replica is ineligible, unless that is known; passing: until
// the disk is opened again.
func (r *Replica) setDamage(why string, passing bool) bool {
	if r.damage != "" && (passing || !r.passing) || r.removed {
		return false
	}
	r.damage, r.passing = why[:min(len(why), maxDamageText)], passing
	r.s.log.Error("replica damaged", "disk", r.s.id.Disk.String(), "replica", r.id.String(), "why", r.damage)
	return true
}

// Repair replaces the stored bytes of a block by the same content from a peer:
// same LSN, origin and hash. It does nothing if the block has changed since.
// Snapshots and clones that share the block are repaired with it.
func (r *Replica) Repair(b Block) error {
	if b.Hole || b.Lost {
		return nil
	}
	if err := b.check(); err != nil {
		return err
	}
	s := r.s
	_, err := r.replaceBytes(b, func() (uint32, uint16, error) {
		if b.Addr >= r.head.blocks {
			return 0, 0, nil
		}
		f, err := r.head.lookup(b.Addr)
		if err != nil {
			return 0, 0, err
		}
		if f.b != nil {
			if !f.b.closed || f.b.buf != nil {
				return 0, 0, nil // the bytes are still in memory
			}
			f.seg, f.slot = f.b.head.seg, f.b.slotOf(f.idx)
		}
		if f.lsn != b.LSN || f.hash != b.Hash || s.origins[f.origin] != b.Origin {
			return 0, 0, nil
		}
		return f.seg, f.slot, nil
	})
	return err
}

// putRepair logs a repair and returns where the block's bytes will be. They are
// nothing of their own there: the slot they had stays their identity.
func (s *Store) putRepair(r *Replica, x *Block, seg uint32, slot uint16) (*batch, uint16) {
	b := s.openBatch(repairBytes)
	p := b.begin(entryRepair, r.num)
	p = le.AppendUint32(p, seg)
	p = le.AppendUint32(p, uint32(slot))
	p = append(p, x.Origin.UUID[:]...)
	p = le.AppendUint64(p, x.Addr)
	p = le.AppendUint64(p, uint64(x.LSN))
	b.end(le.AppendUint64(p, x.Hash))
	ref := s.putPayload(b, x)
	b.dead = append(b.dead, ref.idx)
	s.closeBatch()
	return b, b.slotOf(ref.idx)
}
