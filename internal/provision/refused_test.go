package provision_test

import (
	"crypto/rand"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// records are not asked: nothing is opened in these stories.
type records struct{ volume.Records }

// desk is a host that can be asked for things and has no disks.
type desk struct {
	*testing.T
	w   *simclock.World
	clk *simclock.Host
	p   *provision.Provisioner
	net transport.Network
}

// newDesk is in a cluster with one host whose disk is away.
func newDesk(t *testing.T) *desk {
	w := simclock.NewWorld(1)
	d := &desk{T: t, w: w, clk: w.Host("a", simclock.Skew{})}
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	self := holdfast.HostID{UUID: holdfast.UUID{1, 6: 0x40, 8: 0x80}}
	log := slog.New(slog.DiscardHandler)
	c := cluster.Open(srv.Handle("a", d.clk), d.clk, log)
	d.net = simnet.New(w, simnet.LAN()).Open(self, "a", d.clk)
	vols := volume.New(volume.Config{Self: self, Clock: d.clk, Rand: rand.Reader, Net: d.net, Records: records{}, Log: log})
	d.p = &provision.Provisioner{Self: self, Cluster: c, Volumes: vols, Clock: d.clk, Rand: rand.Reader, Log: log}
	t.Cleanup(func() { w.Close(d.clk) })
	d.do(func() {
		err := c.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: holdfast.UUID{9, 6: 0x40, 8: 0x80}}, Name: "field"},
			cluster.Host{ID: self, Name: "a", Domain: holdfast.FaultDomain{Rack: "a"}, Addr: "127.0.0.1:1"})
		if err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *desk) do(f func()) {
	d.Helper()
	done := false
	d.clk.Go(func() { f(); done = true })
	if !d.w.RunUntil(func() bool { return done }, d.w.Now()+time.Hour) {
		d.Fatal("the task did not end")
	}
}

func (d *desk) kind(what string, err error, want holdfast.Kind) {
	d.Helper()
	if !holdfast.IsKind(err, want) {
		d.Errorf("%s: %v, want kind %q", what, err, want)
	}
}

// put writes records as if others had made them.
func (d *desk) put(vols []cluster.Volume, vms []cluster.VM) (rev kv.Rev) {
	d.Helper()
	d.do(func() {
		tx := d.p.Cluster.Begin()
		for _, v := range vols {
			v.Copies, v.Min, v.Durability = 2, 1, cluster.OnFlush
			tx.PutVolume(v, 0)
		}
		for _, v := range vms {
			v.CPUs, v.MemoryMiB, v.Isolation = 1, 64, cluster.IsolationPause
			tx.PutVM(v, 0)
		}
		var err error
		if rev, err = tx.Commit(); err != nil {
			d.Error(err)
		}
	})
	return rev
}

func volID(n byte) holdfast.VolumeID { return holdfast.VolumeID{UUID: holdfast.UUID{n, 1}} }
func vmID(n byte) holdfast.VMID      { return holdfast.VMID{UUID: holdfast.UUID{n, 2}} }

func TestWhatIsNotMade(t *testing.T) {
	d := newDesk(t)
	d.put([]cluster.Volume{
		{ID: volID(1), Name: "image", Blocks: 64, Image: true, Sealed: true},
		{ID: volID(2), Name: "coming", Blocks: 64, Image: true},
		{ID: volID(3), Name: "data", Blocks: 64, VM: vmID(1)},
		{ID: volID(4), Name: "free", Blocks: 64},
		{ID: volID(5), Name: "quorum", Blocks: 64, Shared: true},
	}, []cluster.VM{{ID: vmID(1), Name: "db", Power: cluster.On, Volume: volID(3)}})
	for _, c := range []struct {
		what string
		spec provision.VolumeSpec
		kind holdfast.Kind
	}{
		{"no name", provision.VolumeSpec{Blocks: 1}, holdfast.Invalid},
		{"a name that is taken", provision.VolumeSpec{Name: "data", Blocks: 1}, holdfast.Exists},
		{"no size", provision.VolumeSpec{Name: "x"}, holdfast.Invalid},
		{"a size beyond all", provision.VolumeSpec{Name: "x", Blocks: holdfast.MaxVolumeBlocks + 1}, holdfast.Invalid},
		{"no disk to stand on", provision.VolumeSpec{Name: "x", Blocks: 1}, holdfast.NoSpace},
		{"a clone of nothing", provision.VolumeSpec{Name: "x", Origin: &cluster.Origin{Volume: volID(9)}}, holdfast.NotFound},
		{"a clone of an image that is still coming", provision.VolumeSpec{Name: "x", Origin: &cluster.Origin{Volume: volID(2)}}, holdfast.Unavailable},
		{"a clone of what changes", provision.VolumeSpec{Name: "x", Origin: &cluster.Origin{Volume: volID(4)}}, holdfast.Invalid},
		{"a clone smaller than its image", provision.VolumeSpec{Name: "x", Blocks: 63, Origin: &cluster.Origin{Volume: volID(1)}}, holdfast.Invalid},
		{"a clone whose image is away", provision.VolumeSpec{Name: "x", Origin: &cluster.Origin{Volume: volID(1)}}, holdfast.Unavailable},
	} {
		d.do(func() {
			_, err := d.p.CreateVolume(c.spec)
			d.kind(c.what, err, c.kind)
		})
	}
	d.do(func() {
		_, err := d.p.CreateVM(provision.VMSpec{VM: cluster.VM{Name: "x", Volume: volID(9)}})
		d.kind("a VM on nothing", err, holdfast.NotFound)
		_, err = d.p.CreateVM(provision.VMSpec{VM: cluster.VM{Name: "x", Volume: volID(3)}})
		d.kind("a VM on another's disk", err, holdfast.Busy)
		_, err = d.p.CreateVM(provision.VMSpec{VM: cluster.VM{Name: "x", Volume: volID(5), CPUs: 1, MemoryMiB: 64, Power: cluster.On}})
		d.kind("a VM on a volume that others write", err, holdfast.Conflict)
		_, err = d.p.CreateVM(provision.VMSpec{VM: cluster.VM{Name: "db", Volume: volID(4), CPUs: 1, MemoryMiB: 64, Power: cluster.On}})
		d.kind("a VM of a name that is taken", err, holdfast.Exists)
		st, err := d.p.Cluster.Refresh()
		if err != nil || len(st.Volumes) != 5 || len(st.VMs) != 1 || !st.Volumes[volID(4)].Val.VM.IsZero() {
			t.Errorf("something was made all the same: %v", err)
		}
	})
}

func TestWhatIsNotChanged(t *testing.T) {
	d := newDesk(t)
	d.put([]cluster.Volume{
		{ID: volID(1), Name: "image", Blocks: 64, Image: true, Sealed: true},
		{ID: volID(3), Name: "data", Blocks: 64, VM: vmID(1)},
	}, []cluster.VM{{ID: vmID(1), Name: "db", Power: cluster.On, Volume: volID(3)}, {ID: vmID(2), Name: "off", Power: cluster.Stopped}})
	d.do(func() {
		d.kind("the disk of a VM is deleted", d.p.DeleteVolume(volID(3), false), holdfast.Conflict)
		d.kind("nothing is deleted", d.p.DeleteVolume(volID(9), false), holdfast.NotFound)
		_, err := d.p.GrowVolume(volID(3), 63)
		d.kind("a volume shrinks", err, holdfast.Invalid)
		_, err = d.p.GrowVolume(volID(3), holdfast.MaxVolumeBlocks+1)
		d.kind("a volume grows beyond all", err, holdfast.Invalid)
		_, err = d.p.GrowVolume(volID(1), 128)
		d.kind("an image grows", err, holdfast.Denied)
		d.kind("a running VM's disk is reverted", d.p.Revert(volID(3), holdfast.SnapshotID{}), holdfast.Conflict)
		d.kind("a running VM is deleted", d.p.DeleteVM(vmID(1), cluster.VMRemoval{}), holdfast.Conflict)
		d.kind("a VM that is off is reset", d.p.ResetVM(vmID(2)), holdfast.Conflict)
		d.kind("nothing is started", d.p.StartVM(vmID(9)), holdfast.NotFound)
	})
	// Forced, with its disk kept: the disk is anybody's again.
	d.do(func() {
		if err := d.p.DeleteVM(vmID(1), cluster.VMRemoval{Force: true, KeepDisk: true}); err != nil {
			t.Error(err)
		}
		st, err := d.p.Cluster.Refresh()
		if v := st.Volumes[volID(3)].Val; err != nil || v.Deleted || !v.VM.IsZero() || len(st.VMs) != 1 {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// Buttons are counted, so that each press is served once; a VM whose host is
// away has no button to press and is simply off.
func TestPressesAreCounted(t *testing.T) {
	d := newDesk(t)
	d.put(nil, []cluster.VM{{ID: vmID(1), Name: "db", Power: cluster.On, Leave: 7}})
	d.do(func() {
		for range 3 {
			if err := d.p.ResetVM(vmID(1)); err != nil {
				t.Error(err)
			}
		}
		if err := d.p.StopVM(vmID(1), false); err != nil {
			t.Error(err)
		}
		st, _ := d.p.Cluster.Refresh()
		if v := st.VMs[vmID(1)].Val; v.Resets != 3 || v.Shutdowns != 0 || v.Power != cluster.Stopped {
			t.Errorf("%+v", v)
		}
		if err := d.p.StartVM(vmID(1)); err != nil {
			t.Error(err)
		}
		st, _ = d.p.Cluster.Refresh()
		if v := st.VMs[vmID(1)].Val; v.Power != cluster.On || v.Leave != 0 || !v.Host.IsZero() {
			t.Errorf("%+v", v)
		}
	})
}

// A disk that was to go when the guest let it go goes at once when it is taken
// away again after the VM's host was lost and the VM stopped: no guest has it, and
// no host looks after it.
func TestADiskLeavesAVMThatNobodyRuns(t *testing.T) {
	d := newDesk(t)
	d.put([]cluster.Volume{
		{ID: volID(3), Name: "data", Blocks: 64, VM: vmID(1)},
		{ID: volID(4), Name: "logs", Blocks: 64, VM: vmID(1)},
	}, []cluster.VM{{ID: vmID(1), Name: "db", Power: cluster.On, Volume: volID(3), Disks: []cluster.VMDisk{{Volume: volID(4), Slot: 1}}}})
	d.do(func() {
		for range 2 { // asked again it stands
			vm, err := d.p.RemoveVMDisk(vmID(1), volID(4))
			if err != nil || len(vm.Disks) != 1 || !vm.Disks[0].Leaving {
				t.Errorf("while it may run: %+v, %v", vm.Disks, err)
			}
		}
		if err := d.p.StopVM(vmID(1), false); err != nil {
			t.Error(err)
		}
		vm, err := d.p.RemoveVMDisk(vmID(1), volID(4))
		st, _ := d.p.Cluster.Refresh()
		if err != nil || len(vm.Disks) != 0 || !st.Volumes[volID(4)].Val.VM.IsZero() {
			t.Errorf("off: %+v, %v", vm.Disks, err)
		}
	})
}

// A disk that belongs to the memory which a VM is to go on with is not taken away, and
// none is added: no machine could go on with that memory any more, and the VM could not
// be set back without it either (simulated seeds 854335 and 195 with 10,000 operations).
func TestADiskOfAMemoryIsKeptUntilThatIsBack(t *testing.T) {
	snap := holdfast.GroupID{UUID: holdfast.UUID{7}}
	for _, at := range []struct {
		what            string
		wake, reverting holdfast.GroupID
		power           cluster.PowerState
	}{
		{"while it starts", snap, holdfast.GroupID{}, cluster.On},
		{"while it is off", snap, holdfast.GroupID{}, cluster.Stopped},
		{"while it is being set back", holdfast.GroupID{}, snap, cluster.Stopped},
	} {
		d := newDesk(t)
		d.put([]cluster.Volume{
			{ID: volID(3), Name: "data", Blocks: 64, VM: vmID(1)},
			{ID: volID(4), Name: "logs", Blocks: 64, VM: vmID(1)},
			{ID: volID(5), Name: "memory", Blocks: 64, VM: vmID(1)},
			{ID: volID(6), Name: "more", Blocks: 64},
		}, []cluster.VM{{ID: vmID(1), Name: "db", Power: at.power, Volume: volID(3), Disks: []cluster.VMDisk{{Volume: volID(4), Slot: 1}},
			Wake: at.wake, Reverting: at.reverting, Snapshots: []cluster.VMSnapshot{{ID: snap, Name: "m1", Memory: &cluster.VMMemory{Volume: volID(5)},
				Disks: []cluster.VMSnapshotDisk{{Volume: volID(3)}, {Volume: volID(4), Slot: 1}}}}}})
		d.do(func() {
			if _, err := d.p.RemoveVMDisk(vmID(1), volID(4)); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("%s: %v", at.what, err)
			}
			if _, err := d.p.AddVMDisk(vmID(1), provision.VMDisk{Volume: volID(6)}); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("%s: another is added: %v", at.what, err)
			}
		})
	}
}
