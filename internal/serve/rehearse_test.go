package serve

import (
	"context"
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
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

// What writers and hosts do is tried as far as it can be known without doing it, and
// refused as it would be; what is tried first and done then goes the same way.
func TestAHostTriesWhatItDoesNotOnlyWriteDown(t *testing.T) {
	t.Parallel()
	a := newBox(t, 176, "a")
	if err := a.founds("field"); err != nil {
		t.Fatal(err)
	}
	ctx, dry := t.Context(), client.DryRun(t.Context())
	disk := a.conf.DataDir + "/disk"
	if _, err := a.api.AddDisk(dry, v1.DiskSpec{Path: disk, Size: 1 << 30}); err != nil {
		t.Errorf("a disk: %v", err)
	}
	if _, err := os.Stat(disk); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file was made: %v", err)
	}
	first, err := a.api.AddDisk(ctx, v1.DiskSpec{Path: disk, Size: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "a volume can be made", func() bool {
		_, err := a.api.CreateVolume(ctx, v1.VolumeSpec{Name: "data", Size: 1 << 20})
		return err == nil
	})
	snaps := func(volume string) string {
		list, err := a.api.Snapshots(ctx, volume)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range list {
			names = append(names, s.Name)
		}
		return strings.Join(names, ",")
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// same tries and then does what is to be refused, or to go well.
	same := func(what string, kind holdfast.Kind, do func(context.Context) error) {
		t.Helper()
		tried := do(dry)
		done := do(ctx)
		if (tried == nil) != (done == nil) || tried != nil && (tried.Error() != done.Error() || !holdfast.IsKind(done, kind)) {
			t.Errorf("%s: tried %v, done %v", what, tried, done)
		}
	}
	for _, name := range []string{"monday", "tuesday"} {
		_, err := a.api.Snapshot(ctx, "data", v1.SnapshotSpec{Name: name})
		must(name, err)
	}
	must("a revert", a.api.Revert(dry, "data", v1.RevertSpec{Snapshot: "monday"}))
	must("a deletion", a.api.DeleteSnapshot(dry, "data", "monday"))
	if got := snaps("data"); got != "monday,tuesday" {
		t.Errorf("something was done: %s", got)
	}
	m, err := a.host.member()
	if err != nil {
		t.Fatal(err)
	}
	st := m.node.Cluster.State()
	id := slices.Collect(maps.Keys(st.Volumes))[0]
	epoch := func() holdfast.Epoch { return m.node.Cluster.State().Volumes[id].Val.Epoch }
	v, err := m.node.Volumes.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	used, err := v.Session(false)
	if err != nil {
		t.Fatal(err)
	}
	before := epoch()
	same("a volume that is used", holdfast.Busy, func(ctx context.Context) error {
		return a.api.Revert(ctx, "data", v1.RevertSpec{Snapshot: "monday"})
	})
	used.Close()
	same("a revert", 0, func(ctx context.Context) error {
		return a.api.Revert(ctx, "data", v1.RevertSpec{Snapshot: "monday"})
	})
	same("a deletion", 0, func(ctx context.Context) error { return a.api.DeleteSnapshot(ctx, "data", "tuesday") })
	if now := epoch(); now != before {
		t.Errorf("the volume was opened anew: epoch %d, not %d", now, before)
	}

	// Groups, and a VM's.
	vm, err := a.api.CreateVM(ctx, v1.VMSpec{Name: "web", Size: 1 << 20, MemoryMiB: 64, Off: true})
	if err != nil {
		t.Fatal(err)
	}
	g, err := a.api.SnapshotGroup(ctx, v1.SnapshotGroupSpec{Name: "both", Volumes: []string{"data", vm.Volume}})
	must("a group", err)
	must("a group's deletion", a.api.DeleteSnapshotGroup(dry, g.ID))
	if got := snaps("data") + " " + snaps("web"); got != "monday,both both" {
		t.Errorf("something was done: %s", got)
	}
	must("a group's deletion", a.api.DeleteSnapshotGroup(ctx, g.ID))
	if _, err := a.api.SnapshotVM(ctx, "web", v1.VMSnapshotSpec{Name: "good"}); err != nil {
		t.Fatal(err)
	}
	same("what a VM's snapshot kept", holdfast.Conflict, func(ctx context.Context) error { return a.api.DeleteSnapshot(ctx, "web", "good") })
	tried, err := a.api.RevertVM(dry, "web", "good", v1.VMRevertSpec{})
	must("a VM's revert", err)
	if got := snaps("web"); got != "good" {
		t.Errorf("something was done: %s", got)
	}
	done, err := a.api.RevertVM(ctx, "web", "good", v1.VMRevertSpec{})
	must("a VM's revert", err)
	if !reflect.DeepEqual(tried, done) || done.Safety != "before-good-1" {
		t.Errorf("tried: %+v\ndone:  %+v", tried, done)
	}
	same("a VM's snapshot", 0, func(ctx context.Context) error { return a.api.DeleteVMSnapshot(ctx, "web", "good") })

	// Disks.
	same("a file that is there", holdfast.Exists, func(ctx context.Context) error {
		_, err := a.api.ReplaceDisk(ctx, first.ID, v1.DiskSpec{Path: disk, Size: 1 << 30})
		return err
	})
	same("a disk that is used", holdfast.Busy, func(ctx context.Context) error {
		_, err := a.api.ReplaceDisk(ctx, first.ID, v1.DiskSpec{Path: disk})
		return err
	})
	same("no file", holdfast.NotFound, func(ctx context.Context) error {
		_, err := a.api.ReplaceDisk(ctx, first.ID, v1.DiskSpec{Path: disk + "-none"})
		return err
	})
	next, err := a.api.ReplaceDisk(dry, first.ID, v1.DiskSpec{Path: disk + "2", Size: 1 << 30})
	if must("a disk for another", err); next.Path != disk+"2" || next.Size != 1<<30 {
		t.Errorf("%+v", next)
	}
	if disks, err := a.api.Disks(ctx); err != nil || len(disks) != 1 || disks[0].State != "in use" {
		t.Errorf("something was done: %+v, %v", disks, err)
	}

	// Schedules.
	s := v1.BackupScheduleSpec{Name: "nightly", Volumes: []string{"data"}, Host: "box176", Dir: a.conf.DataDir + "/b", Every: 86400}
	if _, err := a.api.CreateBackupSchedule(dry, s); err != nil {
		t.Errorf("a schedule: %v", err)
	}
	if list, err := a.api.BackupSchedules(ctx); err != nil || len(list) != 0 {
		t.Errorf("something was done: %+v, %v", list, err)
	}
	if _, err := a.api.CreateBackupSchedule(ctx, s); err != nil {
		t.Fatal(err)
	}
	was := m.node.Cluster.State().Schedules["nightly"].Val
	later, other := was, was
	later.Every, other.FullAfter = 2*was.Every, 7
	must("a change", a.host.SetSchedule(ctx, was, later))
	if err := a.host.SetSchedule(ctx, was, other); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("a change of what is not so any more: %v", err)
	}
}
