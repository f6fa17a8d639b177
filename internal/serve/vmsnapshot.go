package serve

import (
	"context"
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
	return dropKept(ctx, of.Name, of.Disks, h.DeleteSnapshot)
}

// dropKept lets go of what was kept of volumes.
func dropKept(ctx context.Context, name string, disks []cluster.VMSnapshotDisk, drop dropper) error {
	for _, d := range disks {
		if err := drop(ctx, d.Volume, d.Snapshot); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return holdfast.Errorf(holdfast.KindOf(err), "what snapshot %s kept of volume %s is not let go yet; see 'holdfast volume snapshot groups': %w", name, d.Volume.Short(), err)
		}
	}
	return nil
}

// RevertVM implements httpapi.VMSnapshots.
func (h *Host) RevertVM(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot, how httpapi.Revert) (safety string, err error) {
	m, err := h.member()
	if err != nil {
		return "", err
	}
	ctx = context.WithoutCancel(ctx) // once begun it is brought to an end
	return reverting{m.node.Cluster, m.node.Make, m.stopped, h.Revert}.run(ctx, id, of, how)
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
	if drop := dropKept(ctx, now.Name, now.Disks, h.DeleteSnapshot); drop != nil {
		h.log.Warn("what a clone was made of is left as a snapshot", "vm", name, "error", drop)
	}
	return vm, err
}
