package node_test

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replicas counts what stands on the disks of the hosts that run.
func (s *scene) replicas() (n int) {
	for _, b := range s.boxes {
		if b.node == nil {
			continue
		}
		s.as(b.clk, func() {
			for _, st := range b.node.Volumes.Stores() {
				n += len(st.Replicas())
			}
		})
	}
	return n
}

// named counts the replicas that the records name.
func named(st *cluster.State) (n int) {
	for _, v := range st.Volumes {
		n += len(v.Val.InSync) + len(v.Val.Others)
	}
	return n
}

// mended reports whether every volume has its copies and builds none.
func mended(st *cluster.State) bool {
	for _, v := range st.Volumes {
		if len(v.Val.InSync) != v.Val.Copies || len(v.Val.Others) > 0 {
			return false
		}
	}
	return true
}

// whole checks that the records fit together: a VM has its volume, and a
// volume its VM.
func (s *scene) whole() {
	s.Helper()
	st := s.eye.State()
	for id, vm := range st.VMs {
		if v, ok := st.Volumes[vm.Val.Volume]; !vm.Val.Deleted && (!ok || v.Val.VM != id || v.Val.Deleted) {
			s.Errorf("VM %s has no volume of its own", vm.Val.Name)
		}
	}
	for _, v := range st.Volumes {
		if _, ok := st.VMs[v.Val.VM]; !v.Val.VM.IsZero() && !ok {
			s.Errorf("volume %s belongs to a VM that does not exist", v.Val.Name)
		}
	}
	for id := range st.Machines {
		if _, ok := st.VMs[id]; !ok {
			s.Errorf("a machine is recorded of a VM that does not exist: %s", id)
		}
	}
}

func TestAVMIsMadeRunsStopsAndGoes(t *testing.T) {
	s := newScene(t, 1, 3)
	a := s.boxes[0]
	image := s.image(a)
	before := s.replicas()
	var vm cluster.VM
	s.on(a, func(p *provision.Provisioner) {
		var err error
		vm, err = p.CreateVM(vmSpec("db", image))
		s.ok(err)
		_, err = p.CreateVM(vmSpec("db", image))
		s.kind(err, holdfast.Exists)
		_, err = p.CreateVM(vmSpec("No!", image))
		s.kind(err, holdfast.Invalid)
		_, err = p.CreateVM(vmSpec("web", holdfast.VolumeID{UUID: holdfast.UUID{9}}))
		s.kind(err, holdfast.NotFound)
	})
	s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })
	if got := s.replicas() - before; got != 2 {
		t.Errorf("%d replicas were made, refused VMs included", got)
	}
	s.on(a, func(p *provision.Provisioner) {
		s.kind(p.DeleteVM(vm.ID, cluster.VMRemoval{}), holdfast.Conflict) // it runs
		s.ok(p.StopVM(vm.ID, true))
	})
	s.until("the VM is off", func(st *cluster.State) bool { return st.Machines[vm.ID].Val.State == "off" })
	s.on(a, func(p *provision.Provisioner) { s.ok(p.StartVM(vm.ID)) })
	s.until("the VM runs again", func(st *cluster.State) bool { return runs(st, "db") })
	s.on(a, func(p *provision.Provisioner) { s.ok(p.DeleteVM(vm.ID, cluster.VMRemoval{Force: true})) })
	s.until("nothing is left of it", func(st *cluster.State) bool {
		return len(st.VMs)+len(st.Machines) == 0 && len(st.Volumes) == 1
	})
	s.whole()
	if got := s.replicas(); got != before {
		t.Errorf("%d replicas, %d before it was made", got, before)
	}
}

// The process that makes a VM is killed at every moment of it: the VM is there
// with all that belongs to it, or it is not and its name is free.
func TestAKillWhileAVMIsMadeLeavesItWholeOrNotAtAll(t *testing.T) {
	made, not, strays := 0, 0, 0
	for i := range 14 {
		s := newScene(t, uint64(100+i), 3)
		a := s.boxes[0]
		image := s.image(a)
		s.until("the image is everywhere", func(st *cluster.State) bool { return named(st) == 2 })
		a.clk.Go(func() { _, _ = a.node.Make.CreateVM(vmSpec("db", image)) })
		s.run(time.Duration(i) * 800 * time.Microsecond)
		a.kill()
		s.run(time.Second)
		a.start()
		s.run(10 * time.Second)
		s.whole()
		if _, ok := s.eye.State().VMByName("db"); ok {
			made++
		} else {
			not++
			s.on(a, func(p *provision.Provisioner) {
				_, err := p.CreateVM(vmSpec("db", image))
				s.ok(err)
			})
		}
		s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") && mended(st) })
		// What the kill may leave behind is a replica that no record names: it
		// takes its place on a disk and nothing else.
		strays += s.replicas() - named(s.eye.State())
		s.close()
	}
	t.Logf("made %d, not made %d, replicas without a record %d", made, not, strays)
	if made == 0 || not == 0 {
		t.Errorf("made %d times, not made %d times: the kills came at the wrong moments", made, not)
	}
	if strays < 0 || strays > 2*not {
		t.Errorf("%d replicas without a record after %d VMs that were not made", strays, not)
	}
}

// The host that runs a VM is killed while the VM is deleted: it goes all the
// same, with its volume and every replica.
func TestAKillWhileAVMIsDeletedDelaysItAtMost(t *testing.T) {
	for i := range 6 {
		s := newScene(t, uint64(200+i), 3)
		a, b := s.boxes[0], s.boxes[1]
		image := s.image(a)
		before := s.replicas()
		var vm cluster.VM
		s.on(a, func(p *provision.Provisioner) {
			var err error
			vm, err = p.CreateVM(vmSpec("db", image))
			s.ok(err)
		})
		s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })
		at := s.box(s.eye.State().VMs[vm.ID].Val.Host)
		by := b
		if at == b {
			by = a
		}
		by.clk.Go(func() { _ = by.node.Make.DeleteVM(vm.ID, cluster.VMRemoval{Force: true}) })
		s.run(time.Duration(i) * 2 * time.Millisecond)
		at.kill()
		s.run(time.Duration(i) * time.Second)
		at.start()
		s.on(by, func(p *provision.Provisioner) {
			if err := p.DeleteVM(vm.ID, cluster.VMRemoval{Force: true}); err != nil {
				s.kind(err, holdfast.NotFound)
			}
		})
		s.until("nothing is left of it", func(st *cluster.State) bool {
			return len(st.VMs)+len(st.Machines) == 0 && len(st.Volumes) == 1
		})
		s.run(5 * time.Second)
		s.whole()
		if got := s.replicas(); got != before {
			t.Errorf("%d replicas, %d before it was made", got, before)
		}
		s.close()
	}
}

// The answers of the control plane are lost while a VM is made: it is found
// out what became of the commit, and nothing is made twice or taken back.
func TestWhenTheOutcomeOfACommitIsLost(t *testing.T) {
	for i := range 4 {
		s := newScene(t, uint64(300+i), 3)
		a := s.boxes[0]
		image := s.image(a)
		before := s.replicas()
		var err error
		done := false
		s.kv.SetLoss(0, 0.5)
		a.clk.Go(func() { _, err = a.node.Make.CreateVM(vmSpec("db", image)); done = true })
		s.run(20 * time.Second)
		s.kv.SetLoss(0, 0)
		s.until("the answer", func(*cluster.State) bool { return done })
		s.run(5 * time.Second)
		s.whole()
		_, there := s.eye.State().VMByName("db")
		switch {
		case err == nil && !there:
			t.Error("it was said to be made and is not there")
		case err != nil && there && !holdfast.IsKind(err, holdfast.Unknown):
			t.Errorf("it is there, and was said not to be: %v", err)
		case there:
			s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })
			if got := s.replicas() - before; got != 2 {
				t.Errorf("a VM with %d replicas", got)
			}
		}
		s.close()
	}
}

// All power is lost and comes back in any order, rack by rack: every VM that
// should run runs, unattended, and what was stopped stays off.
func TestAfterTheLossOfAllPowerEverythingRunsAgain(t *testing.T) {
	s := newScene(t, 4, 3)
	a := s.boxes[0]
	image := s.image(a)
	var off cluster.VM
	s.on(a, func(p *provision.Provisioner) {
		for i := range 3 {
			_, err := p.CreateVM(vmSpec(fmt.Sprintf("vm%d", i), image))
			s.ok(err)
		}
		var err error
		off, err = p.CreateVM(vmSpec("off", image))
		s.ok(err)
		s.ok(p.StopVM(off.ID, true))
	})
	all := func(st *cluster.State) bool { return runs(st, "vm0") && runs(st, "vm1") && runs(st, "vm2") }
	s.until("all run", all)
	s.run(3 * time.Second)
	for _, b := range s.boxes {
		b.pull()
	}
	s.run(time.Minute)
	for _, i := range []int{2, 0, 1} {
		s.boxes[i].powerOn()
		s.run(7 * time.Second)
	}
	s.until("all run again", all)
	if st := s.eye.State(); st.VMs[off.ID].Val.Power != cluster.Stopped || runs(st, "off") {
		t.Error("a VM that was stopped was started")
	}
	s.until("all copies are there", mended)
	s.whole()
}

// A host is drained: its VM goes, its copies stay, and it comes back to work.
func TestAHostIsDrained(t *testing.T) {
	s := newScene(t, 5, 3)
	a := s.boxes[0]
	vm := s.db(a)
	from := s.eye.State().VMs[vm.ID].Val.Host
	s.drain(from, true)
	s.until("the VM runs elsewhere", func(st *cluster.State) bool { return runs(st, "db") && st.VMs[vm.ID].Val.Host != from })
	if came := s.eye.State().VMs[vm.ID].Val.Came; came == "" {
		t.Error("nothing tells how it came there")
	}
	if v := s.eye.State().Volumes[vm.Volume].Val; len(v.InSync) != 2 {
		t.Errorf("its volume has %d copies", len(v.InSync))
	}
	s.run(time.Minute)
	if to := s.eye.State().VMs[vm.ID].Val; to.Generation != vm.Generation+1 || to.Leaving() {
		t.Errorf("it was moved %d times", to.Generation-vm.Generation)
	}
	s.drain(from, false)
	s.whole()
}

func (s *scene) drain(id holdfast.HostID, on bool) {
	s.Helper()
	s.on(s.boxes[0], func(*provision.Provisioner) {
		st, err := s.boxes[0].node.Cluster.Refresh()
		s.ok(err)
		h := st.Hosts[id]
		h.Val.Drained, h.Val.DrainSeconds = on, 2
		tx := s.boxes[0].node.Cluster.Begin()
		tx.PutHost(h.Val, h.Mod)
		_, err = tx.Settle(time.Minute)
		s.ok(err)
	})
}

// While a guest shuts down to be moved its host loses its power: it is
// restarted like any other.
func TestAHostIsLostWhileItIsDrained(t *testing.T) {
	s := newScene(t, 6, 3)
	a := s.boxes[0]
	vm := s.db(a)
	from := s.eye.State().VMs[vm.ID].Val.Host
	s.drain(from, true)
	s.until("it is told to leave", func(st *cluster.State) bool { v := st.VMs[vm.ID].Val; return v.Leaving() })
	s.box(from).pull()
	s.until("the VM runs elsewhere", func(st *cluster.State) bool { return runs(st, "db") && st.VMs[vm.ID].Val.Host != from })
	s.box(from).powerOn()
	s.run(30 * time.Second)
	if !runs(s.eye.State(), "db") || s.eye.State().VMs[vm.ID].Val.Host == from {
		t.Errorf("it did not stay there:\n%s", s.told())
	}
	s.whole()
}

// A host joins a running cluster and takes its part: the missing copy of a
// volume is built there. One that is removed is no place for anything.
func TestAHostJoinsAndAnotherIsRemoved(t *testing.T) {
	s := newScene(t, 7, 2)
	a, b := s.boxes[0], s.boxes[1]
	image := s.image(a)
	s.on(a, func(p *provision.Provisioner) {
		_, err := p.CreateVM(vmSpec("db", image))
		s.ok(err)
	})
	s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })
	b.pull()
	c := s.newBox("c")
	s.boxes = append(s.boxes, c)
	s.on(a, func(*provision.Provisioner) { s.admit(c); s.register(c) })
	c.powerOn()
	onC := func(st *cluster.State) bool {
		for _, v := range st.Volumes {
			good := 0
			for _, r := range v.Val.InSync {
				if r.Host == c.rec.ID || r.Host == a.rec.ID {
					good++
				}
			}
			if good < 2 {
				return false
			}
		}
		return runs(st, "db")
	}
	s.until("the newcomer has a copy of everything", onC)
	s.on(a, func(*provision.Provisioner) {
		st, err := a.node.Cluster.Refresh()
		s.ok(err)
		tx := a.node.Cluster.Begin()
		tx.RequireAlive(b.rec.ID, 0)
		tx.DeleteDisk(b.did, st.Disks[b.did].Mod)
		tx.DeleteHost(b.rec.ID, st.Hosts[b.rec.ID].Mod)
		_, err = tx.Settle(time.Minute)
		s.ok(err)
	})
	s.run(time.Minute)
	s.on(a, func(p *provision.Provisioner) {
		rec, err := p.CreateVolume(provision.VolumeSpec{Name: "data", Blocks: 64})
		s.ok(err)
		for _, r := range rec.InSync {
			if r.Host == b.rec.ID {
				t.Error("a volume was placed on a host that was removed")
			}
		}
	})
	if !onC(s.eye.State()) {
		t.Errorf("something was undone:\n%s", s.told())
	}
	s.whole()
}

// The host that imports an image is killed in the middle: the image goes, and
// its name is free. One that is only cut off for a while goes on.
func TestAnImportThatIsInterruptedLeavesNothing(t *testing.T) {
	s := newScene(t, 8, 3)
	a := s.boxes[0]
	begin := func() (id holdfast.VolumeID) {
		s.on(a, func(p *provision.Provisioner) {
			rec, err := p.CreateVolume(provision.VolumeSpec{Name: "debian", Blocks: 64, Image: true})
			s.ok(err)
			_, err = a.node.Volumes.Open(rec.ID)
			s.ok(err)
			id = rec.ID
		})
		return id
	}
	id := begin()
	s.kv.Cut(a.name, true, true)
	s.run(20 * time.Second)
	s.kv.Cut(a.name, false, false)
	s.run(20 * time.Second)
	if v, ok := s.eye.State().Volumes[id]; !ok || v.Val.Deleted {
		t.Fatal("an import was given up though its host lives")
	}
	a.kill()
	s.run(10 * time.Second)
	a.start()
	s.until("the half-made image is gone", func(st *cluster.State) bool { return len(st.Volumes) == 0 })
	s.run(5 * time.Second)
	if n := s.replicas(); n != 0 {
		t.Errorf("%d replicas are left of it", n)
	}
	id = begin()
	s.on(a, func(p *provision.Provisioner) {
		_, err := p.CreateVM(vmSpec("db", id))
		s.kind(err, holdfast.Unavailable) // it is still being imported
		_, err = p.Seal(id, 64)
		s.ok(err)
		_, err = p.CreateVM(vmSpec("db", id))
		s.ok(err)
	})
	a.kill()
	a.start()
	s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })
}

// A host was away for so long that its copies were built elsewhere: when it is
// back the copies that nobody names any more go from its disk.
func TestCopiesThatWereDroppedGoFromTheirDisks(t *testing.T) {
	s := newScene(t, 9, 3)
	a := s.boxes[0]
	var rec cluster.Volume
	s.on(a, func(p *provision.Provisioner) {
		var err error
		rec, err = p.CreateVolume(provision.VolumeSpec{Name: "data", Blocks: 64})
		s.ok(err)
	})
	id, lost := rec.ID, s.box(rec.InSync[1].Host)
	lost.pull()
	s.until("another copy is built", func(st *cluster.State) bool {
		v := st.Volumes[id].Val
		return len(v.InSync) == 2 && v.InSync[0].Host != lost.rec.ID && v.InSync[1].Host != lost.rec.ID
	})
	lost.powerOn()
	s.until("the host is back", func(st *cluster.State) bool { return st.AliveHost(lost.rec.ID) && mended(st) })
	s.run(30 * time.Second)
	if n := s.replicas(); n != 2 {
		t.Errorf("%d replicas of a volume of two copies", n)
	}
}
