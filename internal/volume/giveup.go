package volume

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// surrender is replicas that are to be done without. Volume.mu guards the list of
// them; err is set before ended.
type surrender struct {
	ids   []holdfast.ReplicaID
	err   error
	ended clock.Event
}

// GiveUp does without replicas of which somebody has decided that they do not
// hold what they should. They leave the record altogether, so nothing that they
// have counts any more: others are built in their place, whole. Kind Conflict if
// one is not in sync or too few would be left. It blocks.
func (v *Volume) GiveUp(ids []holdfast.ReplicaID) error {
	x := &surrender{ids: ids, ended: v.s.Clock.NewEvent()}
	v.mu.Lock()
	if v.failed != nil {
		v.mu.Unlock()
		return v.failed
	}
	v.givenUp = append(v.givenUp, x)
	v.reconfig.Set()
	v.mu.Unlock()
	x.ended.Wait(clock.Forever)
	return x.err
}

// giveUp carries a surrender out, as the only change of the in-sync set.
func (v *Volume) giveUp(ids []holdfast.ReplicaID) error {
	v.mu.Lock()
	copying := v.copying
	v.mu.Unlock()
	err := v.commit(func(rec *cluster.Volume) (bool, error) {
		if copying || len(rec.Others) > 0 { // it may come from one that is given up
			return false, holdfast.Errorf(holdfast.Conflict, "a copy of volume %s is being built from the others, or is to be; 'holdfast volume show %s' tells how it goes; compare again when it is done", rec.Name, rec.Name)
		}
		for _, id := range ids {
			if !hasReplica(rec.InSync, id) {
				return false, holdfast.Errorf(holdfast.Conflict, "replica %s of volume %s is not in sync any more; compare again", id.Short(), rec.Name)
			}
			rec.InSync = without(rec.InSync, id)
		}
		if len(rec.InSync) == 0 {
			return false, holdfast.Errorf(holdfast.Conflict, "volume %s would have no copy in sync; one has to be trusted", rec.Name)
		}
		if n := len(rec.InSync); n < rec.Min {
			return false, holdfast.Errorf(holdfast.Conflict, "volume %s would have %d copies in sync and needs %d; 'holdfast volume set %s --min' changes what it needs", rec.Name, n, rec.Min, rec.Name)
		}
		rec.Compared = nil
		rec.Tidy()
		return true, nil
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	for i := range v.m.Members() {
		if m := &v.m.Members()[i]; !m.Gone && slices.Contains(ids, m.ID) {
			v.removed(i)
			v.log.Warn("replica given up", "replica", m.ID.Short(), "host", v.refs[i].Host.Short())
		}
	}
	v.pump()
	v.admitLocked()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	return nil
}

// NoteCompared puts the outcome of a comparison that began at some time into the
// volume's record. It blocks.
func (v *Volume) NoteCompared(at time.Time, differ uint64) error {
	return v.commit(func(rec *cluster.Volume) (bool, error) {
		is := cluster.Compared{At: at.UTC().Truncate(time.Second), Differ: differ}
		if rec.Compared != nil && *rec.Compared == is {
			return false, nil
		}
		rec.Compared = &is
		return true, nil
	})
}
