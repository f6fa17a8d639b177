package serve

import (
	"context"
	"fmt"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// reverting sets VMs back, in earnest or on a draft. Between BeginRevert and
// EndRevert the disks may be of different points, and the VM is not started; what an
// end in between leaves is done by doing it again.
type reverting struct {
	records *cluster.Client
	make    *provision.Provisioner
	stop    func(holdfast.VMID) error // ends a VM, until its machine is gone
	revert  func(context.Context, holdfast.VolumeID, holdfast.SnapshotID) error
}

func (r reverting) run(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot, how httpapi.Revert) (safety string, err error) {
	st, err := r.records.Refresh()
	if err != nil {
		return "", err
	}
	vm, ok := st.VMs[id]
	if !ok {
		return "", holdfast.Errorf(holdfast.NotFound, "VM %s does not exist", id.Short())
	}
	if !how.WithoutMemory { // before anything is ended
		if err := provision.MayWake(st, vm.Val, of); err != nil {
			return "", err
		}
	}
	if how.Stop {
		if err := r.stop(id); err != nil {
			return "", err
		}
		if st, err = r.records.Refresh(); err != nil {
			return "", err
		}
		vm = st.VMs[id]
	}
	if err := provision.MayRevert(st, vm.Val, of); err != nil {
		return "", err
	}
	if !how.NoSafety && vm.Val.Reverting.IsZero() {
		if safety, err = r.keepBefore(vm.Val, of.Name); err != nil {
			return "", holdfast.Errorf(holdfast.KindOf(err), "VM %s is as it was: what it is now could not be kept first: %w", vm.Val.Name, err)
		}
	}
	if err := r.make.BeginRevert(id, of.ID); err != nil {
		return safety, err
	}
	for _, d := range of.Disks {
		if err := r.revert(ctx, d.Volume, d.Snapshot); err != nil {
			return safety, holdfast.Errorf(holdfast.KindOf(err), "VM %s is not set back yet, and is not started before it is; do it again: %w", vm.Val.Name, err)
		}
	}
	return safety, r.make.EndRevert(id, of.ID, !how.WithoutMemory)
}

// keepBefore keeps what a VM is before it is set back, under a name that is free.
func (r reverting) keepBefore(vm cluster.VM, snapshot string) (name string, err error) {
	for n := 1; n <= cluster.MaxVMSnapshots+1; n++ {
		name = fmt.Sprintf("before-%.50s-%d", snapshot, n)
		if _, err = r.make.SnapshotVM(vm.ID, name); !holdfast.IsKind(err, holdfast.Exists) {
			break
		}
	}
	return name, err
}
