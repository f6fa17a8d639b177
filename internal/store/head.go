package store

import (
	"cmp"
	"math"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// head is the content of a replica: a base map of everything up to pos, under
// an overlay of the records above it. Under the store's lock.
type head struct {
	r        *Replica
	prefix   holdfast.LSN
	durable  holdfast.LSN
	stable   holdfast.LSN
	noted    bool // in wal.stable
	lastIn   *batch
	blocks   uint64 // as of prefix
	history  []record.Start
	snaps    []*snap                       // by LSN; those above pos have no node yet
	named    map[holdfast.SnapshotID]*snap // those that are kept as of prefix
	base     *blockmap.Tree
	pos      holdfast.LSN // last LSN in base
	reverted holdfast.LSN // last Revert in base: deltas since an LSN below mean nothing
	parent   *node        // root that base descends from
	building *build       // a build is under way
	owned    slotSet      // a build: the blocks that it has beyond its parent's; else nil
	stuck    bool         // its map cannot be read; it is damaged

	recs  []orec // above pos, by LSN
	gone  int    // front of recs that is merged
	index overlayIndex
	zeros zeroRanges
	under // what is under index and zeros
}

// under is what lies below an overlay: nothing but the base, or the Reverts
// that are not merged yet and still matter, oldest first. Only the first counts
// for reading; when it has been merged the base is what it made, and the next
// one counts.
type under []layer

// layer is one such Revert.
type layer struct {
	at   holdfast.LSN   // of the Revert
	view *blockmap.Root // root of the snapshot that it returns to
	to   *snap          // the snapshot, while it has no root: then the base is its beginning
}

// top is the root to read below the overlay; nil: the base.
func (u under) top() *blockmap.Root {
	if len(u) == 0 {
		return nil
	}
	return u[0].view
}

func (u *under) drop() { u.merged(math.MaxUint64) }

// merged takes off the Reverts up to an LSN.
func (u *under) merged(l holdfast.LSN) {
	for len(*u) > 0 && (*u)[0].at <= l {
		if v := (*u)[0].view; v != nil {
			v.Release()
		}
		*u = (*u)[1:]
	}
}

// share returns the layers above an LSN.
func (u under) share(above holdfast.LSN) under {
	var out under
	for _, l := range u {
		if l.at <= above {
			continue
		}
		if l.view != nil {
			l.view = l.view.Share()
		}
		out = append(out, l)
	}
	return out
}

// settle gives the layers that wait for a snapshot's root what they wait for.
func (u under) settle(sn *snap) {
	for i := range u {
		if u[i].to == sn {
			u[i].to, u[i].view = nil, sn.node.root.Share()
		}
	}
}

// orec is a record of the overlay, or what is left of one.
type orec struct {
	kind  record.Kind
	count uint32
	idx   uint32 // Write: its first block in b
	lsn   holdfast.LSN
	addr  uint64
	b     *batch         // Write
	ctl   *record.Record // control records
}

func (o *orec) last() holdfast.LSN {
	if o.count > 0 {
		return o.lsn + holdfast.LSN(o.count-1)
	}
	return o.lsn
}

// snap is a snapshot of a volume.
type snap struct {
	id      holdfast.SnapshotID
	lsn     holdfast.LSN
	blocks  uint64
	node    *node        // nil while its record is in the overlay
	dropped holdfast.LSN // LSN of its DropSnap in the overlay, 0: none

	index overlayIndex // without a node: the overlay as it was
	zeros zeroRanges
	under under
}

func newHead(r *Replica, base *blockmap.Tree) *head {
	return &head{r: r, base: base, blocks: base.Blocks(), index: newOverlayIndex(), named: make(map[holdfast.SnapshotID]*snap)}
}

func (h *head) overlay() []orec { return h.recs[h.gone:] }

// add applies a record that follows the prefix to the overlay.
func (h *head) add(o orec) {
	h.recs = append(h.recs, o)
	h.prefix = o.last()
	switch o.kind {
	case record.Write:
		for i := range o.count {
			h.index.set(o.addr+uint64(i), o.lsn+holdfast.LSN(i))
		}
	case record.Zero:
		h.zeros.set(o.addr, uint64(o.count), o.lsn)
	case record.EpochStart:
		h.history = append(h.history, o.ctl.Start)
	case record.Grow:
		h.blocks = max(h.blocks, o.ctl.Blocks)
	case record.Snapshot:
		if h.snap(o.ctl.Snapshot) == nil {
			sn := &snap{id: o.ctl.Snapshot, lsn: o.lsn, blocks: h.blocks,
				index: h.index.clone(), zeros: slices.Clone(h.zeros), under: h.under.share(h.pos)}
			h.snaps = append(h.snaps, sn)
			h.named[sn.id] = sn
		}
	case record.DropSnap:
		if sn := h.snap(o.ctl.Snapshot); sn != nil {
			sn.dropped = o.lsn
			delete(h.named, sn.id)
		}
	case record.Revert:
		h.revert(o.ctl.Snapshot, o.lsn)
	}
}

// snap finds a snapshot that is kept as of the prefix.
func (h *head) snap(id holdfast.SnapshotID) *snap { return h.named[id] }

// setSnaps replaces the list of snapshots.
func (h *head) setSnaps(snaps []*snap) {
	h.snaps = snaps
	h.named = make(map[holdfast.SnapshotID]*snap, len(snaps))
	for _, sn := range snaps {
		if sn.dropped == 0 {
			h.named[sn.id] = sn
		}
	}
}

// snapAt finds the snapshot of an LSN.
func (h *head) snapAt(l holdfast.LSN) *snap {
	i, ok := slices.BinarySearchFunc(h.snaps, l, func(sn *snap, l holdfast.LSN) int { return cmp.Compare(sn.lsn, l) })
	if !ok {
		return nil
	}
	return h.snaps[i]
}

// revert makes a snapshot's content the head's again.
func (h *head) revert(id holdfast.SnapshotID, at holdfast.LSN) {
	sn := h.snap(id)
	if sn == nil {
		return // refused at the writer; without effect here
	}
	h.under.drop()
	if sn.node != nil {
		h.under = under{{at: at, view: sn.node.root.Share()}}
		h.index.clear()
		h.zeros = nil
		return
	}
	h.index.clear()
	h.zeros = sn.zeros.above(h.pos)
	for addr, lsn := range sn.index.all() {
		if lsn > h.pos { // else the base has it by now, and nothing would take it off the index
			h.index.set(addr, lsn)
		}
	}
	h.under = append(sn.under.share(h.pos), layer{at: at, to: sn})
}

// rooted tells everything that waits for the root of sn that it is there.
func (h *head) rooted(sn *snap) {
	h.under.settle(sn)
	for i := len(h.snaps) - 1; i >= 0 && h.snaps[i].lsn > sn.lsn; i-- { // only these have no root yet
		h.snaps[i].under.settle(sn)
	}
	sn.index.clear()
	sn.zeros = nil
	sn.under.drop()
}

// truncate drops what is above cut from the overlay; cut is at least pos. It
// frees the blocks and computes anew what the overlay changes.
func (h *head) truncate(cut holdfast.LSN) {
	s := h.r.s
	keep := h.recs[:h.gone]
	for _, o := range h.overlay() {
		switch {
		case o.last() <= cut:
			keep = append(keep, o)
			continue
		case o.lsn <= cut: // only a data record spans several LSNs
			whole := o
			o.count = uint32(cut - o.lsn + 1)
			keep = append(keep, o)
			whole.idx, whole.count, whole.lsn = o.idx+o.count, whole.count-o.count, cut+1
			o = whole
		}
		if o.kind == record.Write {
			for i := range o.count {
				h.freeOverlay(o.b, o.idx+i, o.lsn+holdfast.LSN(i))
			}
		}
	}
	clear(h.recs[len(keep):])
	h.recs = append([]orec(nil), keep[h.gone:]...)
	h.gone = 0
	h.rebuild()
	for _, b := range s.allBatches() {
		for i := range b.touched {
			if t := &b.touched[i]; t.h == h {
				t.lsn = min(t.lsn, cut)
			}
		}
	}
	h.durable = min(h.durable, cut)
	h.stable = min(h.stable, cut)
}

// rebuild computes what follows from the overlay after a truncation.
func (h *head) rebuild() {
	recs := h.recs
	h.history = slices.DeleteFunc(h.history, func(st record.Start) bool { return startLSN(st) > h.pos })
	snaps := slices.DeleteFunc(h.snaps, func(sn *snap) bool {
		if sn.node == nil {
			sn.under.drop()
		}
		return sn.node == nil
	})
	for _, sn := range snaps {
		sn.dropped = 0
	}
	h.setSnaps(snaps)
	h.recs, h.gone = nil, 0
	h.under.drop()
	h.index.clear()
	h.zeros = nil
	h.blocks = h.base.Blocks()
	h.prefix = h.pos
	for _, o := range recs {
		h.add(o)
	}
}

func startLSN(st record.Start) holdfast.LSN { return holdfast.MakeLSN(st.Epoch, 0) }

// found is where a block of a head is.
type found struct {
	lsn    holdfast.LSN
	hash   uint64
	origin uint16
	b      *batch // in a batch of this process's life
	idx    uint32
	seg    uint32 // else in this slot; 0: a hole or never written
	slot   uint16
}

func (f *found) stored() bool { return f.b != nil || f.seg != 0 }

// lookup finds a block as of the prefix. The error may be a *blockmap.Miss.
func (h *head) lookup(addr uint64) (found, error) {
	return h.resolve(addr, &h.index, h.zeros, h.under.top())
}

// lookupSnap finds a block of a snapshot.
func (h *head) lookupSnap(sn *snap, addr uint64) (found, error) {
	if sn.node != nil {
		return h.resolve(addr, nil, nil, sn.node.root)
	}
	return h.resolve(addr, &sn.index, sn.zeros, sn.under.top())
}

func (h *head) resolve(addr uint64, index *overlayIndex, zeros zeroRanges, view *blockmap.Root) (found, error) {
	w, inIndex := index.get(addr)
	z, inZeros := zeros.find(addr)
	switch {
	case inIndex && (!inZeros || w > z):
		if b, idx := h.written(w); b != nil {
			return found{lsn: w, hash: b.hashes[idx], origin: h.r.origin, b: b, idx: idx}, nil
		}
	case inZeros:
		return found{lsn: z, origin: h.r.origin}, nil
	}
	var e blockmap.Entry
	var err error
	switch {
	case view != nil:
		if addr < view.Blocks() {
			e, err = view.Get(addr)
		}
	case addr < h.base.Blocks():
		e, err = h.base.Get(addr)
	}
	return found{lsn: e.LSN, hash: e.Hash, origin: e.Origin, seg: e.Seg, slot: e.Slot}, err
}

// written is where an overlay Write has the block of an LSN; nil: it has been
// merged, and a snapshot's index, which does not hear of that, still names it.
func (h *head) written(lsn holdfast.LSN) (*batch, uint32) {
	recs := h.overlay()
	i, exact := slices.BinarySearchFunc(recs, lsn, func(o orec, lsn holdfast.LSN) int { return cmp.Compare(o.lsn, lsn) })
	if !exact {
		i--
	}
	if i < 0 || recs[i].last() < lsn {
		return nil, 0
	}
	return recs[i].b, recs[i].idx + uint32(lsn-recs[i].lsn)
}

// entryOf is the map entry of a block of a batch that has been closed.
func (h *head) entryOf(b *batch, idx uint32, lsn holdfast.LSN) blockmap.Entry {
	return blockmap.Entry{LSN: lsn, Hash: b.hashes[idx], Seg: b.head.seg, Slot: b.slotOf(idx), Origin: h.r.origin}
}

// unitsOf is how many units an entry's block has.
func unitsOf(e blockmap.Entry) uint16 { return uint16(checksum.Units(e.Hash)) }

// freeOverlay frees a block of the overlay that nothing else refers to.
func (h *head) freeOverlay(b *batch, idx uint32, lsn holdfast.LSN) {
	if !b.closed {
		b.dead = append(b.dead, idx)
		return
	}
	h.r.free(b.head.seg, b.slotOf(idx), b.units(idx), lsn)
}

// zeroRanges is sorted, disjoint runs of zeroed blocks: block addr+i at lsn+i.
type zeroRanges []zeroRange

type zeroRange struct {
	addr, n uint64
	lsn     holdfast.LSN
}

// at is the first range that ends behind addr.
func (z zeroRanges) at(addr uint64) int {
	lo, hi := 0, len(z)
	for lo < hi {
		m := (lo + hi) / 2
		if z[m].addr+z[m].n <= addr {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

func (z zeroRanges) find(addr uint64) (holdfast.LSN, bool) {
	if i := z.at(addr); i < len(z) && z[i].addr <= addr {
		return z[i].lsn + holdfast.LSN(addr-z[i].addr), true
	}
	return 0, false
}

// above returns the parts above an LSN.
func (z zeroRanges) above(l holdfast.LSN) zeroRanges {
	var out zeroRanges
	for _, r := range z {
		if r.lsn <= l {
			skip := min(uint64(l-r.lsn)+1, r.n)
			r = zeroRange{r.addr + skip, r.n - skip, r.lsn + holdfast.LSN(skip)}
		}
		if r.n > 0 {
			out = append(out, r)
		}
	}
	return out
}

// set puts a range over what was there.
func (z *zeroRanges) set(addr, n uint64, lsn holdfast.LSN) {
	z.cut(addr, n, func(zeroRange) bool { return true })
	i := z.at(addr)
	if i > 0 {
		if p := &(*z)[i-1]; p.addr+p.n == addr && p.lsn+holdfast.LSN(p.n) == lsn {
			p.n += n
			return
		}
	}
	*z = slices.Insert(*z, i, zeroRange{addr, n, lsn})
}

// forget removes what a zero of these LSNs left in the range: it has become
// part of the base.
func (z *zeroRanges) forget(addr, n uint64, lsn holdfast.LSN) {
	z.cut(addr, n, func(r zeroRange) bool { return uint64(r.lsn)-r.addr == uint64(lsn)-addr })
}

// cut removes the part within [addr, addr+n) of every range that match accepts.
func (z *zeroRanges) cut(addr, n uint64, match func(zeroRange) bool) {
	end := addr + n
	i := z.at(addr)
	j := i
	var keep []zeroRange
	for ; j < len(*z) && (*z)[j].addr < end; j++ {
		r := (*z)[j]
		if !match(r) {
			keep = append(keep, r)
			continue
		}
		if r.addr < addr {
			keep = append(keep, zeroRange{r.addr, addr - r.addr, r.lsn})
		}
		if e := r.addr + r.n; e > end {
			keep = append(keep, zeroRange{end, e - end, r.lsn + holdfast.LSN(end-r.addr)})
		}
	}
	if i != j {
		*z = slices.Replace(*z, i, j, keep...)
	}
}
