package provision

import (
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// VMCloneSpec is a VM to be made from what was kept of another.
type VMCloneSpec struct {
	Name   string
	Config cluster.VMConfig
	Disks  []cluster.VMSnapshotDisk
	Power  cluster.PowerState
}

// CloneVM makes a VM whose disks are linked clones of snapshots, in one commit.
// It is one of its own: with another identity, address of its network card, and
// so another instance for cloud-init. Ports are not published.
func (p *Provisioner) CloneVM(from holdfast.VMID, spec VMCloneSpec) (vm cluster.VM, err error) {
	err = p.again(func() error { vm, err = p.cloneVM(from, spec); return err })
	return vm, err
}

func (p *Provisioner) cloneVM(from holdfast.VMID, spec VMCloneSpec) (vm cluster.VM, err error) {
	if err := holdfast.CheckName("VM", spec.Name); err != nil {
		return vm, err
	}
	st, err := p.fresh()
	if err != nil {
		return vm, err
	}
	src, err := vmIn(st, from)
	if err != nil {
		return vm, err
	}
	if _, taken := st.VMByName(spec.Name); taken {
		return vm, holdfast.Errorf(holdfast.Exists, "a VM named %q exists; choose another name", spec.Name)
	}
	u, err := p.uuid()
	if err != nil {
		return vm, err
	}
	vm = cluster.VM{Name: spec.Name, Power: spec.Power, Priority: src.Val.Priority, Isolation: src.Val.Isolation}
	p.identify(&vm, u)
	spec.Config.Change().Apply(&vm)
	made, err := p.cloneDisks(st, &vm, spec.Disks)
	if err == nil {
		err = p.commitClone(st, vm, made)
	}
	for _, rec := range made {
		if err != nil {
			err = p.unmade(rec, err)
		}
	}
	return vm, err
}

// cloneDisks makes the replicas of a clone's disks.
func (p *Provisioner) cloneDisks(st *cluster.State, vm *cluster.VM, disks []cluster.VMSnapshotDisk) (made []cluster.Volume, err error) {
	disks = slices.Clone(disks)
	slices.SortFunc(disks, func(a, b cluster.VMSnapshotDisk) int { return a.Slot - b.Slot })
	for i, d := range disks {
		name := vm.Name
		switch {
		case d.Slot == cluster.VarsSlot:
			name = varsName(vm.Name)
		case d.Slot != 0:
			name = fmt.Sprintf("%s-%d", vm.Name, d.Slot+1)
		}
		rec, _, err := p.prepare(VolumeSpec{Name: name, Durability: durabilityOf(st, d), Reads: st.Volumes[d.Volume].Val.Reads, Origin: &cluster.Origin{Volume: d.Volume, Snapshot: d.Snapshot}})
		if err != nil {
			return made, err
		}
		rec.VM = vm.ID
		made = append(made, rec)
		switch {
		case i == 0:
			vm.Volume = rec.ID
		case d.Slot == cluster.VarsSlot:
			vm.Vars = rec.ID
		default:
			vm.Disks = append(vm.Disks, cluster.VMDisk{Volume: rec.ID, Slot: d.Slot})
		}
	}
	return made, nil
}

// durabilityOf is that of a disk's clone: the disk's own; UEFI never flushes its
// variables.
func durabilityOf(st *cluster.State, d cluster.VMSnapshotDisk) cluster.Durability {
	if d.Slot == cluster.VarsSlot {
		return cluster.Always
	}
	return st.Volumes[d.Volume].Val.Durability
}

// commitClone makes a VM and its disks known, which were made by a picture.
func (p *Provisioner) commitClone(by *cluster.State, vm cluster.VM, made []cluster.Volume) error {
	return p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		if _, ok := st.VMs[vm.ID]; ok {
			return errStands
		}
		for _, rec := range made {
			if err := p.putVolume(tx, by, st, rec); err != nil {
				return err
			}
		}
		p.assign(st, &vm, made...)
		tx.PutVM(vm, 0)
		return nil
	})
}

// KeepForClone keeps what a VM is now, without a snapshot of its own: the
// volumes' snapshots are for clones, and to be let go when those are made.
func (p *Provisioner) KeepForClone(id holdfast.VMID) (cluster.VMSnapshot, error) {
	var out cluster.VMSnapshot
	st, err := p.fresh()
	if err != nil {
		return out, err
	}
	v, err := vmIn(st, id)
	if err != nil {
		return out, err
	}
	if !v.Val.Reverting.IsZero() {
		return out, holdfast.Errorf(holdfast.Conflict, "VM %s is being set back to a snapshot: its disks may be of different points", v.Val.Name)
	}
	u, err := p.uuid()
	if err != nil {
		return out, err
	}
	out = cluster.VMSnapshot{Name: "clone-" + u.String()[:8], Config: v.Val.Config()}
	g, err := p.SnapshotGroup(v.Val.Volumes(), out.Name)
	for _, m := range g.Members {
		out.Disks = append(out.Disks, cluster.VMSnapshotDisk{Volume: m.Volume, Slot: v.Val.SlotOf(m.Volume), Snapshot: m.Snapshot.ID})
	}
	return out, err
}
