package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// propose has a member ejected. A joiner is simply dropped: it is in no set.
// v.mu is held.
func (v *Volume) propose(i int, why string) { v.proposeFor(proposal{i: i, why: why}) }

func (v *Volume) proposeFor(p proposal) {
	m := &v.m.Members()[p.i]
	if m.Gone {
		return
	}
	if !m.InSync {
		v.log.Info("joining replica dropped", "replica", m.ID.Short(), "host", v.refs[p.i].Host.Short(), "why", p.why)
		v.m.Remove(p.i)
		return
	}
	for k := range v.eject {
		if v.eject[k].i == p.i {
			v.eject[k].forgot = v.eject[k].forgot || p.forgot
			return
		}
	}
	v.eject = append(v.eject, p)
	v.reconfig.Set()
}

// reconfigure changes the in-sync set, one change after the other: none is
// decided while the outcome of another is not known. Nothing is acknowledged
// without a member before its ejection is known to be committed (STORE §5), and
// a joiner is a member from the moment its add is sent.
func (v *Volume) reconfigure() {
	for {
		v.reconfig.Wait(time.Second)
		for v.reconfigureOne() {
		}
		if v.Err() != nil {
			v.mu.Lock()
			for _, a := range v.admitting {
				a.err = v.failed
				a.ended.Set()
			}
			for _, x := range v.givenUp {
				x.err = v.failed
				x.ended.Set()
			}
			v.admitting, v.givenUp = nil, nil
			v.mu.Unlock()
			return
		}
	}
}

// reconfigureOne makes one change and reports whether there was one to make.
func (v *Volume) reconfigureOne() bool {
	v.mu.Lock()
	switch {
	case v.failed != nil:
	case len(v.admitting) > 0: // first: without it there may be too few to eject another
		a := v.admitting[0]
		v.admitting = v.admitting[1:]
		v.mu.Unlock()
		a.err = a.j.commit()
		a.ended.Set()
		return true
	case len(v.eject) > 0:
		p := v.eject[0]
		v.mu.Unlock()
		v.ejectMember(p)
		return true
	case len(v.givenUp) > 0:
		x := v.givenUp[0]
		v.givenUp = v.givenUp[1:]
		v.mu.Unlock()
		x.err = v.giveUp(x.ids)
		x.ended.Set()
		return true
	case v.mayRelease():
		v.mu.Unlock()
		return v.release()
	}
	v.mu.Unlock()
	return false
}

func (v *Volume) ejectMember(p proposal) {
	ref := v.refAt(p.i)
	v.mu.Lock()
	issued := v.m.Issued()
	v.mu.Unlock()
	wall := v.s.Clock.Wall()
	useless := v.uselessHere()
	kept := v.commit(func(rec *cluster.Volume) (bool, error) {
		if !hasReplica(rec.InSync, ref.ID) {
			return false, nil
		}
		rec.Eject(ref, wall, issued)
		if len(rec.InSync) < max(rec.Min, 1) {
			return false, holdfast.Errorf(holdfast.Unavailable, "volume %s needs %d replicas and would have %d", rec.Name, max(rec.Min, 1), len(rec.InSync))
		}
		if len(rec.InSync) == 1 && rec.InSync[0].ID == useless {
			return false, holdfast.Errorf(holdfast.Unavailable, "volume %s would have no copy left but that on host %s, whose disk has failed or which is damaged", rec.Name, v.s.Self.Short())
		}
		return true, nil
	})
	v.mu.Lock()
	p.forgot = v.eject[0].forgot
	v.eject = v.eject[1:]
	if kept == nil {
		crashpoint.At(crashpoint.MemberEjected)
		v.removed(p.i)
		v.stats.Ejections++
		v.mending[ref.ID] = v.s.Clock.Now() + time.Second
		v.log.Warn("replica ejected", "replica", ref.ID.Short(), "host", ref.Host.Short(), "why", p.why)
	}
	v.pump()
	v.admitLocked()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	if kept != nil && p.forgot && v.Err() == nil {
		// What it had is gone, at least from memory, and it may not be done
		// without: only a new opening can tell what is left.
		v.fail(holdfast.Errorf(holdfast.LostCache, "volume %s: replica %s cannot go on (%s) and cannot be ejected: %w", v.rec.Name, ref.ID.Short(), p.why, kept))
		return
	}
	if kept != nil && v.Err() == nil {
		v.log.Warn("volume stalls", "why", kept, "because", p.why)
		clock.Sleep(v.s.Clock, time.Second)
		v.again(p.i)
	}
}

// uselessHere is this host's replica if that is known to be no use, as the only one
// left: its disk is given up, or it is damaged. Zero: it is not, or there is none. Who
// is silent may be all that has what was acknowledged.
func (v *Volume) uselessHere() (id holdfast.ReplicaID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.local; l != nil && (l.st.Err() != nil || l.r.State().Damage != "") {
		id = v.localID
	}
	return id
}

// removed takes a member out that the record no longer names in sync; v.mu is
// held.
func (v *Volume) removed(i int) {
	v.m.Remove(i)
	if v.refs[i].ID == v.localID {
		v.local, v.localID = nil, holdfast.ReplicaID{}
	}
}

// again gives a member that cannot be done without what it lacks once more:
// what it refused it may take by now. A full disk has a cleaner.
func (v *Volume) again(i int) {
	v.mu.Lock()
	if m := &v.m.Members()[i]; v.failed == nil && !m.Gone {
		switch {
		case m.ID == v.localID:
			v.catchUpLocal(i)
		case v.flying[i] == 0 && m.Sent > m.Acked:
			m.Sent = m.Acked
		}
	}
	v.pump()
	v.admitLocked()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

func (v *Volume) refAt(i int) cluster.Replica {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refs[i]
}

// commit changes the volume's record under this writer's epoch. change is
// applied to the newest record until a commit is known to have succeeded or
// change reports that there is nothing to do; its error is returned as it is.
// A record with another epoch ends the volume.
func (v *Volume) commit(change func(*cluster.Volume) (bool, error)) error {
	v.mu.Lock()
	rec, mod := v.rec, v.mod
	v.mu.Unlock()
	for {
		if err := v.Err(); err != nil {
			return err
		}
		rec.InSync = append([]cluster.Replica(nil), rec.InSync...)
		rec.Others = append([]cluster.Replica(nil), rec.Others...)
		want, err := change(&rec)
		if err != nil {
			return err
		}
		if !want {
			v.adopt(rec, mod)
			return nil
		}
		next, err := v.s.Records.CommitVolume(rec, mod)
		if err == nil {
			v.adopt(rec, next)
			return nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			clock.Sleep(v.s.Clock, tickEvery)
		}
		for {
			fresh, freshMod, err := v.s.Records.ReadVolume(v.id)
			if err == nil {
				rec, mod = fresh, freshMod
				break
			}
			if holdfast.IsKind(err, holdfast.NotFound) {
				v.fail(holdfast.Errorf(holdfast.Closed, "volume %s was deleted", rec.Name))
				return err
			}
			if v.Err() != nil {
				return v.Err()
			}
			clock.Sleep(v.s.Clock, tickEvery)
		}
		if rec.Epoch != v.epoch || rec.Writer != v.s.Self {
			err := holdfast.Errorf(holdfast.Fenced, "volume %s was opened at epoch %d by another writer", rec.Name, rec.Epoch)
			v.fail(err)
			return err
		}
	}
}

func (v *Volume) adopt(rec cluster.Volume, mod kv.Rev) {
	v.mu.Lock()
	v.takeRecord(rec, mod)
	v.mu.Unlock()
}

func hasReplica(list []cluster.Replica, id holdfast.ReplicaID) bool {
	for _, r := range list {
		if r.ID == id {
			return true
		}
	}
	return false
}

func without(list []cluster.Replica, id holdfast.ReplicaID) []cluster.Replica {
	var out []cluster.Replica
	for _, r := range list {
		if r.ID != id {
			out = append(out, r)
		}
	}
	return out
}
