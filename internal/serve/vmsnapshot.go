package serve

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// stopLimit is how long a VM that is to be set back may take to end.
const stopLimit = time.Minute

// SnapshotVM implements httpapi.VMSnapshots.
func (h *Host) SnapshotVM(ctx context.Context, id holdfast.VMID, name string, memory bool) (cluster.VMSnapshot, error) {
	m, err := h.member()
	if err != nil {
		return cluster.VMSnapshot{}, err
	}
	if memory {
		return m.node.Make.SnapshotVMMemory(id, name)
	}
	return m.node.Make.SnapshotVM(id, name)
}

// DeleteVMSnapshot implements httpapi.VMSnapshots. It is taken out of the VM's
// record first: what an end in between leaves are snapshots of volumes.
func (h *Host) DeleteVMSnapshot(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	if err := m.node.Make.ForgetVMSnapshot(id, of.ID); err != nil {
		return err
	}
	return h.dropKept(ctx, of.Name, of.Disks)
}

// dropKept lets go of what was kept of volumes.
func (h *Host) dropKept(ctx context.Context, name string, disks []cluster.VMSnapshotDisk) error {
	for _, d := range disks {
		if err := h.DeleteSnapshot(ctx, d.Volume, d.Snapshot); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return holdfast.Errorf(holdfast.KindOf(err), "what snapshot %s kept of volume %s is not let go yet; see 'holdfast volume snapshot groups': %w", name, d.Volume.Short(), err)
		}
	}
	return nil
}

// RevertVM implements httpapi.VMSnapshots. Between BeginRevert and EndRevert the
// disks may be of different points, and the VM is not started; what an end in
// between leaves is done by doing it again.
func (h *Host) RevertVM(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot, how httpapi.Revert) (safety string, err error) {
	m, err := h.member()
	if err != nil {
		return "", err
	}
	ctx = context.WithoutCancel(ctx) // once begun it is brought to an end
	st, err := m.node.Cluster.Refresh()
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
		if err := m.stopped(id); err != nil {
			return "", err
		}
		if st, err = m.node.Cluster.Refresh(); err != nil {
			return "", err
		}
		vm = st.VMs[id]
	}
	if err := provision.MayRevert(st, vm.Val, of); err != nil {
		return "", err
	}
	if !how.NoSafety && vm.Val.Reverting.IsZero() {
		if safety, err = m.keepBefore(vm.Val, of.Name); err != nil {
			return "", holdfast.Errorf(holdfast.KindOf(err), "VM %s is as it was: what it is now could not be kept first: %w", vm.Val.Name, err)
		}
	}
	if err := m.node.Make.BeginRevert(id, of.ID); err != nil {
		return safety, err
	}
	for _, d := range of.Disks {
		if err := h.Revert(ctx, d.Volume, d.Snapshot); err != nil {
			return safety, holdfast.Errorf(holdfast.KindOf(err), "VM %s is not set back yet, and is not started before it is; do it again: %w", vm.Val.Name, err)
		}
	}
	return safety, m.node.Make.EndRevert(id, of.ID, !how.WithoutMemory)
}

// keepBefore keeps what a VM is before it is set back, under a name that is free.
func (m *member) keepBefore(vm cluster.VM, snapshot string) (name string, err error) {
	for n := 1; n <= cluster.MaxVMSnapshots+1; n++ {
		name = fmt.Sprintf("before-%.50s-%d", snapshot, n)
		if _, err = m.node.Make.SnapshotVM(vm.ID, name); !holdfast.IsKind(err, holdfast.Exists) {
			break
		}
	}
	return name, err
}

// stopped ends a VM and waits until its machine is gone.
func (m *member) stopped(id holdfast.VMID) error {
	if err := m.node.Make.StopVM(id, true); err != nil {
		return err
	}
	for end := time.Now().Add(stopLimit); ; time.Sleep(100 * time.Millisecond) {
		st, err := m.node.Cluster.Refresh()
		if err != nil {
			return err
		}
		if vm := st.VMs[id].Val; !provision.MayRun(st, vm) {
			return nil
		} else if time.Now().After(end) {
			return holdfast.Errorf(holdfast.Unavailable, "VM %s has not ended within %v", vm.Name, stopLimit)
		}
	}
}

// CloneVM implements httpapi.VMSnapshots. Of what is now, a snapshot is taken
// first, which goes with the clones.
func (h *Host) CloneVM(ctx context.Context, id holdfast.VMID, of *cluster.VMSnapshot, name string, power cluster.PowerState) (vm cluster.VM, err error) {
	m, err := h.member()
	if err != nil {
		return vm, err
	}
	if of != nil {
		return m.node.Make.CloneVM(id, provision.VMCloneSpec{Name: name, Config: of.Config, Disks: of.Disks, Power: power})
	}
	ctx = context.WithoutCancel(ctx)
	now, err := m.node.Make.KeepForClone(id)
	if err != nil {
		return vm, err
	}
	vm, err = m.node.Make.CloneVM(id, provision.VMCloneSpec{Name: name, Config: now.Config, Disks: now.Disks, Power: power})
	if holdfast.IsKind(err, holdfast.Unknown) {
		return vm, err // the clone may be there
	}
	if drop := h.dropKept(ctx, now.Name, now.Disks); drop != nil {
		h.log.Warn("what a clone was made of is left as a snapshot", "vm", name, "error", drop)
	}
	return vm, err
}
