package volume

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// What a volume that is opened from a stale replica on a person's word needs of
// the data plane (ADR 0065). The word itself is in the volume's record.

// Inspect asks a replica what it holds, without any authority: it neither
// promises nor grants anything. Of one that is being built it is what it would go
// back to. It blocks.
func (s *Service) Inspect(ref cluster.Replica) (rep replica.Report, roots []replica.Root, err error) {
	f, err := s.ask(ref, replica.KindInspect, replica.Ask{}, nil, nil)
	if err != nil {
		return rep, nil, err
	}
	if rep, err = replica.DecodeReport(f.Head); err != nil {
		return rep, nil, err
	}
	roots, _, err = replica.DecodeRoots(whole(f.Bulk))
	return rep, roots, err
}

func (s *Service) serveInspect(m *member, _ replica.Ask, _, _ []byte) (transport.Frame, error) {
	st := m.r.Fallback()
	m.mu.Lock()
	rep := replica.Report{Replica: m.id, Boot: m.boot, Promise: m.auth.Promise(), Prefix: st.Prefix, Durable: st.Durable, Stable: st.Stable,
		Building: st.Building, Damaged: st.Damage != "" || m.st.Err() != nil, Blocks: st.Blocks, History: st.History}
	m.mu.Unlock()
	if len(st.Snapshots) > replica.MaxRoots {
		return transport.Frame{}, tooManyRoots(m.id, len(st.Snapshots))
	}
	var roots []replica.Root
	for _, x := range st.Snapshots {
		roots = append(roots, replica.Root{ID: x.ID, LSN: x.LSN, Blocks: x.Blocks})
	}
	return transport.Frame{Head: rep.AppendTo(nil), Bulk: [][]byte{replica.AppendRoots(nil, roots)}}, nil
}

// reinstate has the replica that the volume is forced open from give up the build
// that it was in the middle of, and go back to what it held before: nothing else
// makes it fit to be opened. Once an epoch has begun after the forcing this is
// over, for what the replica holds then is what everybody holds.
func (t *takeover) reinstate(seats []seat) error {
	f := t.rec.Forced
	for i := range seats {
		st := &seats[i]
		if f == nil || st.ref.ID != f.Replica || !st.report.Building || lastEpoch(st.report.History) >= f.Epoch {
			continue
		}
		if _, err := t.s.ask(st.ref, replica.KindReinstate, replica.Ask{Epoch: t.epoch}, nil, nil); err != nil {
			return err
		}
		out, err := t.s.ask(st.ref, replica.KindPromise, replica.Ask{Epoch: t.epoch}, nil, nil)
		if err != nil {
			return err
		}
		if st.report, err = replica.DecodeReport(out.Head); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) serveReinstate(m *member, a replica.Ask, _, _ []byte) (transport.Frame, error) {
	err := m.check(a.Epoch, s.Clock.Now())
	if err == nil {
		err = m.r.Reinstate()
	}
	if err != nil {
		return transport.Frame{}, err
	}
	return s.answered(m)
}

// keepForced keeps a volume that was forced open as it is at the first opening
// since, before anybody writes: a later merge by hand needs what the two
// histories have in common. If that does not come about, neither does the
// opening; but a full disk is no reason.
func (v *Volume) keepForced() error {
	f := v.Record().Forced
	if f == nil || f.Kept {
		return nil
	}
	err := v.snapshotForced(f)
	if holdfast.IsKind(err, holdfast.NoSpace) || v.Record().Image {
		v.log.Warn("the volume was forced open and could not be kept as it was then", "error", err)
		err = v.noteKept(nil)
	}
	if err != nil {
		v.Close()
	}
	return err
}

func (v *Volume) snapshotForced(f *cluster.Forced) error {
	rec := v.Record()
	if rec.Image {
		return nil
	}
	u, err := holdfast.NewUUID(v.s.Rand)
	if err != nil {
		return err
	}
	taken := func(name string) bool {
		for i := range rec.Snapshots {
			if rec.Snapshots[i].Name == name {
				return true
			}
		}
		return false
	}
	snap := cluster.Snapshot{ID: holdfast.SnapshotID{UUID: u}, Name: cluster.DatedName("forced", "", f.At, taken), Created: v.s.Clock.Wall()}
	return v.Snapshot(snap.ID, func(at holdfast.LSN) error {
		snap.LSN = at
		return v.noteKept(&snap)
	})
}

// noteKept puts into the record what was kept; nil: nothing.
func (v *Volume) noteKept(snap *cluster.Snapshot) error {
	return v.commit(func(rec *cluster.Volume) (bool, error) {
		if rec.Forced == nil || rec.Forced.Kept {
			return false, nil
		}
		f := *rec.Forced
		f.Kept = true
		if snap != nil {
			f.Snapshot = snap.ID
			rec.Snapshots = append(append([]cluster.Snapshot(nil), rec.Snapshots...), *snap)
		}
		rec.Forced = &f
		return true, nil
	})
}

// SetAside makes the whole content of a replica of this host that its volume was
// opened without a replica of another volume, beside it, and fills in what it is.
// Its own writer, should one have gone on with it, is refused from here on. It
// may be repeated. It blocks.
func (s *Service) SetAside(l *cluster.LostCopy, now holdfast.Epoch) (blocks uint64, err error) {
	m := s.member(l.ID)
	if m == nil {
		return 0, holdfast.Errorf(holdfast.NotFound, "replica %s is not on this host", l.ID.Short())
	}
	rep, err := m.promised(now, s.Clock.Now)
	if err != nil {
		return 0, err
	}
	if rep.Promise > now {
		return 0, holdfast.Errorf(holdfast.Conflict, "replica %s has promised epoch %d, above its volume's %d: the record is an old one", l.ID.Short(), rep.Promise, now)
	}
	s.fenceBelow(m, now)
	if err := s.onDisk(m, rep.Prefix); err != nil {
		return 0, err
	}
	m.r.SetStable(rep.Prefix) // nobody else has a say in it any more
	r, err := m.st.Clone(l.Copy, l.Volume, m.r, holdfast.SnapshotID{})
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	if s.members[l.Copy] == nil {
		s.addMember(m.st, r)
	}
	s.mu.Unlock()
	l.Prefix, l.Damaged = rep.Prefix, rep.Damaged
	if st := r.State(); st.Reverted <= l.Upto {
		if err := describe(r, l); err != nil {
			l.Blocks, l.Runs = 0, nil // it is a description: what is there is not lost by it
		}
	}
	return r.State().Blocks, nil
}

// onDisk waits until a replica's disk has everything up to an LSN.
func (s *Service) onDisk(m *member, upto holdfast.LSN) error {
	ended := s.Clock.NewEvent()
	var err error
	m.r.Sync(upto, func(e error) { err = e; ended.Set() })
	ended.Wait(clock.Forever)
	return err
}

// describe fills in what of a replica was written above Upto.
func describe(r *store.Replica, l *cluster.LostCopy) error {
	pin := r.PinHead()
	defer pin.Release()
	l.Blocks, l.Runs = 0, nil
	return pin.Walk(store.Changes{Since: l.Upto}, 0, func(addr uint64, _ store.BlockRef) bool {
		l.Blocks++
		switch k := len(l.Runs) - 1; {
		case k >= 0 && l.Runs[k].Addr+l.Runs[k].Blocks == addr:
			l.Runs[k].Blocks++
		case len(l.Runs) < cluster.MaxRuns:
			l.Runs = append(l.Runs, cluster.Run{Addr: addr, Blocks: 1})
		}
		return true
	})
}
