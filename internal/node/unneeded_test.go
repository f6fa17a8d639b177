package node

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

func TestADeletedSnapshotGoesWithItsLastClone(t *testing.T) {
	vol := func(n byte) holdfast.VolumeID { return holdfast.VolumeID{UUID: holdfast.UUID{15: n}} }
	snap := func(n byte) holdfast.SnapshotID { return holdfast.SnapshotID{UUID: holdfast.UUID{14: n}} }
	origin := &cluster.Origin{Volume: vol(1), Snapshot: snap(1)}
	from := cluster.Volume{ID: vol(1), Snapshots: []cluster.Snapshot{{ID: snap(1), Hidden: true}, {ID: snap(2)}}}
	clone, other := cluster.Volume{ID: vol(2), Origin: origin}, cluster.Volume{ID: vol(3), Origin: origin}
	state := func(vols ...cluster.Volume) *cluster.State {
		st := &cluster.State{Volumes: map[holdfast.VolumeID]cluster.Versioned[cluster.Volume]{}}
		for i, v := range vols {
			st.Volumes[v.ID] = cluster.Versioned[cluster.Volume]{Val: v, Mod: kv.Rev(i + 10)}
		}
		return st
	}
	if _, _, ok := unneeded(state(from, clone, other), clone); ok {
		t.Error("the snapshot goes though another clone needs it")
	}
	rec, mod, ok := unneeded(state(from, clone), clone)
	if !ok || mod != 10 || len(rec.Snapshots) != 1 || rec.Snapshots[0].ID != snap(2) {
		t.Errorf("with the last clone: %v, revision %d, %v", rec.Snapshots, mod, ok)
	}
	if len(from.Snapshots) != 2 {
		t.Error("the record in the state was changed")
	}
	from.Snapshots[0].Hidden = false
	if _, _, ok := unneeded(state(from, clone), clone); ok {
		t.Error("a snapshot that nobody deleted goes with its clone")
	}
	if _, _, ok := unneeded(state(clone), clone); ok {
		t.Error("the volume is not there any more")
	}
}
