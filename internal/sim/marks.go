package sim

import (
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// A mark is what one replica must hold, whatever has become of the others: all
// that was flushed while it was in sync, and of what was written since what may
// have reached it, as a volume holds things: what came before is there if what
// came after is. It is what a person is left with who opens the volume from that
// replica alone (ADR 0065).
type mark struct {
	may    [][]uint64   // what the blocks may have held from that flush on
	did    *ordered     // what was written since; nil: memory was lost, or the volume set back
	stable holdfast.LSN // that was flushed; 0: not known
}

// marks are those of a client's volume, of every replica that was ever in sync at
// the end of a flush.
type marks struct {
	c    *blockClient
	of   map[holdfast.ReplicaID]*mark
	last *mark                                   // of the last flush
	then map[copyOf]map[holdfast.ReplicaID]*mark // when a disk was copied that may be put back
}

// copyOf is a disk of a host that was copied, counted from 1.
type copyOf struct {
	h *host
	n int
}

func newMarks(c *blockClient) *marks {
	k := &marks{c: c, of: make(map[holdfast.ReplicaID]*mark), then: make(map[copyOf]map[holdfast.ReplicaID]*mark)}
	k.last = k.fresh()
	return k
}

func (k *marks) fresh() *mark { return &mark{may: k.c.model.watch(), did: &ordered{}} }

// flushed makes new marks, at the moment in which the client hears that a flush is
// done: each replica that is in sync then holds it. One that is not keeps its mark,
// or, if it was in sync between two flushes only, has that of the one before.
func (k *marks) flushed() {
	rec, err := cluster.PeekVolume(k.c.s.peek, k.c.vol.ID)
	if err != nil {
		return
	}
	m, was, old := k.fresh(), k.of, k.live()
	if w := k.c.writing(k.c.h); w != nil && !k.c.life.over() {
		_, m.stable = w.Reached()
	}
	k.of = make(map[holdfast.ReplicaID]*mark)
	for _, r := range rec.Others {
		if k.of[r.ID] = was[r.ID]; k.of[r.ID] == nil {
			k.of[r.ID] = k.last
		}
	}
	for _, r := range rec.InSync {
		k.of[r.ID] = m
	}
	k.last = m
	still := k.live()
	for _, o := range old {
		if !slices.Contains(still, o) {
			k.c.model.unwatch(o.may)
		}
	}
}

// live are the marks that count, each once.
func (k *marks) live() []*mark {
	out := []*mark{k.last}
	for _, m := range k.of { // in any order: nothing depends on it
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// wrote notes a write that was submitted.
func (k *marks) wrote(w *orderedWrite) {
	for _, m := range k.live() {
		if m.did != nil {
			m.did.writes = append(m.did.writes, w)
		}
	}
}

// broken notes that what was written is not one history any more.
func (k *marks) broken() {
	for _, m := range k.live() {
		m.did = nil
	}
}

// mark is what a replica must hold, as of now: it does not change any more.
func (k *marks) mark(id holdfast.ReplicaID) *mark {
	m := k.of[id]
	if m == nil {
		m = k.last
	}
	out := &mark{stable: m.stable}
	for _, may := range m.may {
		out.may = append(out.may, slices.Clone(may))
	}
	if m.did != nil {
		out.did = &ordered{slices.Clone(m.did.writes)}
	}
	return out
}

// copied notes what the replicas on a disk hold of which a copy is made.
func (k *marks) copied(h *host, n int) {
	rec, err := cluster.PeekVolume(k.c.s.peek, k.c.vol.ID)
	if err != nil {
		return
	}
	held := make(map[holdfast.ReplicaID]*mark)
	for _, r := range slices.Concat(rec.InSync, rec.Others) {
		if r.Disk == [...]holdfast.DiskID{h.did, h.secondID}[n-1] {
			held[r.ID] = k.mark(r.ID)
		}
	}
	k.then[copyOf{h, n}] = held
}

// restored notes that they hold that again, or, once they have been brought up to
// what the others have, what there is now or comes; in which order is not known then.
func (k *marks) restored(h *host, n int) {
	for id, then := range k.then[copyOf{h, n}] {
		m := &mark{may: k.c.model.watch(), stable: then.stable}
		for b, held := range then.may {
			for _, tag := range held {
				m.may[b] = with(m.may[b], tag)
			}
		}
		k.of[id] = m
	}
}

// begin makes all marks anew: the volume holds what the model says, on whatever
// replicas there are.
func (k *marks) begin() {
	for _, m := range k.live() {
		k.c.model.unwatch(m.may)
	}
	k.of, k.last = make(map[holdfast.ReplicaID]*mark), k.fresh()
}

// allows says what is wrong with the content of a replica with that mark; "":
// nothing. Of writes up to LSN upto none may be missing, and none above it there,
// if upto is known.
func (m *mark) allows(holds []uint64, upto, least holdfast.LSN) string {
	for b, tag := range holds {
		if !slices.Contains(m.may[b], tag) {
			return fmt.Sprintf("block %d holds write %d, it may only hold %v", b, tag, m.may[b])
		}
	}
	if m.did == nil {
		return ""
	}
	if last, w := m.did.gap(holds); w != nil {
		return fmt.Sprintf("write %d is there, and write %d to block %d, which was acknowledged before, is not", last.tag, w.tag, w.block)
	}
	if upto == 0 {
		return ""
	}
	for _, w := range m.did.writes {
		switch {
		case w.upper != 0 && w.upper <= least && m.did.lacks(w, holds[w.block]):
			return fmt.Sprintf("write %d to block %d is missing, which was at LSN %v at most, where all is there up to %v", w.tag, w.block, w.upper, least)
		case w.lower >= upto && w.tag != 0 && holds[w.block] == w.tag:
			return fmt.Sprintf("write %d to block %d is there, which was above LSN %v, where nothing is there above %v", w.tag, w.block, w.lower, upto)
		}
	}
	return ""
}

// reached is how far the client's writer has come, and how far any has: a write
// that is submitted now is above the one, and one that is acknowledged now not above
// the other. 0: not known.
func (c *blockClient) reached() (least, most holdfast.LSN) {
	w := c.writing(c.h)
	if c.life.over() || w == nil {
		return 0, 0
	}
	least, _ = w.Reached()
	for _, h := range c.s.hosts {
		if o := c.writing(h); o != nil {
			acked, _ := o.Reached()
			most = max(most, acked)
		}
	}
	return least, most
}
