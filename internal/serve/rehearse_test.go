package serve

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// What is tried on a real host is placed and refused as it would be, and neither
// records nor disks know of it afterwards.
func TestAHostTriesAndDoesNot(t *testing.T) {
	t.Parallel()
	a := newBox(t, 175, "a")
	if err := a.founds("field"); err != nil {
		t.Fatal(err)
	}
	ctx, dry := t.Context(), client.DryRun(t.Context())
	if _, err := a.api.AddDisk(ctx, v1.DiskSpec{Path: a.conf.DataDir + "/disk", Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	until(t, "a volume can be made", func() bool {
		_, err := a.api.CreateVolume(ctx, v1.VolumeSpec{Name: "spare", Size: 1 << 20})
		return err == nil
	})
	m, err := a.host.member()
	if err != nil {
		t.Fatal(err)
	}
	replicas := func() (n int) {
		for _, st := range m.node.Volumes.Stores() {
			n += len(st.Replicas())
		}
		return n
	}
	writes := func() (rev kv.Rev) { // of what people make
		st, err := m.node.Cluster.Refresh()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range st.Volumes {
			rev = max(rev, v.Mod)
		}
		for _, v := range st.VMs {
			rev = max(rev, v.Mod)
		}
		for _, h := range st.Hosts {
			rev = max(rev, h.Mod)
		}
		return rev + kv.Rev(len(st.Volumes)+len(st.VMs)+len(st.Exports)+len(st.Pools))<<32
	}
	before, copies := writes(), replicas()

	vm, err := a.api.CreateVM(dry, v1.VMSpec{Name: "web", Size: 1 << 20, MemoryMiB: 64})
	if err != nil || vm.Host != "box175" || vm.Volume != "web" {
		t.Errorf("a VM: %+v, %v", vm, err)
	}
	if v, err := a.api.CreateVolume(dry, v1.VolumeSpec{Name: "data", Size: 1 << 20}); err != nil || len(v.Replicas) != 1 || v.Replicas[0].Host != "box175" {
		t.Errorf("a volume: %+v, %v", v, err)
	}
	if _, err := a.api.CreateVolume(dry, v1.VolumeSpec{Name: "data", Size: 1 << 20, Copies: 2, Min: 2}); !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Errorf("a volume in more racks than there are: %v", err)
	}
	if _, err := a.api.CreateVolume(dry, v1.VolumeSpec{Name: "spare", Size: 1 << 20}); !holdfast.IsKind(err, holdfast.Exists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := a.api.CreateExport(dry, v1.ExportSpec{Name: "san", Units: []v1.UnitSpec{{Volume: "spare"}}}); err != nil {
		t.Errorf("an export: %v", err)
	}
	if _, err := a.api.CreatePool(dry, v1.PoolSpec{Name: "fast", Tier: "ssd"}); err != nil {
		t.Errorf("a pool: %v", err)
	}
	if d, err := a.api.Drain(dry, "box175", v1.DrainSpec{On: true}); err != nil || !d.Drained {
		t.Errorf("a drain: %+v, %v", d, err)
	}
	if _, err := a.api.RemoveHost(dry, "box175", v1.RemovalSpec{}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("a host that is needed: %v", err)
	}
	if err := a.api.DeleteVolume(dry, "spare"); err != nil {
		t.Errorf("a deletion: %v", err)
	}
	if now := writes(); now != before || replicas() != copies {
		t.Errorf("something was done: %x, not %x; %d replicas, not %d", now, before, replicas(), copies)
	}
	if _, err := a.api.CreateExport(ctx, v1.ExportSpec{Name: "san", Units: []v1.UnitSpec{{Volume: "spare"}}}); err != nil {
		t.Fatal(err)
	}
	if err := a.api.DeleteVolume(dry, "spare"); !holdfast.IsKind(err, holdfast.Conflict) && !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("the deletion of what is exported: %v", err)
	}
}
