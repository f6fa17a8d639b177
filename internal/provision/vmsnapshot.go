package provision

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// SnapshotVM keeps a VM as it is: all its disks at one point, and its
// configuration, in one commit. Of a VM that runs it is what is on its disks: as
// after a loss of power.
func (p *Provisioner) SnapshotVM(id holdfast.VMID, name string) (cluster.VMSnapshot, error) {
	return p.snapshotVM(id, name, nil)
}

// snapshotVM keeps a VM's disks, and of one that stands still for it names its
// memory in the same commit.
func (p *Provisioner) snapshotVM(id holdfast.VMID, name string, memory *cluster.VMMemory) (cluster.VMSnapshot, error) {
	var out cluster.VMSnapshot
	st, err := p.fresh()
	if err != nil {
		return out, err
	}
	v, err := vmIn(st, id)
	if err == nil {
		err = mayKeep(v.Val, name)
	}
	if err != nil {
		return out, err
	}
	ids := v.Val.Volumes()
	_, err = p.snapshotGroup(ids, name, func(st *cluster.State, tx *cluster.Txn, g cluster.SnapshotGroup) error {
		v, err := vmIn(st, id)
		if err != nil {
			return err
		}
		vm := v.Val
		if err := mayKeep(vm, name); err != nil {
			return err
		}
		if !slices.Equal(vm.Volumes(), ids) {
			return holdfast.Errorf(holdfast.Conflict, "the disks of VM %s were changed while the snapshot was taken; take it again", vm.Name)
		}
		if memory != nil && (vm.Keeping == nil || vm.Keeping.Volume != memory.Volume || vm.Keeping.Generation != vm.Generation) {
			return holdfast.Errorf(holdfast.Conflict, "the machine of VM %s went on while its snapshot was taken; take it again", vm.Name)
		}
		out = cluster.VMSnapshot{ID: g.ID, Name: name, Created: g.Created, Config: vm.Config(), Memory: memory}
		if memory != nil {
			vm.Keeping = nil
		}
		for _, m := range g.Members {
			out.Disks = append(out.Disks, cluster.VMSnapshotDisk{Volume: m.Volume, Slot: vm.SlotOf(m.Volume), Snapshot: m.Snapshot.ID})
		}
		vm.Snapshots = append(slices.Clip(vm.Snapshots), out)
		tx.PutVM(vm, v.Mod)
		return nil
	})
	return out, err
}

// mayKeep looks whether a VM may have a snapshot of a name.
func mayKeep(vm cluster.VM, name string) error {
	if slices.ContainsFunc(vm.Snapshots, func(s cluster.VMSnapshot) bool { return s.Name == name }) {
		return holdfast.Errorf(holdfast.Exists, "VM %s has a snapshot named %q; choose another name", vm.Name, name)
	}
	if n := len(vm.Snapshots); n >= cluster.MaxVMSnapshots {
		return holdfast.Errorf(holdfast.Conflict, "VM %s has %d snapshots, and may have no more; delete one first", vm.Name, n)
	}
	if !vm.Reverting.IsZero() {
		return holdfast.Errorf(holdfast.Conflict, "VM %s is being set back to a snapshot: its disks may be of different points", vm.Name)
	}
	return nil
}

// ForgetVMSnapshot takes a snapshot out of a VM's record. What it kept of the
// volumes are then snapshots of theirs like others.
func (p *Provisioner) ForgetVMSnapshot(id holdfast.VMID, snap holdfast.GroupID) error {
	seen := false
	return p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, err := vmIn(st, id)
		if err != nil {
			return err
		}
		vm := v.Val
		of, ok := vm.Snapshot(snap)
		switch {
		case !ok && seen:
			return errStands
		case !ok:
			return holdfast.Errorf(holdfast.NotFound, "VM %s has no such snapshot", vm.Name)
		case vm.Reverting == snap:
			return holdfast.Errorf(holdfast.Conflict, "VM %s is being set back to snapshot %s", vm.Name, of.Name)
		case vm.Wake == snap:
			return holdfast.Errorf(holdfast.Conflict, "VM %s is to go on with the memory of snapshot %s; start it first", vm.Name, of.Name)
		}
		seen = true
		if of.Memory != nil {
			cluster.Discard(st, tx, of.Memory.Volume)
		}
		vm.Snapshots = slices.DeleteFunc(slices.Clone(vm.Snapshots), func(s cluster.VMSnapshot) bool { return s.ID == snap })
		tx.PutVM(vm, v.Mod)
		return nil
	})
}

// MayRevert says why a VM cannot be set back to a snapshot now.
func MayRevert(st *cluster.State, vm cluster.VM, of cluster.VMSnapshot) error {
	if MayRun(st, vm) {
		return holdfast.Errorf(holdfast.Conflict, "VM %s runs; stop it first, or have it ended with --stop", vm.Name)
	}
	if !vm.Reverting.IsZero() && vm.Reverting != of.ID {
		other, _ := vm.Snapshot(vm.Reverting)
		return holdfast.Errorf(holdfast.Conflict, "VM %s is being set back to snapshot %s; if that was interrupted, do that again first", vm.Name, other.Name)
	}
	for _, d := range of.Disks {
		rec, ok := st.Volumes[d.Volume]
		switch {
		case !ok || rec.Val.Deleted || !vm.Has(d.Volume):
			return holdfast.Errorf(holdfast.Conflict, "snapshot %s of VM %s has a disk that the VM has not any more (volume %s); attach it again with 'holdfast vm disk add', or set single volumes back with 'holdfast volume revert'", of.Name, vm.Name, nameOr(rec.Val.Name, d.Volume))
		case !names(&rec.Val, d.Snapshot):
			return holdfast.Errorf(holdfast.Conflict, "snapshot %s of VM %s is not whole: what it kept of volume %s is gone", of.Name, vm.Name, rec.Val.Name)
		}
	}
	return nil
}

func nameOr(name string, id holdfast.VolumeID) string {
	if name == "" {
		return id.Short()
	}
	return name
}

// BeginRevert marks a VM as being set back to a snapshot: it is not started
// until EndRevert, for its disks are set back one after the other.
func (p *Provisioner) BeginRevert(id holdfast.VMID, snap holdfast.GroupID) error {
	_, err := p.changeVM(id, func(st *cluster.State, vm *cluster.VM) error {
		of, ok := vm.Snapshot(snap)
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "VM %s has no such snapshot", vm.Name)
		}
		if err := MayRevert(st, *vm, of); err != nil {
			return err
		}
		vm.Reverting = snap
		return nil
	})
	return err
}

// EndRevert gives a VM the configuration that it had, and lets it be started. With
// wake it goes on with the memory that was kept, if one was.
func (p *Provisioner) EndRevert(id holdfast.VMID, snap holdfast.GroupID, wake bool) error {
	_, err := p.changeVM(id, func(st *cluster.State, vm *cluster.VM) error {
		of, ok := vm.Snapshot(snap)
		if !ok || vm.Reverting != snap {
			return errStands
		}
		of.Config.Change().Apply(vm)
		vm.Reverting, vm.Wake = holdfast.GroupID{}, holdfast.GroupID{}
		if wake && of.Memory != nil {
			vm.Wake, vm.Power, vm.Leave = snap, cluster.On, 0
			p.assign(st, vm)
		}
		return nil
	})
	return err
}
