package volume

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Frames that make and remove replicas (docs/protocol/replica.md).
const (
	KindCreate transport.Kind = 0x30 // disk, replica, volume, blocks, origin replica, snapshot, its LSN
	KindRemove transport.Kind = 0x31 // replica
)

const createSize = 16*3 + 8 + 16*2 + 8

// CreateReplica makes a replica of a volume on ref's disk: empty, or with from
// set a linked clone of that replica's snapshot (zero: of its head), as the record
// of its volume has it. It is durable on return and may be repeated.
func (s *Service) CreateReplica(ref cluster.Replica, vol holdfast.VolumeID, blocks uint64, from holdfast.ReplicaID, snap cluster.Snapshot) error {
	b := make([]byte, 0, createSize)
	b = append(append(append(b, ref.Disk.UUID[:]...), ref.ID.UUID[:]...), vol.UUID[:]...)
	b = binary.LittleEndian.AppendUint64(b, blocks)
	b = append(append(b, from.UUID[:]...), snap.ID.UUID[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(snap.LSN))
	_, err := transport.Call(s.Clock, s.Net, ref.Host, transport.Frame{Kind: KindCreate, Head: b}, sessionCall)
	return err
}

// RemoveReplica removes a replica; one that is not there is no error.
func (s *Service) RemoveReplica(ref cluster.Replica) error {
	_, err := transport.Call(s.Clock, s.Net, ref.Host, transport.Frame{Kind: KindRemove, Head: ref.ID.UUID[:]}, askTimeout)
	return err
}

func (s *Service) serveCreate(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	if len(f.Head) != createSize {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "create replica: %d bytes, need %d", len(f.Head), createSize))
		return
	}
	b := append([]byte(nil), f.Head...)
	s.tasks.Go(func() { reply(transport.Frame{}, s.createHere(b)) })
}

func (s *Service) createHere(b []byte) error {
	var disk holdfast.DiskID
	var id, from holdfast.ReplicaID
	var vol holdfast.VolumeID
	var snap holdfast.SnapshotID
	copy(disk.UUID[:], b)
	copy(id.UUID[:], b[16:])
	copy(vol.UUID[:], b[32:])
	blocks := binary.LittleEndian.Uint64(b[48:])
	copy(from.UUID[:], b[56:])
	copy(snap.UUID[:], b[72:])
	at := holdfast.LSN(binary.LittleEndian.Uint64(b[88:]))
	if blocks == 0 || blocks > holdfast.MaxVolumeBlocks {
		return holdfast.Errorf(holdfast.Invalid, "create replica: %d blocks are out of range", blocks)
	}
	s.mu.Lock()
	st, have, origin := s.stores[disk], s.members[id], s.members[from]
	s.mu.Unlock()
	if st == nil {
		return holdfast.Errorf(holdfast.NotFound, "disk %s is not in use on this host", disk.Short())
	}
	if have != nil {
		return nil
	}
	var r *store.Replica
	var err error
	switch {
	case from.IsZero():
		r, err = st.Create(id, vol, blocks)
	case origin == nil || origin.st != st:
		err = holdfast.Errorf(holdfast.NotFound, "replica %s is not on disk %s; a linked clone must share its disk", from.Short(), disk.Short())
	default:
		// An origin that nobody has open was perhaps never told that its snapshot is
		// stable: its writer is gone, and with it the other replicas.
		origin.r.Recorded(snap, at)
		r, err = st.Clone(id, vol, origin.r, snap)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.addMember(st, r)
	s.mu.Unlock()
	return nil
}

func (s *Service) serveRemove(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	if len(f.Head) != 16 {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "remove replica: %d bytes, need 16", len(f.Head)))
		return
	}
	var id holdfast.ReplicaID
	copy(id.UUID[:], f.Head)
	s.tasks.Go(func() {
		m := s.member(id)
		if m == nil {
			reply(transport.Frame{}, nil)
			return
		}
		crashpoint.At(crashpoint.DeleteBegun)
		err := m.st.Remove(id)
		if err == nil {
			crashpoint.At(crashpoint.DeleteLogged)
			s.mu.Lock()
			delete(s.members, id)
			s.mu.Unlock()
		}
		reply(transport.Frame{}, err)
	})
}

// Snapshot keeps the volume's content as of now under id, on every in-sync
// replica, and has keep name it in the volume's record; without that it is let
// go again. Kind NoSpace if there are cluster.MaxSnapshots already. It blocks.
func (v *Volume) Snapshot(id holdfast.SnapshotID, keep func(at holdfast.LSN) error) error {
	if err := v.mayKeep(); err != nil {
		return err
	}
	v.mu.Lock()
	v.making[id] = clock.Forever
	v.mu.Unlock()
	crashpoint.At(crashpoint.SnapshotAsked)
	at, err := v.control(record.Record{Kind: record.Snapshot, Snapshot: id})
	if err == nil {
		crashpoint.At(crashpoint.SnapshotLogged)
		err = keep(at)
		crashpoint.At(crashpoint.SnapshotNamed)
	}
	v.mu.Lock()
	if holdfast.IsKind(err, holdfast.Unknown) {
		v.making[id] = v.s.Clock.Now() // its name may still come; see lapse
	} else {
		delete(v.making, id)
	}
	v.mu.Unlock()
	return err
}

// Revert makes the head equal to a snapshot again. It blocks; no session may
// be open. Kind Busy while the volume's writes are held for a group snapshot.
func (v *Volume) Revert(id holdfast.SnapshotID) error {
	_, err := v.controlIf(record.Record{Kind: record.Revert, Snapshot: id}, func() error {
		if v.barrier != nil {
			return holdfast.Errorf(holdfast.Busy, "a group snapshot with volume %s is being taken; try again", v.rec.Name)
		}
		return nil
	})
	crashpoint.At(crashpoint.RevertLogged)
	return err
}

// DropSnapshot lets a snapshot go. It blocks.
func (v *Volume) DropSnapshot(id holdfast.SnapshotID) error {
	crashpoint.At(crashpoint.DropAsked)
	_, err := v.control(record.Record{Kind: record.DropSnap, Snapshot: id})
	crashpoint.At(crashpoint.DropLogged)
	return err
}

// takeRecord takes the volume's record as it is now; if it says that the volume
// is larger, so are the replicas from here on. v.mu is held; the caller pumps.
func (v *Volume) takeRecord(rec cluster.Volume, mod kv.Rev) {
	grown := rec.Blocks > v.rec.Blocks
	v.noteRelease(v.rec.Release, rec.Release)
	v.rec, v.mod = rec, mod
	v.setLimits(rec.Limits)
	if grown && v.failed == nil {
		v.growLocked()
	}
}

// growLocked gives the replicas the record's size. Should it be forgotten, the
// next opening does it again. v.mu is held.
func (v *Volume) growLocked() {
	if err := v.issue(record.Record{Kind: record.Grow, Blocks: v.rec.Blocks}, nil); err != nil {
		v.log.Error("the volume could not be grown", "blocks", v.rec.Blocks, "error", err)
	}
}

// control issues a control record with FUA.
func (v *Volume) control(r record.Record) (holdfast.LSN, error) {
	return v.controlIf(r, func() error { return nil })
}

// controlIf is control if may, under v.mu and at the moment of the issue, has
// nothing against it.
func (v *Volume) controlIf(r record.Record, may func() error) (holdfast.LSN, error) {
	req := &export.Request{}
	ev := v.s.Clock.NewEvent()
	var err error
	req.Done = func(_ *export.Request, e error) { err = e; ev.Set() }
	o := newOp(req)
	v.mu.Lock()
	var lsn holdfast.LSN
	refused := v.failed
	if refused == nil {
		refused = may()
	}
	if refused != nil {
		v.finishLocked(o, refused)
	} else {
		ierr := v.issue(r, nil)
		lsn = v.m.Issued()
		v.pend(o, ierr, true)
		v.admitLocked() // what may have waited for this
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	ev.Wait(-1)
	return lsn, err
}

// weigh gives the replicas of a volume on this host its weight.
func (s *Service) weigh(rec cluster.Volume) {
	for _, refs := range [][]cluster.Replica{rec.InSync, rec.Others} {
		for _, ref := range refs {
			if m := s.member(ref.ID); m != nil {
				m.r.SetWeight(rec.Weight)
			}
		}
	}
}

// NoteRecord tells the service what the cluster's state says of a volume, so
// that an open one learns of new replicas, and of its end, without asking, and the
// replicas here of its weight.
func (s *Service) NoteRecord(rec cluster.Volume, mod kv.Rev) {
	s.weigh(rec)
	v := s.Opened(rec.ID)
	if v == nil {
		return
	}
	if rec.Epoch > v.epoch {
		v.fail(holdfast.Errorf(holdfast.Fenced, "volume %s was opened at epoch %d by another host", rec.Name, rec.Epoch))
		return
	}
	v.mu.Lock()
	if mod > v.mod && rec.Epoch == v.epoch {
		v.takeRecord(rec, mod)
		v.pump()
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}
