package store

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
)

// FromKind says what a root or a head that is being received begins as.
type FromKind uint8

// The kinds of a From.
const (
	FromNothing  FromKind = iota
	FromHead              // this replica's own content, which is stable and ends at At
	FromSnapshot          // a snapshot of this replica, or a root set aside, of LSN At
	FromOrigin            // what a linked clone was made of, on the same disk
)

// From is what a root or a head that is being received begins as: what is
// sent is only what differs from it.
type From struct {
	Kind     FromKind
	Snapshot holdfast.SnapshotID // FromSnapshot: of this replica; FromOrigin: of the origin, zero: its head
	Origin   holdfast.ReplicaID  // FromOrigin: a replica on this disk
	At       holdfast.LSN        // what it must show, else kind Conflict
}

// RootID names a root of a volume: its snapshot, and the LSN it was taken at.
type RootID struct {
	ID  holdfast.SnapshotID
	LSN holdfast.LSN
}

// taking is a root that is being received.
type taking struct {
	id   RootID
	from From
	head *head // of no records; base is what was received
}

// BeginRoot begins to receive a root that this replica lacks, of the given size
// in blocks. One that was begun before is given up, but the same, begun once more,
// goes on with what it has. The replica's head stays what it is. Kind Busy while
// that is being built; Conflict if the root is here already.
func (r *Replica) BeginRoot(a Attempt, id RootID, blocks uint64, from From) error {
	if id.ID.IsZero() || id.LSN == 0 || blocks == 0 || blocks > holdfast.MaxVolumeBlocks {
		return holdfast.Errorf(holdfast.Invalid, "a root of %d blocks at %v is out of range", blocks, id.LSN)
	}
	return r.s.withMap(func() error {
		if err := r.of(a); err != nil {
			return err
		}
		if r.fallback != nil {
			return holdfast.Errorf(holdfast.Busy, "replica %s is being built already", r.id)
		}
		if t := r.taking; t != nil && t.id == id && t.from == from && t.head.blocks == blocks {
			return nil
		}
		if r.findAside(id) != nil { // whole: begun again and ended again by what comes twice, it would not be
			return holdfast.Errorf(holdfast.Conflict, "replica %s has the root of %v already", r.id, id.LSN)
		}
		r.dropTaking()
		h, err := r.startFrom(from, id.LSN)
		if err != nil {
			return r.unreadable(err)
		}
		if blocks > h.base.Blocks() {
			if err := h.base.Grow(blocks); err != nil {
				h.base.Release()
				return err
			}
		}
		h.blocks = blocks
		r.taking = &taking{id: id, from: from, head: h}
		crashpoint.At(crashpoint.RootBegun)
		return nil
	})
}

// FinishRoot keeps the root that was received for the next build. It is durable
// on return or, while many are received, with one of the next; by the end of the
// build in any case. Repeating it changes nothing.
func (r *Replica) FinishRoot(a Attempt, id RootID) error {
	s := r.s
	s.lock()
	t := r.taking
	err := r.of(a)
	switch {
	case err != nil:
	case t != nil && t.id == id:
		h := t.head
		n := s.newNode(h.parent, h.base.Snapshot(), id.LSN)
		h.base.Release()
		r.taking = nil
		r.forgetAside(id.ID)
		r.aside = append(r.aside, &snap{id: id.ID, lsn: id.LSN, blocks: h.blocks, node: n})
		s.collect()
	case t == nil && r.findAside(id) != nil:
	default:
		err = holdfast.Errorf(holdfast.Conflict, "replica %s is not receiving the root of %v; begin it first", r.id, id.LSN)
	}
	crashpoint.At(crashpoint.RootFinished)
	due := t != nil && s.rootsDue()
	s.unlock()
	if err != nil || !due {
		return err
	}
	return s.Checkpoint()
}

// Roots that are received within rootsWait of one that was made durable are made
// so together, unless they are large: a checkpoint of each of thousands of small
// ones would take longer than they do.
const (
	rootsWait  = 100 * time.Millisecond
	rootsBytes = 4 << 20 // handed in since the last checkpoint
)

// rootsDue reports whether what was received should be made durable.
func (s *Store) rootsDue() bool {
	if now := s.clk.Now(); s.rootsKept == 0 || now-s.rootsKept >= rootsWait || s.wal.since >= rootsBytes {
		s.rootsKept = now
		return true
	}
	return false
}

// dropTaking gives up the root that is being received, if any.
func (r *Replica) dropTaking() {
	if r.taking == nil {
		return
	}
	h := r.taking.head
	r.taking = nil
	h.owned.each(r.s.freeAny)
	h.base.Release()
	h.building = nil
	r.s.collect()
}

func (r *Replica) findAside(id RootID) *snap {
	for _, sn := range r.aside {
		if sn.id == id.ID && sn.lsn == id.LSN {
			return sn
		}
	}
	return nil
}

// forgetAside lets go of a root of the same name.
func (r *Replica) forgetAside(id holdfast.SnapshotID) {
	r.aside = slices.DeleteFunc(r.aside, func(sn *snap) bool {
		if sn.id == id {
			sn.node.hidden = true
		}
		return sn.id == id
	})
}

// root finds the kept root of a snapshot: one set aside, else one of a head's.
func (r *Replica) root(h *head, id RootID) (*snap, error) {
	if sn := r.findAside(id); sn != nil {
		return sn, nil
	}
	return h.root(id)
}

// root finds the kept root of a snapshot of a head.
func (h *head) root(id RootID) (*snap, error) {
	if sn := h.snap(id.ID); sn != nil && sn.lsn == id.LSN && sn.node != nil {
		return sn, nil
	}
	return nil, holdfast.Errorf(holdfast.Conflict, "replica %s does not have the root of snapshot %s at %v; it must be sent first", h.r.id, id.ID.Short(), id.LSN)
}

// startFrom makes a head that begins as from says and takes blocks up to base.
// Under the lock; the error may be a *blockmap.Miss.
func (r *Replica) startFrom(from From, base holdfast.LSN) (*head, error) {
	n, err := r.startNode(from)
	if err != nil {
		return nil, err
	}
	var tree *blockmap.Tree
	if n != nil {
		tree = blockmap.FromRoot(n.root)
	} else if tree, err = r.s.pages.New(1); err != nil {
		return nil, err
	}
	h := newHead(r, tree)
	h.parent = n
	h.owned = make(slotSet)
	h.building = &build{base: base}
	h.prefix, h.durable, h.stable, h.pos = base, base, base, base
	return h, nil
}

// startNode finds or makes the kept root that a From names; nil is nothing.
func (r *Replica) startNode(from From) (*node, error) {
	switch from.Kind {
	case FromNothing:
		return nil, nil
	case FromHead:
		return r.headNode(from.At)
	case FromSnapshot:
		sn, err := r.root(r.head, RootID{from.Snapshot, from.At})
		if err != nil {
			return nil, err
		}
		return sn.node, nil
	case FromOrigin:
		n, err := r.s.originNode(from)
		if err == nil {
			r.mayHold(r.s.replicas[from.Origin].origins...)
		}
		return n, err
	}
	return nil, holdfast.Errorf(holdfast.Invalid, "a root cannot begin as %d", from.Kind)
}

// headNode keeps the head's whole content, which must be stable.
func (r *Replica) headNode(at holdfast.LSN) (*node, error) {
	h := r.head
	switch {
	case h.prefix != at:
		return nil, holdfast.Errorf(holdfast.Conflict, "replica %s ends at %v, not at %v", r.id, h.prefix, at)
	case h.stable < at:
		return nil, holdfast.Errorf(holdfast.Unavailable, "replica %s is stable only up to %v, not %v", r.id, h.stable, at)
	}
	if err := h.merge(at, mergeAll); err != nil {
		return nil, err
	}
	return h.keep(), nil
}

// originNode keeps what a linked clone was made of: a snapshot of another
// replica of this disk, or the head of one that has not been written since.
func (s *Store) originNode(from From) (*node, error) {
	o := s.replicas[from.Origin]
	if o == nil || o.build || o.finishing || o.damage != "" || o.head.building != nil {
		return nil, holdfast.Errorf(holdfast.Conflict, "replica %s, which the clone was made of, is not on disk %s or not whole", from.Origin.Short(), s.id.Disk.Short())
	}
	h := o.head
	if !from.Snapshot.IsZero() {
		sn, err := o.root(h, RootID{from.Snapshot, from.At})
		if err != nil {
			return nil, err
		}
		return sn.node, nil
	}
	if h.prefix < from.At || h.reverted > from.At || h.base.MaxLSN() > from.At || h.index.len() > 0 || len(h.zeros) > 0 || len(h.under) > 0 {
		return nil, holdfast.Errorf(holdfast.Conflict, "replica %s is not what it was at %v", o.id.Short(), from.At)
	}
	return h.keep(), nil
}

// keep returns a node that has all of the base.
func (h *head) keep() *node {
	if p := h.parent; p != nil && h.base.Same(p.root) {
		return p
	}
	n := h.r.s.newNode(h.parent, h.base.Snapshot(), h.pos)
	n.hidden = true
	h.parent = n
	return n
}
