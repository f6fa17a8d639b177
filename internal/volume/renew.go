package volume

import (
	"encoding/binary"
	"math"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// RenewStore serves the replicas of a disk from a store that was opened in the
// place of one that had been given up (ADR 0049). kept names those that hold in
// memory all that they held before; the others have another boot id from now on,
// so that their writers see that they forgot. False: the disk is not used any
// more, or another store is in use; the caller closes st.
func (s *Service) RenewStore(was, st *store.Store, kept map[holdfast.ReplicaID]bool) bool {
	s.mu.Lock()
	if s.closed || s.stores[was.Identity().Disk] != was {
		s.mu.Unlock()
		return false
	}
	s.renewed++
	forgot := s.Boot // random, so that none like it is near
	binary.LittleEndian.PutUint64(forgot.UUID[8:], binary.LittleEndian.Uint64(forgot.UUID[8:])+s.renewed)
	before := make(map[holdfast.ReplicaID]*member)
	for id, m := range s.members {
		if m.st == was {
			before[id] = m
			delete(s.members, id)
		}
	}
	for _, r := range st.Replicas() {
		m := s.addMember(st, r)
		m.boot = forgot
		if old := before[m.id]; old != nil {
			m.inherit(old, kept[m.id])
		}
	}
	s.useStore(st)
	s.mu.Unlock()
	for _, v := range s.Volumes() {
		v.renewLocal()
	}
	s.drained()
	return true
}

// inherit takes over what another member has promised for the same replica. kept:
// its memory as well.
func (m *member) inherit(old *member, kept bool) {
	old.mu.Lock()
	defer old.mu.Unlock()
	old.over = true
	old.highest.Store(math.MaxUint32)
	m.auth.Inherit(&old.auth)
	if kept {
		m.boot = old.boot
		m.r.Remember(old.r.Remembers())
	}
}

// renewLocal looks whether this host's replica is served anew. If its memory was
// kept it is given what it refused meanwhile; else it is as one that restarted.
func (v *Volume) renewLocal() {
	v.mu.Lock()
	if i := v.m.Find(v.localID); v.failed == nil && v.local != nil && i >= 0 {
		here := v.s.member(v.localID)
		switch {
		case here == v.local:
		case here == nil || here.boot != v.m.Members()[i].Boot:
			v.proposeFor(proposal{i: i, why: "its disk failed and was opened anew, without what was in memory only", forgot: true})
		default:
			v.local = here
			v.catchUpLocal(i)
			v.pump()
			v.admitLocked()
		}
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

// catchUpLocal gives this host's replica what it has not taken yet; v.mu is held.
func (v *Volume) catchUpLocal(i int) {
	for j := v.recs.after(v.m.Members()[i].Sent); j < v.recs.len(); j++ {
		if !v.appendLocal(v.recs.at(j)) {
			return
		}
	}
}
