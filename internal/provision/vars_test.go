package provision_test

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// What a VM's UEFI keeps is one volume, which is nobody else's, flushes always, and
// is kept with the disk for the next VM.
func TestTheVariablesOfAVM(t *testing.T) {
	d := newDesk(t)
	d.put([]cluster.Volume{
		{ID: volID(1), Name: "one", Blocks: 64},
		{ID: volID(2), Name: "two", Blocks: 64},
		{ID: volID(3), Name: "vars", Blocks: cluster.VarsBlocks},
	}, nil)
	on := func(name string, disk, vars byte) (vm cluster.VM, err error) {
		spec := provision.VMSpec{UEFI: true, VM: cluster.VM{Name: name, CPUs: 1, MemoryMiB: 64, Power: cluster.Stopped, Volume: volID(disk), Vars: volID(vars)}}
		d.do(func() { vm, err = d.p.CreateVM(spec) })
		return vm, err
	}
	_, err := on("db", 1, 2)
	d.kind("a disk as variables", err, holdfast.Invalid)
	vm, err := on("db", 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	_, err = on("other", 2, 3)
	d.kind("the variables of another VM", err, holdfast.Busy)
	vars := volumeOf(d, 3)
	if vars.VM != vm.ID || vars.Durability != cluster.Always {
		t.Errorf("the variables: %+v", vars)
	}
	d.do(func() {
		d.kind("they are deleted", d.p.DeleteVolume(volID(3), false), holdfast.Conflict)
		_, err := d.p.GrowVolume(volID(3), 2*cluster.VarsBlocks)
		d.kind("they grow", err, holdfast.Denied)
		flush := cluster.OnFlush
		_, err = d.p.ChangeVolume(volID(3), placement.Change{Durability: &flush})
		d.kind("they wait for a flush that never comes", err, holdfast.Denied)
		err = d.p.DeleteVM(vm.ID, cluster.VMRemoval{KeepDisk: true})
		if err != nil {
			t.Error(err)
		}
	})
	for _, id := range []byte{1, 3} {
		if v := volumeOf(d, id); v.Deleted || !v.VM.IsZero() {
			t.Errorf("kept: %+v", v)
		}
	}
	vm, err = on("next", 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	d.do(func() {
		if err := d.p.DeleteVM(vm.ID, cluster.VMRemoval{}); err != nil {
			t.Error(err)
		}
	})
	for _, id := range []byte{1, 3} {
		if !volumeOf(d, id).Deleted {
			t.Errorf("volume %d is left", id)
		}
	}
}

func volumeOf(d *desk, n byte) (v cluster.Volume) {
	d.do(func() {
		st, err := d.p.Cluster.Refresh()
		if err != nil {
			d.Error(err)
		}
		v = st.Volumes[volID(n)].Val
	})
	return v
}
