package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// A snapshot is first kept by the replicas and then named in the volume's
// record; it is let go in the opposite order. Whoever is interrupted in between
// leaves a snapshot that nobody knows of. The volume's writer lets it go.

// orphanEvery is how often a writer looks for such snapshots, and how long
// after the opening it looks first.
const orphanEvery = time.Minute

// dropOrphansSometimes looks for orphans when it is time to. It is called by
// the volume's timer.
func (v *Volume) dropOrphansSometimes() {
	now := v.s.Clock.Now()
	v.mu.Lock()
	due := v.failed == nil && v.local != nil && now >= v.orphansAt
	if due {
		v.orphansAt = now + orphanEvery
	}
	v.mu.Unlock()
	if due && len(v.orphans(v.Record())) > 0 {
		v.tasks.Go(v.dropOrphans)
	}
}

// dropOrphans drops the snapshots that the record does not name. The record is
// read after the replica's snapshots were listed: one that was named in the
// meantime is there. One that is being made is left alone, and a record that
// names one made by an earlier writer was committed before this one's epoch
// (see provision.Snapshot).
func (v *Volume) dropOrphans() {
	found := v.orphans(v.Record())
	if v.lapse(found) != nil {
		return
	}
	rec, _, err := v.s.Records.ReadVolume(v.id)
	if err != nil || rec.Epoch != v.epoch {
		return // another time, or another writer
	}
	named := namedIn(rec)
	for _, id := range found {
		if named[id] {
			continue
		}
		if err := v.DropSnapshot(id); err != nil {
			return
		}
		v.log.Info("a snapshot that nobody knows of was let go", "snapshot", id.String())
	}
}

// orphans lists the snapshots of this host's replica that rec does not name
// and that are not being made.
func (v *Volume) orphans(rec cluster.Volume) (out []holdfast.SnapshotID) {
	v.mu.Lock()
	local := v.local
	v.mu.Unlock()
	if local == nil {
		return nil
	}
	kept, named := local.r.State().Snapshots, namedIn(rec)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, sn := range kept {
		if !v.isMade(sn.ID) && !named[sn.ID] {
			out = append(out, sn.ID)
		}
	}
	return out
}

// namedIn is the snapshots that a record names.
func namedIn(rec cluster.Volume) map[holdfast.SnapshotID]bool {
	out := make(map[holdfast.SnapshotID]bool, len(rec.Snapshots))
	for i := range rec.Snapshots {
		out[rec.Snapshots[i].ID] = true
	}
	return out
}
