package node_test

import (
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// A VM gets a second disk while it runs, both are kept at one point, set back and
// cloned; the disk is taken away again.
func TestAVMWithTwoDisksIsKeptSetBackAndCloned(t *testing.T) {
	s := newScene(t, 1, 3)
	a := s.boxes[0]
	image := s.image(a)
	var vm, copied cluster.VM
	s.on(a, func(p *provision.Provisioner) {
		var err error
		vm, err = p.CreateVM(vmSpec("db", image))
		s.ok(err)
		vm, err = p.AddVMDisk(vm.ID, provision.VMDisk{New: provision.VolumeSpec{Blocks: 100, Durability: cluster.Always, Reads: cluster.Confirmed}})
		s.ok(err)
		_, err = p.AddVMDisk(vm.ID, provision.VMDisk{Volume: vm.Disks[0].Volume})
		s.kind(err, holdfast.Busy)
	})
	second := vm.Disks[0].Volume
	s.until("its machine has both", func(st *cluster.State) bool {
		return runs(st, "db") && slices.Equal(st.Machines[vm.ID].Val.Disks, vm.Volumes())
	})
	var kept cluster.VMSnapshot
	s.on(a, func(p *provision.Provisioner) {
		var err error
		kept, err = p.SnapshotVM(vm.ID, "monday")
		s.ok(err)
		_, err = p.SnapshotVM(vm.ID, "monday")
		s.kind(err, holdfast.Exists)
		s.kind(p.DeleteSnapshot(second, kept.Disks[1].Snapshot), holdfast.Conflict) // it is the VM's
		s.kind(p.BeginRevert(vm.ID, kept.ID), holdfast.Conflict)                    // it runs
		four := 4
		_, err = p.ChangeVM(vm.ID, cluster.VMChange{CPUs: &four})
		s.ok(err)
		s.ok(p.StopVM(vm.ID, true))
	})
	s.until("the VM is off", func(st *cluster.State) bool { return st.Machines[vm.ID].Val.State == "off" })
	s.on(a, func(p *provision.Provisioner) {
		s.ok(p.BeginRevert(vm.ID, kept.ID))
		s.kind(p.StartVM(vm.ID), holdfast.Conflict) // its disks may be of two points
		for _, d := range kept.Disks {
			s.ok(p.Revert(d.Volume, d.Snapshot))
		}
		s.ok(p.EndRevert(vm.ID, kept.ID, true))
		s.ok(p.StartVM(vm.ID))
		var err error
		copied, err = p.CloneVM(vm.ID, provision.VMCloneSpec{Name: "copy", Config: kept.Config, Disks: kept.Disks, Power: cluster.On})
		s.ok(err)
		_, err = p.CloneVM(vm.ID, provision.VMCloneSpec{Name: "copy", Config: kept.Config, Disks: kept.Disks, Power: cluster.On})
		s.kind(err, holdfast.Exists)
	})
	s.until("both run, with both disks", func(st *cluster.State) bool {
		return runs(st, "db") && runs(st, "copy") && len(st.Machines[copied.ID].Val.Disks) == 2
	})
	st := a.node.Cluster.State()
	if now := st.VMs[vm.ID].Val; now.CPUs != kept.Config.CPUs || !now.Reverting.IsZero() {
		t.Errorf("set back, it has %d CPUs", now.CPUs)
	}
	if c := st.VMs[copied.ID].Val; c.MAC == vm.MAC || c.Has(vm.Volume) || c.Has(second) {
		t.Errorf("the clone is no VM of its own: %+v", c)
	}
	for i, id := range copied.Volumes() {
		was, is := st.Volumes[vm.Volumes()[i]].Val, st.Volumes[id].Val
		if is.Durability != was.Durability || is.Reads != was.Reads {
			t.Errorf("disk %s is %s and %q, its copy %s and %q", was.Name, was.Durability, was.Reads, is.Durability, is.Reads)
		}
	}
	s.on(a, func(p *provision.Provisioner) {
		now, err := p.RemoveVMDisk(vm.ID, second)
		s.ok(err)
		if len(now.Disks) != 1 || !now.Disks[0].Leaving {
			t.Errorf("taken away while it runs: %+v", now.Disks)
		}
		_, err = p.RemoveVMDisk(vm.ID, vm.Volume)
		s.kind(err, holdfast.Conflict) // it boots from it
		s.ok(p.ResetVM(vm.ID))
	})
	s.until("the guest has let the disk go", func(st *cluster.State) bool {
		return len(st.VMs[vm.ID].Val.Disks) == 0 && st.Volumes[second].Val.VM.IsZero() && len(st.Machines[vm.ID].Val.Disks) == 1
	})
	s.on(a, func(p *provision.Provisioner) {
		s.kind(provision.MayRevert(p.Cluster.State(), cluster.VM{ID: vm.ID, Volume: vm.Volume}, kept), holdfast.Conflict)
		s.ok(p.ForgetVMSnapshot(vm.ID, kept.ID))
		s.ok(p.DeleteVM(vm.ID, cluster.VMRemoval{Force: true}))
		s.ok(p.DeleteVM(copied.ID, cluster.VMRemoval{Force: true, Disks: true}))
	})
	s.until("of the disks one is left", func(st *cluster.State) bool {
		return len(st.VMs) == 0 && len(st.Volumes) == 2
	})
	s.whole()
}
