package store

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// build is what a head has more while it is being built.
type build struct {
	base holdfast.LSN // where the live stream continues; the highest LSN that Ingest takes
}

// Build describes a resync or rebuild of a head.
type Build struct {
	Base     holdfast.LSN // the live stream continues from here
	From     From         // what the head begins as
	Roots    []RootID     // the volume's snapshots as of Base: all are here (BeginRoot)
	Reverted holdfast.LSN // the volume's last revert as of Base
	Blocks   uint64       // the volume's size as of Base, at least
}

// Attempt numbers the attempts to level a replica, or to build it: like an LSN, by
// the epoch and a counter in it. What belongs to a lower one than the replica has
// heard of in this life comes late, when whoever asked has given that attempt up,
// and is refused with kind Conflict: it would take back, begin, end or mix with
// what a later one has under way, or has finished. So is what belongs to an attempt
// that has finished itself, and is heard twice. 0 is below all.
type Attempt holdfast.LSN

// The attempts of an epoch: its opening's comes before the epoch is begun, a
// joiner's after.
const (
	openingAttempt = 0
	begunAttempt   = 1
)

// OpeningAttempt is that of the opening of an epoch.
func OpeningAttempt(e holdfast.Epoch) Attempt { return Attempt(holdfast.MakeLSN(e, openingAttempt)) }

// JoinAttempt is the nth, from 1 on, to have a replica join in an epoch.
func JoinAttempt(e holdfast.Epoch, n uint64) Attempt {
	return Attempt(holdfast.MakeLSN(e, begunAttempt+n))
}

// of reports whether an attempt may go on with the replica. Under the lock.
func (r *Replica) of(a Attempt) error {
	if err := r.usable(); err != nil {
		return err
	}
	if a < r.attempt {
		return holdfast.Errorf(holdfast.Conflict, "replica %s: this belongs to an attempt to build it that was given up", r.id)
	}
	r.attempt = a
	return nil
}

// BeginBuild begins a resync or rebuild: it revokes eligibility durably, keeps
// the head as a fallback and goes on with another. From then on Append takes
// records following Base, and Ingest blocks of LSN at or below it. The same build
// begun once more goes on with what it has: whoever asked may be heard twice, when
// the first of its blocks are here. Another one under way is given up first. Kind
// Conflict if a root is missing.
func (r *Replica) BeginBuild(a Attempt, b Build) error {
	s := r.s
	s.lock()
	err := r.of(a)
	again := err == nil && r.head.building != nil && r.begun != nil && r.begun.is(b)
	s.unlock()
	switch {
	case err != nil:
		return err
	case again:
		return s.durable(r.usable)
	}
	if err := r.AbortBuild(a); err != nil {
		return err
	}
	err = s.withMap(func() error {
		if err := r.of(a); err != nil {
			return err
		}
		if r.fallback != nil {
			return holdfast.Errorf(holdfast.Busy, "replica %s is being built already", r.id)
		}
		h, err := r.newBuild(b)
		if err != nil {
			return r.unreadable(err)
		}
		r.fallback, r.head, r.build, r.begun = r.head, h, true, &b
		s.put(entryBuild, r.num, nil)
		return nil
	})
	if err != nil {
		return err
	}
	err = s.durable(func() error { return nil })
	crashpoint.At(crashpoint.BuildBegun)
	return err
}

// is reports whether two descriptions are of one build.
func (b *Build) is(o Build) bool {
	return b.Base == o.Base && b.From == o.From && b.Reverted == o.Reverted && b.Blocks == o.Blocks && slices.Equal(b.Roots, o.Roots)
}

func (r *Replica) newBuild(b Build) (*head, error) {
	old := r.head
	if r.damage == "" { // so that every snapshot has its root
		if err := old.merge(old.stable, mergeAll); err != nil {
			return nil, err
		}
	}
	var snaps []*snap
	aside := make(map[RootID]*snap, len(r.aside))
	for _, sn := range r.aside {
		aside[RootID{sn.id, sn.lsn}] = sn
	}
	for _, id := range b.Roots {
		sn, err := aside[id], error(nil)
		if sn == nil {
			sn, err = old.root(id)
		}
		if err != nil {
			return nil, err
		}
		snaps = append(snaps, &snap{id: sn.id, lsn: sn.lsn, blocks: sn.blocks, node: sn.node})
	}
	slices.SortFunc(snaps, func(x, y *snap) int { return cmp.Compare(x.lsn, y.lsn) })
	h, err := r.startFrom(b.From, b.Base)
	if err != nil {
		return nil, err
	}
	if err := h.base.Grow(max(h.base.Blocks(), old.blocks, b.Blocks)); err != nil {
		h.base.Release()
		return nil, err
	}
	h.setSnaps(snaps)
	h.blocks, h.reverted = h.base.Blocks(), b.Reverted
	return h, nil
}

func (r *Replica) notBuilding() error {
	return holdfast.Errorf(holdfast.Conflict, "replica %s is not being built; call BeginBuild first", r.id)
}

// FinishBuild ends a build: everything is durable on return, the replica has
// the history given, the fallback and the roots that are no snapshots any more are
// gone, and Building and Damage are cleared. Its size is what it began with and the
// live stream has made of it: a snapshot in between is not to become larger.
func (r *Replica) FinishBuild(a Attempt, history []record.Start) error {
	s := r.s
	if err := s.durable(func() error {
		if err := r.of(a); err != nil {
			return err
		}
		if r.head.building == nil {
			return r.notBuilding()
		}
		return nil
	}); err != nil {
		return err
	}
	s.lock()
	h := r.head
	err := r.of(a)
	if err == nil && h.building == nil {
		err = r.notBuilding()
	}
	if err != nil {
		s.unlock()
		return err
	}
	h.adopt(history)
	r.miss()
	r.dropFallback()
	r.finishing = true
	r.build, r.damage, r.passing = false, "", false
	r.attempt = a + 1 // what of this one is heard again must not begin it anew: the replica may be in sync
	s.merge.Set()     // what had to wait
	s.unlock()
	crashpoint.At(crashpoint.BuildAdopted)
	err = s.Checkpoint()
	crashpoint.At(crashpoint.BuildFinished)
	s.lock()
	r.finishing = false
	if err != nil {
		r.build = true
	}
	s.unlock()
	return err
}

// adopt makes a build an ordinary head with the history of what is in the base;
// starts that came in the stream follow.
func (h *head) adopt(history []record.Start) {
	var stream []record.Start
	for _, o := range h.overlay() {
		if o.kind == record.EpochStart {
			stream = append(stream, o.ctl.Start)
		}
	}
	h.history = slices.Clone(history)
	for _, st := range stream {
		if n := len(h.history); n == 0 || h.history[n-1].Epoch < st.Epoch {
			h.history = append(h.history, st)
		}
	}
	h.building, h.owned = nil, nil
}

// dropFallback gives up the head before the build, and the roots that the new
// one does not have as snapshots.
func (r *Replica) dropFallback() {
	s, h, old := r.s, r.head, r.fallback
	ours := make(map[*node]bool, len(h.snaps))
	for _, sn := range h.snaps {
		ours[sn.node] = true
	}
	kept := func(sn *snap) bool { return sn.node != nil && ours[sn.node] }
	for _, sn := range r.aside {
		sn.node.hidden = !kept(sn)
	}
	r.aside = nil
	old.setSnaps(slices.DeleteFunc(old.snaps, kept))
	r.fallback = nil
	s.dropHead(old)
}

// AbortBuild gives up a build, and a root that is being received, and returns
// to the fallback. Roots that were received stay for the next build, and the
// replica stays not eligible. Without a build it does nothing.
func (r *Replica) AbortBuild(a Attempt) error {
	return r.s.durable(func() error {
		if err := r.of(a); err != nil {
			return err
		}
		r.dropTaking()
		if r.head.building == nil {
			return nil
		}
		r.abandon()
		r.s.put(entryAbort, r.num, nil)
		return nil
	})
}

// abandon returns to the fallback. Under the lock.
func (r *Replica) abandon() {
	s, h := r.s, r.head
	for _, o := range h.overlay() {
		if o.b != nil {
			for i := range o.count {
				h.freeOverlay(o.b, o.idx+i, o.lsn+holdfast.LSN(i))
			}
		}
	}
	h.owned.each(s.freeAny)
	for _, sn := range h.snaps {
		sn.under.drop()
	}
	h.under.drop()
	h.base.Release()
	h.recs, h.gone, h.building = nil, 0, nil
	r.head, r.fallback = r.fallback, nil
	r.head.durable = r.head.prefix
	s.collect()
}

// Fallback is State, but of a replica that is being built what it would be after
// AbortBuild. It stays told as Building.
func (r *Replica) Fallback() State {
	st := r.State()
	r.s.lock()
	defer r.s.unlock()
	h := r.fallback
	if h == nil {
		return st
	}
	st.Blocks, st.Prefix, st.Durable, st.Stable, st.Reverted = h.blocks, h.prefix, h.prefix, h.stable, h.reverted
	st.History, st.Snapshots = slices.Clone(h.history), nil
	for _, sn := range h.snaps {
		if sn.dropped == 0 {
			st.Snapshots = append(st.Snapshots, SnapshotInfo{sn.id, sn.lsn, sn.blocks})
		}
	}
	return st
}

// Reinstate gives up a build, as AbortBuild, and makes the replica eligible with
// what it held before: somebody has decided that this is to be served, stale as it
// is. On disk on return. A replica that never was complete is kind Damaged.
func (r *Replica) Reinstate() error {
	s := r.s
	s.lock()
	last := r.attempt
	s.unlock()
	if err := r.AbortBuild(last); err != nil {
		return err
	}
	s.lock()
	if !r.build {
		s.unlock()
		return nil
	}
	if r.damage != "" || len(r.head.history) == 0 {
		s.unlock()
		return holdfast.Errorf(holdfast.Damaged, "replica %s never was complete, or is damaged; it cannot be opened as it is", r.id)
	}
	r.build, r.finishing = false, true
	s.unlock()
	err := s.Checkpoint()
	s.lock()
	r.finishing = false
	if err != nil {
		r.build = true
	}
	s.unlock()
	return err
}
