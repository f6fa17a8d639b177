package volume

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// A replica that was replaced, or that is one too many, is let go by the writer,
// which alone changes the in-sync set of an open volume (ADR 0050). It is no
// ejection: everybody answers, and nobody is asked to do without anything.

// mayRelease reports whether there is something to let go of, and everybody who
// stays has answered a question that was asked since that is known: one that was
// just lost is not taken for one that stays. v.mu is held.
func (v *Volume) mayRelease() bool {
	r := v.rec.Release
	if r == nil || v.failed != nil || !releasable(v.rec) {
		return false
	}
	for i := range v.m.Members() {
		m := &v.m.Members()[i]
		stays := !m.Gone && m.InSync && !slices.Contains(r.Go, m.ID)
		if stays && m.ID != v.localID && m.LeaseUntil < v.releaseAt+replica.LeaseWriter {
			return false
		}
	}
	return true
}

// noteRelease takes the time at which a release became known; v.mu is held.
func (v *Volume) noteRelease(was, is *cluster.Release) {
	if is != nil && (was == nil || !slices.Equal(was.Go, is.Go) || !slices.Equal(was.Keep, is.Keep)) {
		v.releaseAt = v.s.Clock.Now()
	}
}

// releasable reports whether what a record lets go can be: all that it relies on
// is in sync, and enough stay.
func releasable(rec cluster.Volume) bool {
	for _, id := range rec.Release.Keep {
		if !hasReplica(rec.InSync, id) {
			return false
		}
	}
	left := 0
	for _, ref := range rec.InSync {
		if !slices.Contains(rec.Release.Go, ref.ID) {
			left++
		}
	}
	return left >= max(rec.Min, 1)
}

// release commits the in-sync set without the replicas that are let go, and does
// without them from then on. It reports whether that was done.
func (v *Volume) release() bool {
	var asked []holdfast.ReplicaID // also by a commit whose outcome was not known
	err := v.commit(func(rec *cluster.Volume) (bool, error) {
		if rec.Release == nil || !releasable(*rec) {
			return false, nil
		}
		for _, id := range rec.Release.Go {
			rec.InSync, rec.Others = without(rec.InSync, id), without(rec.Others, id)
		}
		asked = append(asked, rec.Release.Go...)
		rec.Release = nil
		rec.Tidy()
		return true, nil
	})
	v.mu.Lock()
	gone := slices.DeleteFunc(asked, func(id holdfast.ReplicaID) bool { return hasReplica(v.rec.InSync, id) || hasReplica(v.rec.Others, id) })
	if err != nil || len(gone) == 0 {
		v.releaseAt = v.s.Clock.Now()
		v.mu.Unlock()
		return false
	}
	for i := range v.m.Members() {
		m := &v.m.Members()[i]
		if !m.Gone && slices.Contains(gone, m.ID) {
			v.removed(i)
			v.log.Info("replica let go", "replica", m.ID.Short(), "host", v.refs[i].Host.Short())
		}
	}
	v.settleInAny()
	v.pump()
	v.admitLocked()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	return true
}

// settleInAny has the writer use a replica on its own host directly, if it has
// none yet: one that joined in place of another. v.mu is held.
func (v *Volume) settleInAny() {
	for i := range v.m.Members() {
		v.settleIn(i)
	}
}

// settleIn makes a member on this host the local one, between two frames to it;
// v.mu is held.
func (v *Volume) settleIn(i int) {
	m := &v.m.Members()[i]
	if v.local != nil || v.failed != nil || v.refs[i].Host != v.s.Self ||
		m.Gone || !m.InSync || v.flying[i] > 0 || v.held[i] != sendable || !hasReplica(v.rec.InSync, m.ID) {
		return
	}
	here := v.s.member(m.ID)
	if here == nil || here.st.Err() != nil || here.boot != m.Boot {
		return
	}
	v.local, v.localID = here, m.ID
	v.full[i] = false // asked directly, too, and it gives no answers any more that say so
	now := v.s.Clock.Now()
	prefix, durable := here.r.Position()
	v.m.Answer(i, m.Boot, prefix, durable, now, now) // nothing is owed by what is asked directly
	v.catchUpLocal(i)
}
