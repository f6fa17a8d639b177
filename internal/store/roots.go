package store

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
)

// node is a kept root: a snapshot, or one that only its descendants need. Heads
// and nodes form a forest by parent. A block is freed by whoever held it alone:
// a head when it overwrites an entry that its parent does not have, a node when
// it goes, for the entries that neither its parent nor its one child has. That
// is what dead lists compute, found by comparing the trees (adr/0010).
type node struct {
	id     uint64
	parent *node
	root   *blockmap.Root
	lsn    holdfast.LSN
	hidden bool // no snapshot any more: goes when it has one child or none
	gone   bool // it went
	below  below
}

// below says what descends from a node; only families and what collects after
// it know it.
type below struct {
	kids int
	node *node // one of them, if one is a node
	head *head // likewise
	pins bool
}

// newNode keeps a root.
func (s *Store) newNode(parent *node, root *blockmap.Root, lsn holdfast.LSN) *node {
	s.nextNode++
	n := &node{id: s.nextNode, parent: parent, root: root, lsn: lsn}
	s.nodes = append(s.nodes, n)
	return n
}

// heads calls f for every head: builds, their fallbacks and roots that are
// being received included.
func (s *Store) heads(f func(*head)) {
	for _, r := range s.sorted {
		f(r.head)
		if r.fallback != nil {
			f(r.fallback)
		}
		if r.taking != nil {
			f(r.taking.head)
		}
	}
}

// builds calls f for every head that does not outlive a restart.
func (s *Store) builds(f func(*head)) {
	s.heads(func(h *head) {
		if h.building != nil {
			f(h)
		}
	})
}

// dropJob frees, in the background, the blocks of a root that went: those that
// are in neither of two others. Freeing twice is harmless, so that a job may
// start again after a crash.
type dropJob struct {
	from     *blockmap.Root
	keep     [2]*blockmap.Root // each may be nil
	at       uint64
	finished bool
}

// drop queues a job; it takes over from and shares the others.
func (s *Store) drop(from, a, b *blockmap.Root) {
	j := &dropJob{from: from}
	for i, k := range []*blockmap.Root{a, b} {
		if k != nil {
			j.keep[i] = k.Share()
		}
	}
	if j.keep[0] == nil {
		j.keep[0], j.keep[1] = j.keep[1], nil
	}
	s.jobs = append(s.jobs, j)
	s.merge.Set()
}

func (j *dropJob) release() {
	j.from.Release()
	for _, k := range j.keep {
		if k != nil {
			k.Release()
		}
	}
}

// dropHead frees what a head held alone. It is unlinked already.
func (s *Store) dropHead(h *head) {
	for _, o := range h.overlay() {
		if o.b == nil {
			continue
		}
		for i := range o.count {
			h.freeOverlay(o.b, o.idx+i, o.lsn+holdfast.LSN(i))
		}
	}
	h.recs, h.gone = nil, 0
	h.index.clear()
	h.zeros = nil
	h.under.drop()
	for _, sn := range h.snaps {
		sn.under.drop()
		if sn.node != nil {
			sn.node.hidden = true
		}
	}
	h.setSnaps(nil)
	var above *blockmap.Root
	if h.parent != nil {
		above = h.parent.root
	}
	s.drop(h.base.Snapshot(), above, nil)
	h.base.Release()
	s.collect()
}

// collect lets go of hidden nodes that have at most one child.
func (s *Store) collect() {
	s.litter = false
	var hidden []*node
	for _, n := range s.nodes {
		if n.hidden && !n.gone {
			hidden = append(hidden, n)
		}
	}
	if len(hidden) == 0 {
		return
	}
	s.families()
	for len(hidden) > 0 {
		n := hidden[len(hidden)-1]
		hidden = hidden[:len(hidden)-1]
		if n.gone || !s.dissolve(n) {
			continue
		}
		n.gone = true
		if n.parent != nil && n.parent.hidden {
			hidden = append(hidden, n.parent) // it may have had one child too many
		}
	}
	s.nodes = slices.DeleteFunc(s.nodes, func(n *node) bool { return n.gone })
}

// families finds what descends from each node.
func (s *Store) families() {
	for _, x := range s.nodes {
		x.below = below{}
	}
	for _, x := range s.nodes {
		if x.parent != nil {
			x.parent.below.kids++
			x.parent.below.node = x
		}
	}
	s.heads(func(h *head) {
		if h.parent != nil {
			h.parent.below.kids++
			h.parent.below.head = h
		}
	})
	for _, p := range s.pins {
		if p.parent != nil {
			p.parent.below.pins = true
		}
	}
}

// dissolve lets go of one node, if it has at most one child.
func (s *Store) dissolve(n *node) bool {
	b := &n.below
	if b.pins || b.kids > 1 || b.head != nil && b.head.building != nil { // a build that is given up must find what it began from
		return false
	}
	var above *blockmap.Root
	up := &below{}
	if n.parent != nil {
		above, up = n.parent.root, &n.parent.below
	}
	switch {
	case b.kids == 0:
		s.drop(n.root, above, nil)
		s.orphan(n, up)
	case b.node != nil:
		s.drop(n.root, b.node.root, above)
		b.node.parent = n.parent
		up.node = b.node
	default:
		b.head.r.inherit(n)
		now := b.head.base.Snapshot()
		s.drop(n.root, now, above)
		now.Release()
		b.head.parent = n.parent
		if up.node == n {
			up.node = nil
		}
		up.head = b.head
	}
	return true
}

// orphan takes a node off its parent, and finds the child that is left if it is
// the only one.
func (s *Store) orphan(n *node, up *below) {
	up.kids--
	if up.kids != 1 {
		return
	}
	up.node, up.head = nil, nil
	for _, x := range s.nodes {
		if x.parent == n.parent && x != n && !x.gone {
			up.node = x
		}
	}
	s.heads(func(h *head) {
		if h.parent == n.parent {
			up.head = h
		}
	})
}

// jobSlice is how many entries a job looks at under one hold of the lock.
const jobSlice = 2048

// step does a slice of the job; the error may be a *blockmap.Miss.
func (j *dropJob) step(s *Store) error {
	left := jobSlice
	var miss error
	visit := func(addr, n uint64, e blockmap.Entry) bool {
		if e.Stored() {
			if k := j.keep[1]; k != nil && addr < k.Blocks() {
				x, err := k.Get(addr)
				if err != nil {
					miss = err
					return false
				}
				if x == e {
					j.at = addr + n
					return true
				}
			}
			s.freeAny(e.Seg, e.Slot, unitsOf(e))
		}
		j.at = addr + n
		left--
		return left > 0
	}
	var err error
	if j.keep[0] != nil {
		err = blockmap.Diff(j.from, j.keep[0], j.at, func(addr, n uint64, e, _ blockmap.Entry) bool { return visit(addr, n, e) })
	} else {
		err = j.from.Walk(0, j.at, visit)
	}
	if miss != nil {
		return miss
	}
	if err == nil && left > 0 {
		j.finished = true
	}
	return err
}

// freeAny frees a block that a job found; any pin may still read it.
func (s *Store) freeAny(seg uint32, slot, n uint16) {
	if k := len(s.pins); k > 0 {
		s.pins[k-1].held.add(seg, slot, n, s.space.segBlocks)
		s.pins[k-1].foreign = true
		return
	}
	s.space.clear(seg, slot, n)
}
