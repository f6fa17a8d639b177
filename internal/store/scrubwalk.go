package store

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

const (
	scrubPortion = 1 << 15 // blocks that are collected and sorted at once: 128 MiB
	scrubSlice   = 1024    // blocks that are collected under one hold of the lock
)

// scrubbed is a block to be read: its identity and what it must be.
type scrubbed struct {
	seg   uint32
	slot  uint16
	vol   holdfast.VolumeID // that it was written as
	place uint32            // where it was when the portion was sorted
	unit  uint16
	owner uint32 // number of a replica that has it
	addr  uint64
	lsn   holdfast.LSN
	hash  uint64
}

// units is how many units the block has.
func (it *scrubbed) units() int { return checksum.Units(it.hash) }

// collectPortion takes the next blocks of a pass, in the order in which they lie
// on the disk; ok is false at the pass's end. A root whose map cannot be read is
// passed over: its replica is damaged already.
func (s *Store) collectPortion(p *pass) (items []scrubbed, ok bool) {
	for len(items) < scrubPortion {
		var more bool
		at := *p
		n := len(items)
		err := s.withMap(func() error {
			if s.stopped || s.err != nil {
				more = false
				return nil
			}
			*p, items = at, items[:n]
			var err error
			items, more, err = s.collectSlice(p, items)
			return err
		})
		if err != nil {
			s.skipRoot(p, err)
			more = true
		}
		if !more {
			if len(items) == 0 {
				return nil, false
			}
			break
		}
	}
	s.lock()
	for i := range items {
		it := &items[i]
		if at, unit := s.space.locate(it.seg, it.slot); at != nil {
			it.place, it.unit = at.place, unit
		} else {
			it.place = noPlace
		}
	}
	s.unlock()
	slices.SortFunc(items, func(a, b scrubbed) int {
		if c := cmp.Compare(a.place, b.place); c != 0 {
			return c
		}
		return cmp.Compare(a.unit, b.unit)
	})
	return items, true
}

// collectSlice collects from the root that is next. Under the lock; the error
// may be a *blockmap.Miss, and then nothing has changed that matters.
func (s *Store) collectSlice(p *pass, items []scrubbed) ([]scrubbed, bool, error) {
	n, h := s.nextRoot(p)
	switch {
	case n != nil:
		return s.collectRoot(p, items, p.owner, n.root, n.parent, func() { p.leave(n.id) })
	case h != nil:
		root := h.base.Snapshot()
		defer root.Release()
		items, more, err := s.collectRoot(p, items, h.r, root, h.parent, func() { p.headPos, p.at = h.r.num, atNothing })
		if err == nil && p.at == atNothing {
			items = h.collectOverlay(items)
		}
		return items, more, err
	}
	return items, false, nil
}

func (p *pass) leave(node uint64) { p.nodePos, p.at, p.node = node, atNothing, nil }

// nextRoot finds what a pass looks at now: the lowest node that is not done, or
// the lowest head.
func (s *Store) nextRoot(p *pass) (*node, *head) {
	if p.at == atNode && p.node != nil && !p.node.gone && !p.owner.removed {
		return p.node, nil
	}
	if n, owner := s.lowestNode(p); n != nil {
		if p.at != atNode || p.node != nil {
			p.at, p.addr = atNode, 0
		}
		p.node, p.owner = n, owner
		return n, nil
	}
	p.node = nil
	var r *Replica
	for _, x := range s.sorted {
		if x.num > p.headPos && (r == nil || x.num < r.num) && (p.only == 0 || x.num == p.only) {
			r = x
		}
	}
	if r == nil {
		return nil, nil
	}
	if p.at != atHead || p.head != r.num {
		p.at, p.head, p.addr = atHead, r.num, 0
	}
	return nil, r.head
}

// lowestNode finds the lowest node that is not done, and a replica that has it.
func (s *Store) lowestNode(p *pass) (n *node, owner *Replica) {
	for _, r := range s.sorted {
		if p.only != 0 && r.num != p.only {
			continue
		}
		for x := range r.nodes() {
			if x.id > p.nodePos && (n == nil || x.id < n.id) {
				n, owner = x, r
			}
		}
	}
	return n, owner
}

// nodes returns what the replica's head and its snapshots show and descend from.
func (r *Replica) nodes() map[*node]bool {
	out := make(map[*node]bool)
	up := func(n *node) {
		for ; n != nil && !out[n]; n = n.parent {
			out[n] = true
		}
	}
	up(r.head.parent)
	for _, sn := range r.head.snaps {
		up(sn.node)
	}
	return out
}

// collectRoot collects a slice of what a root has and its parent has not.
func (s *Store) collectRoot(p *pass, items []scrubbed, owner *Replica, root *blockmap.Root, parent *node, end func()) ([]scrubbed, bool, error) {
	left := scrubSlice
	visit := func(addr, n uint64, e, _ blockmap.Entry) bool {
		if e.Stored() {
			items = append(items, scrubbed{seg: e.Seg, slot: e.Slot, vol: s.origins[e.Origin], owner: owner.num, addr: addr, lsn: e.LSN, hash: e.Hash})
		}
		p.addr = addr + n
		left--
		return left > 0
	}
	var err error
	if parent != nil {
		err = blockmap.Diff(root, parent.root, p.addr, visit)
	} else {
		err = root.Walk(0, p.addr, func(addr, n uint64, e blockmap.Entry) bool { return visit(addr, n, e, blockmap.Entry{}) })
	}
	if err == nil && left > 0 {
		end()
	}
	return items, true, err
}

// collectOverlay adds what is on the disk and not in the base yet.
func (h *head) collectOverlay(items []scrubbed) []scrubbed {
	for _, o := range h.overlay() {
		if o.b == nil || !o.b.closed || o.b.buf != nil {
			continue
		}
		for i := range o.count {
			items = append(items, scrubbed{seg: o.b.head.seg, slot: o.b.slotOf(o.idx + i), vol: h.r.vol, owner: h.r.num,
				addr: o.addr + uint64(i), lsn: o.lsn + holdfast.LSN(i), hash: o.b.hashes[o.idx+i]})
		}
	}
	return items
}

// skipRoot goes on behind a root whose map cannot be read, and marks whoever
// has it.
func (s *Store) skipRoot(p *pass, err error) {
	s.lock()
	defer s.unlock()
	n, h := s.nextRoot(p)
	switch {
	case n != nil:
		for _, r := range s.sorted {
			if r.nodes()[n] {
				_ = r.unreadable(err)
				r.miss()
			}
		}
		p.leave(n.id)
	case h != nil:
		_ = h.r.unreadable(err)
		h.r.miss()
		p.headPos, p.at = h.r.num, atNothing
	}
}
