package store

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

const catalogMagic = 0x31434648 // "HFC1"

// The catalog is a checkpoint's table of contents: everything of a store's
// state that is not in map pages. docs/format/store.md has its layout.

// catalogWriter encodes a catalog. Roots can be encoded only once their pages
// have been flushed: their places are kept and filled in later.
type catalogWriter struct {
	b     []byte
	roots []rootRef
}

type rootRef struct {
	at   int
	root *blockmap.Root
}

func (w *catalogWriter) u8(x uint8)   { w.b = append(w.b, x) }
func (w *catalogWriter) u16(x uint16) { w.b = le.AppendUint16(w.b, x) }
func (w *catalogWriter) u32(x uint32) { w.b = le.AppendUint32(w.b, x) }
func (w *catalogWriter) u64(x uint64) { w.b = le.AppendUint64(w.b, x) }
func (w *catalogWriter) uuid(u holdfast.UUID) {
	w.b = append(w.b, u[:]...)
}

func (w *catalogWriter) bool(x bool) {
	if x {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

// root takes over r.
func (w *catalogWriter) root(r *blockmap.Root) {
	w.roots = append(w.roots, rootRef{len(w.b), r})
	w.b = append(w.b, make([]byte, blockmap.RootSize)...)
}

// fillRoots puts the flushed roots into their places.
func (w *catalogWriter) fillRoots() error {
	for _, r := range w.roots {
		if _, err := r.root.AppendRoot(w.b[r.at:r.at]); err != nil {
			return err
		}
	}
	return nil
}

func (w *catalogWriter) release() {
	for _, r := range w.roots {
		r.root.Release()
	}
	w.roots = nil
}

// emptyCatalog is that of a disk that was just formatted: the two copies of
// the catalog itself are in places 0 and 1.
func emptyCatalog() []byte {
	var w catalogWriter
	w.start(0, 1, 1, 2)
	for range 6 { // origins, nodes, replicas, jobs, data segments, map segments
		w.u32(0)
	}
	return w.b
}

func (w *catalogWriter) start(nextNode uint64, nextNum, nextSeg, virgin uint32) {
	w.u32(catalogMagic)
	w.u32(FormatVersion)
	w.u64(nextNode)
	w.u32(nextNum)
	w.u32(nextSeg)
	w.u32(virgin)
}

// Where start puts what flushing changes.
const (
	nextSegAt = 20
	virginAt  = 24
)

// state encodes everything but the map segments. Under the store's lock.
func (w *catalogWriter) state(s *Store, free map[uint32]bool) {
	w.start(s.nextNode, s.nextNum, s.space.next, s.space.virgin)
	w.u32(uint32(len(s.origins)))
	for _, o := range s.origins {
		w.uuid(o.UUID)
	}
	w.u32(uint32(len(s.nodes)))
	for _, n := range s.nodes {
		w.node(n)
	}
	w.u32(uint32(len(s.sorted)))
	for _, r := range s.sorted {
		w.replica(r)
	}
	w.u32(uint32(len(s.jobs)))
	for _, j := range s.jobs {
		w.job(j)
	}
	w.segments(s, free)
}

func nodeID(n *node) uint64 {
	if n == nil {
		return 0
	}
	return n.id
}

func (w *catalogWriter) node(n *node) {
	w.u64(n.id)
	w.u64(nodeID(n.parent))
	w.u64(uint64(n.lsn))
	w.bool(n.hidden)
	w.root(n.root.Share())
}

func (w *catalogWriter) job(j *dropJob) {
	w.root(j.from.Share())
	n := 0
	for _, k := range j.keep {
		if k != nil {
			n++
		}
	}
	w.u8(uint8(n))
	for _, k := range j.keep {
		if k != nil {
			w.root(k.Share())
		}
	}
}

// replica encodes a replica; of one being built, the fallback.
func (w *catalogWriter) replica(r *Replica) {
	h := r.head
	if r.fallback != nil {
		h = r.fallback
	}
	w.u32(r.num)
	w.uuid(r.id.UUID)
	w.uuid(r.vol.UUID)
	w.u32(uint32(r.promise))
	w.u32(uint32(r.remembers))
	w.bool(r.build)
	w.bool(r.fallback != nil)
	damage := r.damage
	if r.passing {
		damage = ""
	}
	w.u16(uint16(len(damage)))
	w.b = append(w.b, damage...)
	w.u32(uint32(len(r.origins)))
	for _, i := range r.origins {
		w.u16(i)
	}
	w.head(h)
	w.snaps(r.aside)
}

// head encodes a base and the overlay over it. What the overlay changes of
// history, snapshots and size follows from its records.
func (w *catalogWriter) head(h *head) {
	w.u64(uint64(h.pos))
	w.u64(uint64(h.stable))
	w.u64(uint64(h.reverted))
	w.u64(nodeID(h.parent))
	w.root(h.base.Snapshot())
	n := 0
	for n < len(h.history) && startLSN(h.history[n]) <= h.pos {
		n++
	}
	w.u32(uint32(n))
	for _, st := range h.history[:n] {
		w.u32(uint32(st.Epoch))
		w.u32(uint32(st.Prev))
		w.u64(uint64(st.Cut))
		w.u32(st.Generation)
	}
	var snaps []*snap
	for _, sn := range h.snaps {
		if sn.node != nil {
			snaps = append(snaps, sn)
		}
	}
	w.snaps(snaps)
	w.u32(uint32(len(h.overlay())))
	for i := range h.overlay() {
		w.rec(&h.overlay()[i])
	}
}

func (w *catalogWriter) snaps(snaps []*snap) {
	w.u32(uint32(len(snaps)))
	for _, sn := range snaps {
		w.uuid(sn.id.UUID)
		w.u64(uint64(sn.lsn))
		w.u64(sn.blocks)
		w.u64(sn.node.id)
	}
}

func (w *catalogWriter) rec(o *orec) {
	rec := record.Record{Kind: o.kind, LSN: o.lsn, Addr: o.addr, Count: o.count}
	if o.ctl != nil {
		rec = *o.ctl
	}
	if o.kind == record.Write {
		rec.Hashes = o.b.hashes[o.idx : o.idx+o.count]
		w.u32(o.b.head.seg)
		w.u16(o.b.slotOf(o.idx))
	} else {
		w.u32(0)
		w.u16(0)
	}
	w.b = rec.AppendHeader(w.b)
}

// segments encodes the data segments that are not about to become free.
// Blocks that only pins and builds hold do not outlive a restart.
func (w *catalogWriter) segments(s *Store, free map[uint32]bool) {
	gone := s.transient()
	at := len(w.b)
	w.u32(0)
	n := uint32(0)
	s.space.each(func(g *segment) {
		if g.class == classMeta || free[g.num] && g.nlive == 0 {
			return
		}
		n++
		w.segment(s, g, free[g.num])
		g.live.thin()
		w.slots(g.live.without(gone[g.num], s.space.segBlocks))
	})
	le.PutUint32(w.b[at:], n)
}

// slots encodes a set of slots: a list as runs, else word by word.
func (w *catalogWriter) slots(set slots) {
	switch {
	case set.few || set.words == nil:
		w.u16(uint16(len(set.words)))
		for slot, n := range set.runs() {
			w.u16(slot)
			w.u16(n - 1)
		}
		return
	case set.fine:
		w.u16(fineBitmap)
	default:
		w.u16(coarseBitmap)
	}
	for _, x := range set.words {
		w.u32(x)
	}
}

// In place of a number of runs these announce words: with a bit per unit, with a
// bit per block.
const (
	fineBitmap   = 1<<16 - 1
	coarseBitmap = 1<<16 - 2
)

func (w *catalogWriter) segment(s *Store, g *segment, freed bool) {
	w.u32(g.num)
	if freed {
		w.u32(noPlace)
	} else {
		w.u32(g.place)
	}
	w.u8(uint8(g.class))
	if g == s.metaSegs[1] {
		w.u8(2)
	} else {
		w.bool(g.open)
	}
	w.u32(g.pos)
	w.moved(g.moved)
}

// mapSegments encodes the segments of map pages. Which of their blocks are
// live follows from the pages.
func (w *catalogWriter) mapSegments(s *Store, free map[uint32]bool) {
	le.PutUint32(w.b[nextSegAt:], s.space.next) // flushing has opened some
	le.PutUint32(w.b[virginAt:], s.space.virgin)
	at := len(w.b)
	w.u32(0)
	n := uint32(0)
	s.space.each(func(g *segment) {
		if g.class == classMeta && !(free[g.num] && g.nlive == 0) {
			n++
			w.segment(s, g, free[g.num])
		}
	})
	le.PutUint32(w.b[at:], n)
}

// transient is the blocks that only pins and builds hold.
func (s *Store) transient() slotSet {
	out := make(slotSet)
	add := func(seg uint32, slot, n uint16) { out.add(seg, slot, n, s.space.segBlocks) }
	for _, p := range s.pins {
		p.held.each(add)
	}
	s.builds(func(h *head) {
		h.owned.each(add)
		for _, o := range h.overlay() {
			if o.b != nil {
				for i := range o.count {
					add(o.b.head.seg, o.b.slotOf(o.idx+i), o.b.units(o.idx+i))
				}
			}
		}
	})
	return out
}
