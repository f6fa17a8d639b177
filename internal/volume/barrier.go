package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// A group snapshot keeps several volumes as they are at one point: if a write
// is in its volume's snapshot, so is every write on a volume of the group that
// was acknowledged before it was submitted (docs/adr/0054). Each writer raises a
// barrier, behind which writes that come wait to be admitted. Only when all
// have, each is told to keep its content and, in the same moment, takes its
// barrier down. A writer that is not told does so by itself, and then refuses
// to keep anything: what makes the order right is that the barrier stood
// without a break, not how late it is on anybody's clock.

const (
	// barrierLimit is how long a barrier stands at most.
	barrierLimit = time.Second
	// namingLimit is how long a snapshot of a group that nobody asks for may
	// stay without a name in the volume's record. Then it is let go.
	namingLimit = 30 * time.Second
)

// barrier is a group's hold on a volume's writes.
type barrier struct{ group holdfast.GroupID }

// lapsed marks a snapshot that nobody may name any more, see Volume.making.
const lapsed = time.Duration(-2)

// mayKeep says why no further snapshot can be made, if none can.
func (v *Volume) mayKeep() error {
	if rec := v.Record(); len(rec.Snapshots) >= cluster.MaxSnapshots {
		return holdfast.Errorf(holdfast.NoSpace, "volume %s has %d snapshots, no more can be kept; delete some", rec.Name, len(rec.Snapshots))
	}
	return v.Err()
}

// raise has writes that come from now on wait for the cut, or for barrierLimit.
// Kind Busy while another group has its barrier here. It may be repeated, which
// does not make the time longer.
func (v *Volume) raise(g holdfast.GroupID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.failed != nil:
		return v.failed
	case v.barrier == nil:
		b := &barrier{g}
		v.barrier = b
		v.s.Clock.AfterFunc(barrierLimit, func() { v.takeDown(b) })
	case v.barrier.group != g:
		return holdfast.Errorf(holdfast.Busy, "another group snapshot with volume %s is being taken; try again", v.rec.Name)
	}
	return nil
}

// takeDown takes a barrier down that still stands, and admits what waited.
func (v *Volume) takeDown(b *barrier) {
	v.mu.Lock()
	if v.barrier == b {
		v.barrier = nil
		v.admitLocked()
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

// cut keeps the volume's content under id, as it has been since the barrier was
// raised, and takes the barrier down. The content is durable on return. Until
// its end, or for namingLimit, the snapshot needs no name. It blocks.
func (v *Volume) cut(g holdfast.GroupID, id holdfast.SnapshotID) (holdfast.LSN, error) {
	return v.controlIf(record.Record{Kind: record.Snapshot, Snapshot: id}, func() error {
		if v.barrier == nil || v.barrier.group != g {
			return holdfast.Errorf(holdfast.Conflict, "the writes of volume %s could not be held long enough (%v) for all volumes of the group to be ready; try again", v.rec.Name, barrierLimit)
		}
		v.barrier = nil
		v.making[id] = v.s.Clock.Now() + namingLimit
		return nil
	})
}

// renew asks that a snapshot of a group may be named now: from here on it stays
// for namingLimit. Kind Conflict: it is about to be let go, or is gone.
func (v *Volume) renew(id holdfast.SnapshotID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if until, ok := v.making[id]; !ok || until == lapsed {
		return holdfast.Errorf(holdfast.Conflict, "the snapshot of volume %s was not named within %v and is let go; try again", v.rec.Name, namingLimit)
	}
	v.making[id] = v.s.Clock.Now() + namingLimit
	return nil
}

// end ends a group's work here: its barrier, if it stands, and the time in
// which its snapshot needs no name. One that is not kept is let go at once. It
// blocks.
func (v *Volume) end(g holdfast.GroupID, id holdfast.SnapshotID, keep bool) error {
	v.mu.Lock()
	b := v.barrier
	_, made := v.making[id]
	delete(v.making, id)
	v.mu.Unlock()
	if b != nil && b.group == g {
		v.takeDown(b)
	}
	if !made || keep {
		return nil
	}
	return v.DropSnapshot(id)
}

// lapse makes sure that nobody names those of these snapshots any more whose
// time is over: who would does so by a commit on the record as it was when the
// time was last renewed, and the record is changed here. Kind Unavailable while
// that cannot be known. It blocks.
func (v *Volume) lapse(found []holdfast.SnapshotID) error {
	var over []holdfast.SnapshotID
	v.mu.Lock()
	for _, id := range found {
		if _, ok := v.making[id]; ok {
			v.making[id] = lapsed
			over = append(over, id)
		}
	}
	v.mu.Unlock()
	if len(over) == 0 {
		return nil
	}
	if err := v.commit(func(*cluster.Volume) (bool, error) { return true, nil }); err != nil {
		return err
	}
	v.mu.Lock()
	for _, id := range over {
		delete(v.making, id)
	}
	v.mu.Unlock()
	return nil
}

// isMade reports whether a snapshot is being made, and needs no name yet; v.mu
// is held.
func (v *Volume) isMade(id holdfast.SnapshotID) bool {
	until, ok := v.making[id]
	return ok && until != lapsed && (until == clock.Forever || v.s.Clock.Now() < until)
}
