package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// The largest group is taken again and again, and always named in one commit:
// also when the volumes' pages fill in step and the names are as long as may be.
func TestALargeGroupIsNamedInOneCommitHoweverOften(t *testing.T) {
	s := newScene(t, 9, 1)
	a := s.hosts[0]
	s.do(a, func() {
		var vols []cluster.Volume
		revs := make([]kv.Rev, cluster.MaxGroup)
		for i := range cluster.MaxGroup {
			vols = append(vols, volume(fmt.Sprint("v", i)))
			rev, err := put(a, vols[i], 0)
			s.ok(err)
			revs[i] = rev
		}
		name := func(n int) string { return fmt.Sprintf("%063d", n) }
		for n := range 200 {
			tx := a.c.Begin()
			for i := range vols {
				sn := cluster.Snapshot{Name: name(n), LSN: holdfast.MakeLSN(holdfast.MaxEpoch, uint64(n)), Created: time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC), GroupSize: cluster.MaxGroup}
				sn.ID.UUID, sn.Group.UUID = uuid(fmt.Sprint("snap", i, n)), uuid(fmt.Sprint("group", n))
				vols[i].Snapshots = append(vols[i].Snapshots[:n:n], sn)
				tx.PutVolume(vols[i], revs[i])
			}
			rev, err := tx.Commit()
			s.ok(err)
			a.c.WaitRev(rev, time.Second)
			for i := range revs {
				revs[i] = rev
			}
		}
		groups := a.c.State().SnapshotGroups()
		if len(groups) != 200 {
			t.Fatalf("%d groups", len(groups))
		}
		for _, g := range groups {
			if len(g.Members) != cluster.MaxGroup || g.Size != cluster.MaxGroup || len(g.Name) != 63 {
				t.Fatalf("group %s (%s) has %d of %d members", g.ID, g.Name, len(g.Members), g.Size)
			}
		}
	})
}

// A group shows what is left of it, and goes with its last snapshot.
func TestAGroupShowsWhatIsLeftOfIt(t *testing.T) {
	group, snap := holdfast.GroupID{UUID: uuid("g")}, func(s string) cluster.Snapshot {
		return cluster.Snapshot{ID: holdfast.SnapshotID{UUID: uuid(s)}, Name: "monday", Group: holdfast.GroupID{UUID: uuid("g")}, GroupSize: 3}
	}
	alone := cluster.Snapshot{ID: holdfast.SnapshotID{UUID: uuid("alone")}, Name: "monday"}
	hidden := snap("c")
	hidden.Hidden = true
	st := &cluster.State{Volumes: make(map[holdfast.VolumeID]cluster.Versioned[cluster.Volume])}
	for name, snaps := range map[string][]cluster.Snapshot{"z": {snap("a")}, "b": {alone, snap("b")}, "c": {hidden}, "d": {alone}} {
		v := volume(name)
		v.Name, v.Snapshots = name, snaps
		st.Volumes[v.ID] = cluster.Versioned[cluster.Volume]{Mod: 1, Val: v}
	}
	got := st.SnapshotGroups()
	if len(got) != 1 || got[0].ID != group || got[0].Size != 3 || len(got[0].Members) != 2 || got[0].Members[0].Name != "b" || got[0].Members[1].Name != "z" {
		t.Errorf("%+v", got)
	}
}
