package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// volumes makes n empty volumes of one copy each, named v0, v1, and so on.
func (s *scene) volumes(n int) (ids []holdfast.VolumeID) {
	s.Helper()
	for i := range n {
		s.on(s.boxes[0], func(p *provision.Provisioner) {
			rec, err := p.CreateVolume(provision.VolumeSpec{Name: fmt.Sprint("v", i), Blocks: 64, Copies: 1})
			s.ok(err)
			ids = append(ids, rec.ID)
		})
	}
	return ids
}

// group takes a group snapshot from a host.
func (s *scene) group(b *box, ids []holdfast.VolumeID, name string) (g cluster.SnapshotGroup, err error) {
	s.on(b, func(p *provision.Provisioner) { g, err = p.SnapshotGroup(ids, name) })
	return g, err
}

// onDisks counts the snapshots that the replicas keep of the volumes.
func (s *scene) onDisks(ids []holdfast.VolumeID) (n int) {
	for _, b := range s.boxes {
		if b.node == nil {
			continue
		}
		s.as(b.clk, func() {
			for _, st := range b.node.Volumes.Stores() {
				for _, r := range st.Replicas() {
					if state := r.State(); slices.Contains(ids, state.Volume) {
						n += len(state.Snapshots)
					}
				}
			}
		})
	}
	return n
}

// nothingKept checks that neither records nor, after a while, disks have it.
func (s *scene) nothingKept(ids []holdfast.VolumeID, was int) {
	s.Helper()
	s.run(4 * time.Minute)
	if n := s.onDisks(ids); n != was {
		s.Errorf("%d snapshots are on disks, want %d", n, was)
	}
}

func TestAGroupSnapshotOfAsManyVolumesAsMayBe(t *testing.T) {
	s := newScene(t, 401, 3)
	ids := s.volumes(cluster.MaxGroup + 1)
	_, err := s.group(s.boxes[1], ids, "monday")
	s.kind(err, holdfast.Invalid)
	g, err := s.group(s.boxes[1], ids[:cluster.MaxGroup], "monday")
	s.ok(err)
	if len(g.Members) != cluster.MaxGroup || g.Size != cluster.MaxGroup {
		t.Errorf("a group of %d with %d members", g.Size, len(g.Members))
	}
	one, err := s.group(s.boxes[2], ids[3:4], "tuesday")
	s.ok(err)
	if len(one.Members) != 1 || one.Size != 1 {
		t.Errorf("%+v", one)
	}
	s.until("the records", func(st *cluster.State) bool { return len(st.SnapshotGroups()) == 2 })
	if n := s.onDisks(ids); n != cluster.MaxGroup+1 {
		t.Errorf("%d snapshots are on disks", n)
	}
	for _, m := range g.Members {
		v := s.eye.State().Volumes[m.Volume].Val
		if len(v.Snapshots) == 0 || v.Snapshots[0] != m.Snapshot || m.Snapshot.Group != g.ID {
			t.Errorf("volume %s has %+v, want %+v", v.Name, v.Snapshots, m.Snapshot)
		}
	}
}

func TestAGroupThatCannotBeIsRefusedWholly(t *testing.T) {
	s := newScene(t, 402, 3)
	a, b := s.boxes[0], s.boxes[1]
	ids := s.volumes(3)
	image := s.image(a)
	s.on(b, func(p *provision.Provisioner) {
		_, err := p.Volumes.Open(ids[2])
		s.ok(err)
		_, err = p.Snapshot(ids[2], "monday")
		s.ok(err)
	})
	for _, r := range []struct {
		ids  []holdfast.VolumeID
		name string
		want holdfast.Kind
	}{
		{nil, "x", holdfast.Invalid},
		{ids, "", holdfast.Invalid},
		{[]holdfast.VolumeID{ids[0], ids[1], ids[0]}, "x", holdfast.Invalid},
		{[]holdfast.VolumeID{ids[0], image}, "x", holdfast.Invalid},
		{[]holdfast.VolumeID{ids[0], {}}, "x", holdfast.NotFound},
		{ids, "monday", holdfast.Exists},
	} {
		_, err := s.group(a, r.ids, r.name)
		s.kind(err, r.want)
	}
	s.nothingKept(ids, 1)
	_, err := s.group(a, ids, "tuesday")
	s.ok(err)
}

// All power was lost, and nobody has given the key yet: one volume of the group
// is locked.
func TestAGroupWithALockedVolume(t *testing.T) {
	s := newScene(t, 403, 2)
	k := clusterKey(1)
	s.on(s.boxes[0], func(p *provision.Provisioner) { s.ok(p.InitKey(k, fromFile())) })
	s.until("all have it", func(st *cluster.State) bool { return loaded(st, k) })
	ids := append(s.volumes(2), s.encrypted("secret").ID)
	for _, b := range s.boxes {
		b.pull()
	}
	s.run(10 * time.Second)
	for _, b := range s.boxes {
		b.powerOn()
	}
	s.until("the hosts are back", func(st *cluster.State) bool { return len(st.Alive) == 2 && !st.Leader.IsZero() })
	_, err := s.group(s.boxes[0], ids, "monday")
	s.kind(err, holdfast.Unavailable)
	if err == nil || !strings.Contains(err.Error(), "volume secret is locked") {
		t.Errorf("the reason is not told: %v", err)
	}
	s.nothingKept(ids, 0)
	s.on(s.boxes[1], func(p *provision.Provisioner) { s.ok(p.LoadKey(k)) })
	s.until("all have it", func(st *cluster.State) bool { return loaded(st, k) })
	_, err = s.group(s.boxes[0], ids, "monday")
	s.ok(err)
}

// A host that is to write one of the volumes cannot be reached.
func TestAGroupWithAVolumeThatNobodyCanWrite(t *testing.T) {
	s := newScene(t, 404, 3)
	ids := s.volumes(6)
	s.until("the records", func(st *cluster.State) bool { return len(st.Volumes) == 6 })
	lost := s.box(s.eye.State().Volumes[ids[5]].Val.InSync[0].Host)
	others := slices.DeleteFunc(slices.Clone(ids), func(id holdfast.VolumeID) bool {
		return s.eye.State().Volumes[id].Val.InSync[0].Host == lost.rec.ID
	})
	by := s.box(s.eye.State().Volumes[others[0]].Val.InSync[0].Host)
	lost.pull()
	_, err := s.group(by, ids, "monday")
	s.kind(err, holdfast.Unavailable)
	s.nothingKept(others, 0)
	_, err = s.group(by, others, "monday")
	s.ok(err)
}

// The answers of the control plane are lost while a group is named: it is there
// wholly or not at all, in records and on disks, and nothing else is said of it.
func TestWhenTheOutcomeOfAGroupIsLost(t *testing.T) {
	there := 0
	for i := range 6 {
		s := newScene(t, uint64(410+i), 3)
		ids := s.volumes(4)
		_, err := s.group(s.boxes[1], ids, "sunday")
		s.ok(err)
		done := false
		by := s.boxes[i%3]
		var g cluster.SnapshotGroup
		by.clk.Go(func() { g, err = by.node.Make.SnapshotGroup(ids, "monday"); done = true })
		s.run(time.Duration(i) * 100 * time.Microsecond)
		s.kv.SetLoss(0, []float64{0.5, 0.8}[i%2])
		s.run(15 * time.Second)
		s.kv.SetLoss(0, 0)
		s.until("the answer", func(*cluster.State) bool { return done })
		s.run(4 * time.Minute)
		groups := s.eye.State().SnapshotGroups()
		kept := len(groups) == 2 && len(groups[1].Members) == len(ids)
		switch {
		case len(groups) != 1 && !kept:
			t.Errorf("%d: a part of the group is there: %+v", i, groups)
		case err == nil && !kept, err == nil && g.ID != groups[len(groups)-1].ID:
			t.Errorf("%d: it was said to be kept and is not", i)
		case err != nil && kept && !holdfast.IsKind(err, holdfast.Unknown):
			t.Errorf("%d: it is there, and was said not to be: %v", i, err)
		}
		if n := s.onDisks(ids); n != len(groups)*len(ids) {
			t.Errorf("%d: %d snapshots are on disks for %d groups of %d (%v)", i, n, len(groups), len(ids), err)
		}
		if kept {
			there++
		}
		s.close()
	}
	if there == 0 || there == 6 {
		t.Errorf("%d of 6 were kept: these stories tell nothing", there)
	}
}
