package agent

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// droppedEvery is how often a host looks for replicas that their volumes have
// dropped.
const droppedEvery = 10 * time.Second

// removeDropped removes this host's replicas that their volumes do not name any
// more: others were built while this host was away. A replica whose volume has
// no record at all is left alone, for a record may be missing by mistake, and
// so is one that knows of a later epoch than the record, which is then an old
// one from a backup. While the volume lacks a copy nothing of it is removed.
func (a *Agent) removeDropped(st *cluster.State) {
	now := a.Clock.Now()
	if now < a.nextDropped {
		return
	}
	a.nextDropped = now + droppedEvery
	v := placement.Look(st)
	for _, disk := range a.Volumes.Stores() {
		for _, r := range disk.Replicas() {
			s := r.State()
			rec, ok := st.Volumes[s.Volume]
			if _, waits := rec.Val.LostCopy(s.Replica); waits {
				a.setAside(rec.Val, s.Replica)
			}
			if ok && dropped(rec.Val, s) && v.Whole(rec.Val) {
				a.removeIfDropped(disk, s)
			}
		}
	}
}

// dropped reports whether a record does not name a replica any more.
func dropped(rec cluster.Volume, s store.State) bool {
	this := func(ref cluster.Replica) bool { return ref.ID == s.Replica }
	if slices.ContainsFunc(rec.InSync, this) || slices.ContainsFunc(rec.Others, this) {
		return false
	}
	if _, waits := rec.LostCopy(s.Replica); waits {
		return false // it is to be set aside first
	}
	return s.Promise <= rec.Epoch
}

// removeIfDropped asks the control plane first: the picture may be old, and a
// replica that it does not show be a new one.
func (a *Agent) removeIfDropped(disk *store.Store, s store.State) {
	rec, _, err := a.Control.ReadVolume(s.Volume)
	if err != nil || !dropped(rec, s) {
		return
	}
	ref := cluster.Replica{ID: s.Replica, Host: a.Self, Disk: disk.Identity().Disk}
	if err := a.Volumes.RemoveReplica(ref); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
		a.Log.Info("a replica that its volume has dropped could not be removed yet", "volume", rec.Name, "error", err)
		return
	}
	a.Log.Info("a replica that its volume has dropped is removed", "volume", rec.Name, "replica", s.Replica.Short())
}
