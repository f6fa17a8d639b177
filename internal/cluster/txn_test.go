package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// put commits a volume and returns its revision.
func put(h *host, v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	t := h.c.Begin()
	t.PutVolume(v, mod)
	return t.Commit()
}

func TestAChangeIsSeenByEveryHost(t *testing.T) {
	s := newScene(t, 1, 3)
	a, b := s.hosts[0], s.hosts[1]
	var rev kv.Rev
	s.do(a, func() {
		tx := a.c.Begin()
		tx.PutVolume(volume("v1"), 0)
		tx.PutVM(vm("m1"), 0)
		tx.PutMachine(cluster.Machine{VM: vm("m1").ID, Host: a.id, State: "running"}, 0)
		tx.PutDisk(cluster.Disk{ID: holdfast.DiskID{UUID: uuid("d1")}, Host: a.id, Path: "/d"}, 0)
		tx.PutIncident(cluster.Incident{ID: "1-a"}, 0)
		var err error
		rev, err = tx.Commit()
		s.ok(err)
	})
	s.do(b, func() {
		if !b.c.WaitRev(rev, time.Second) {
			t.Fatal("not seen")
		}
		st := b.c.State()
		v, ok := st.VolumeByName("v1")
		if !ok || v.Mod != rev || v.Val.Blocks != 1024 {
			t.Errorf("volume: %+v %v", v, ok)
		}
		if m, ok := st.VMByName("m1"); !ok || m.Val.CPUs != 1 {
			t.Errorf("vm: %+v %v", m, ok)
		}
		if len(st.Machines) != 1 || len(st.Disks) != 1 || len(st.Incidents) != 1 || len(st.Bad) != 0 {
			t.Errorf("%+v", st)
		}
	})
	s.do(b, func() {
		before := b.c.State()
		tx := b.c.Begin()
		tx.DeleteVM(vm("m1").ID, rev)
		tx.DeleteMachine(vm("m1").ID, rev)
		tx.DeleteIncident("1-a", rev)
		tx.DeleteDisk(holdfast.DiskID{UUID: uuid("d1")}, rev)
		r2, err := tx.Commit()
		s.ok(err)
		b.c.WaitRev(r2, time.Second)
		if len(before.VMs) != 1 || len(before.Disks) != 1 {
			t.Error("an old picture has changed")
		}
		if st := b.c.State(); len(st.VMs)+len(st.Machines)+len(st.Incidents)+len(st.Disks) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestADecisionOnAnOldRecordIsRefused(t *testing.T) {
	s := newScene(t, 2, 2)
	a, b := s.hosts[0], s.hosts[1]
	v := volume("v1")
	var r1, r2 kv.Rev
	var err error
	s.do(a, func() { r1, err = put(a, v, 0); s.ok(err) })
	s.do(b, func() { v.Epoch = 1; r2, err = put(b, v, r1); s.ok(err) }) // before its picture shows r1
	s.do(a, func() {
		v.Epoch = 2
		_, err = put(a, v, r1)
		s.kind(err, holdfast.Conflict)
		tx := a.c.Begin()
		tx.RequireVolume(v.ID, r1)
		tx.PutVM(vm("m1"), 0)
		_, err = tx.Commit()
		s.kind(err, holdfast.Conflict)
		tx = a.c.Begin()
		tx.RequireVolume(v.ID, r2)
		tx.RequireAlive(b.id, 0)
		tx.PutVM(vm("m1"), 0)
		_, err = tx.Commit()
		s.ok(err)
		_, err = put(a, v, 0) // a second time
		s.kind(err, holdfast.Conflict)
	})
}

func TestNamesAreUniqueAndComeBack(t *testing.T) {
	s := newScene(t, 3, 1)
	a := s.hosts[0]
	v1, v2 := volume("v1"), volume("v2")
	v2.Name = "v1"
	s.do(a, func() {
		r1, err := put(a, v1, 0)
		s.ok(err)
		_, err = put(a, v2, 0)
		s.kind(err, holdfast.Exists)

		tx := a.c.Begin() // a VM may have a volume's name
		m := vm("m1")
		m.Name = "v1"
		tx.PutVM(m, 0)
		_, err = tx.Commit()
		s.ok(err)

		v1.Deleted = true // being deleted: the name is free at once
		r2, err := put(a, v1, r1)
		s.ok(err)
		r3, err := put(a, v2, 0)
		s.ok(err)
		tx = a.c.Begin() // the record's end does not take the new one's name away
		tx.DeleteVolume(v1.ID, r2)
		_, err = tx.Commit()
		s.ok(err)
		v3 := volume("v3")
		v3.Name = "v1"
		_, err = put(a, v3, 0)
		s.kind(err, holdfast.Exists)

		v2.Name = "renamed"
		r4, err := put(a, v2, r3)
		s.ok(err)
		_, err = put(a, v3, 0)
		s.ok(err)

		tx = a.c.Begin() // a name may change hands in one commit
		v4 := volume("v4")
		v4.Name = "renamed"
		tx.DeleteVolume(v2.ID, r4)
		tx.PutVolume(v4, 0)
		r5, err := tx.Commit()
		s.ok(err)
		a.c.WaitRev(r5, time.Second)
		if got, _ := a.c.State().VolumeByName("renamed"); got.Val.ID != v4.ID {
			t.Errorf("the name belongs to %v", got.Val.ID)
		}
		tx = a.c.Begin()
		x, y := volume("x"), volume("y")
		y.Name = "x"
		tx.PutVolume(x, 0)
		tx.PutVolume(y, 0)
		_, err = tx.Commit()
		s.kind(err, holdfast.Exists)
	})
}

func TestRecordsThatBreakTheRulesAreRefused(t *testing.T) {
	s := newScene(t, 4, 1)
	a := s.hosts[0]
	s.do(a, func() {
		for what, spoil := range map[string]func(*cluster.Volume){
			"no identifier": func(v *cluster.Volume) { v.ID = holdfast.VolumeID{} },
			"no name":       func(v *cluster.Volume) { v.Name = "" },
			"no size":       func(v *cluster.Volume) { v.Blocks = 0 },
			"too large":     func(v *cluster.Volume) { v.Blocks = holdfast.MaxVolumeBlocks + 1 },
			"no copies":     func(v *cluster.Volume) { v.Copies = 0 },
			"min above":     func(v *cluster.Volume) { v.Min = 3 },
			"durability":    func(v *cluster.Volume) { v.Durability = "maybe" },
			"epoch":         func(v *cluster.Volume) { v.Epoch = holdfast.MaxEpoch + 1 },
			"limits":        func(v *cluster.Volume) { v.Limits.IOPS = -1 },
			"a lone burst":  func(v *cluster.Volume) { v.Limits.BurstMS = 1 },
			"empty replica": func(v *cluster.Volume) { v.InSync = []cluster.Replica{{}} },
			"snapshots":     func(v *cluster.Volume) { v.Snapshots = make([]cluster.Snapshot, cluster.MaxSnapshots+1) },
		} {
			v := volume("v1")
			spoil(&v)
			_, err := put(a, v, 0)
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for what, spoil := range map[string]func(*cluster.VM){
			"no CPU":    func(v *cluster.VM) { v.CPUs = 0 },
			"too big":   func(v *cluster.VM) { v.UserData = strings.Repeat("x", kv.MaxValue) },
			"no memory": func(v *cluster.VM) { v.MemoryMiB = -1 },
			"power":     func(v *cluster.VM) { v.Power = "" },
			"isolation": func(v *cluster.VM) { v.Isolation = "reboot" },
			"port":      func(v *cluster.VM) { v.Publish = []cluster.Publish{{Port: 70000, GuestPort: 1}} },
		} {
			v := vm("m1")
			spoil(&v)
			tx := a.c.Begin()
			tx.PutVM(v, 0)
			if _, err := tx.Commit(); !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		tx := a.c.Begin()
		for i := range kv.MaxOps/2 + 1 {
			tx.PutVolume(volume(fmt.Sprint("v", i)), 0)
		}
		_, err := tx.Commit()
		s.kind(err, holdfast.Invalid)
		if err == nil || !strings.Contains(err.Error(), "split it") {
			t.Errorf("%v does not say what to do", err)
		}
		if items, _, err := a.st.Range(""); err != nil || len(items) != 0 {
			t.Errorf("%d items were written: %v", len(items), err)
		}
	})
}

func TestAnUnknownOutcomeIsSettledOnce(t *testing.T) {
	var settled, unknown int
	for seed := range uint64(60) {
		s := newScene(t, seed, 2)
		a, b := s.hosts[0], s.hosts[1]
		s.run(time.Second)
		s.srv.SetDown(true)
		s.w.Clock().AfterFunc(7*time.Second, func() { s.srv.SetDown(false) })
		var rev kv.Rev
		var err error
		s.do(a, func() {
			tx := a.c.Begin()
			tx.PutVolume(volume("v1"), 0)
			rev, err = tx.Settle(30 * time.Second)
		})
		if err != nil {
			unknown++
			s.kind(err, holdfast.Unknown)
			continue
		}
		settled++
		s.do(b, func() {
			b.c.WaitRev(rev, 10*time.Second)
			if v, ok := b.c.State().VolumeByName("v1"); !ok || v.Mod != rev {
				t.Errorf("seed %d: settled at %d, but the map has %+v", seed, rev, v)
			}
		})
	}
	if settled < 50 {
		t.Errorf("%d settled, %d stayed unknown", settled, unknown)
	}
}

func TestASettledConflictIsNotTakenForSuccess(t *testing.T) {
	s := newScene(t, 1, 2)
	a, b := s.hosts[0], s.hosts[1]
	var r1 kv.Rev
	s.do(a, func() { r1, _ = put(a, volume("v1"), 0) })
	s.srv.Cut("a", true, true) // a's change never arrives, and a cannot know
	done := false
	var err error
	a.clk.Go(func() {
		v := volume("v1")
		v.Writer, v.Epoch = a.id, 1
		tx := a.c.Begin()
		tx.PutVolume(v, r1)
		_, err = tx.Settle(time.Minute)
		done = true
	})
	s.do(b, func() {
		v := volume("v1")
		v.Writer, v.Epoch = b.id, 1
		_, err := put(b, v, r1)
		s.ok(err)
		clock.Sleep(b.clk, 6*time.Second)
	})
	s.srv.Cut("a", false, false)
	s.until("the end of a's attempt", 2*time.Minute, func() bool { return done })
	s.kind(err, holdfast.Conflict)
}

func TestASureConflictStaysOneEvenIfTheRecordsAreEqual(t *testing.T) {
	s := newScene(t, 1, 2)
	a, b := s.hosts[0], s.hosts[1]
	s.do(a, func() { _, err := put(a, volume("v1"), 0); s.ok(err) })
	s.do(b, func() {
		tx := b.c.Begin()
		tx.PutVolume(volume("v1"), 0)
		_, err := tx.Settle(time.Minute)
		s.kind(err, holdfast.Conflict)
	})
}
