package sim

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// members checks, at the very moment that a client hears of an acknowledged write
// or flush, that no replica in the in-sync set lacks what was acknowledged
// (invariant 7). It looks at the control plane's map and at the stores themselves,
// which nobody in the world can.
type members struct {
	s      *simulation
	turn   int
	looked int // replicas
	stable map[*blockClient]reached
}

// reached is up to where a writer has flushed, at the most.
type reached struct {
	writer *volume.Volume
	stable holdfast.LSN
}

// acksEvery is how many acknowledged writes there are to one that is looked at;
// of flushes every one is.
const acksEvery = 16

// acknowledged looks at the replicas of a client's volume.
func (m *members) acknowledged(c *blockClient, flush bool) {
	if m.turn++; !flush && m.turn%acksEvery != 0 || c.life.over() || c.h.node == nil {
		return
	}
	w := c.h.node.Volumes.Opened(c.vol.ID)
	if w == nil { // the writer is another host, or not any more
		return
	}
	acked, stable := w.Reached()
	if was := m.stable[c]; was.writer == w {
		stable = max(stable, was.stable) // whoever is added since has it too
	}
	m.stable[c] = reached{w, stable}
	rec, err := cluster.PeekVolume(m.s.peek, c.vol.ID)
	if err != nil {
		m.s.fail("the record of %s: %v", c.vol.Name, err)
		return
	}
	for _, ref := range rec.InSync {
		if r := m.s.replica(ref); r != nil {
			m.looked++
			m.check(c, ref, r, acked, stable)
		}
	}
}

func (m *members) check(c *blockClient, ref cluster.Replica, r *store.Replica, acked, stable holdfast.LSN) {
	prefix, durable := r.Position()
	name := m.s.nameOf(ref.Host)
	if st := r.State(); st.Damage != "" {
		return // its disk has spoilt it, and it says so: it is no undamaged one
	} else if st.Building {
		m.s.fail("the replica of %s on %s is in sync while it is being built (invariant 7)", c.vol.Name, name)
	} else if kept := len(st.History) > 0 && st.History[len(st.History)-1].Epoch == r.Remembers(); kept && prefix < acked {
		m.s.fail("the replica of %s on %s is in sync and ends at %v, where %v was acknowledged (invariant 7)", c.vol.Name, name, prefix, acked)
	}
	if durable < stable && !m.s.byID(ref.Host).spoilt() { // a last write that is lost or spoilt cannot be told from one that was never made
		m.s.fail("the replica of %s on %s is in sync and has %v on disk, where %v was flushed (invariant 7)", c.vol.Name, name, durable, stable)
	}
}

// replica finds a replica in the store that has it now; nil: its host or disk does
// not work.
func (s *simulation) replica(ref cluster.Replica) *store.Replica {
	h := s.byID(ref.Host)
	if h == nil || h.node == nil {
		return nil
	}
	for _, st := range h.node.Volumes.Stores() {
		if r := st.Replica(ref.ID); r != nil && st.Err() == nil {
			return r
		}
	}
	return nil
}

// spoilt reports whether a disk of the host has not done what it said, or has not
// kept it.
func (h *host) spoilt() bool {
	return h.disk.Stats().Spoilt > 0 || h.second != nil && h.second.Stats().Spoilt > 0
}
