package provision

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// VMDisk is a disk that a VM is to be given: a volume that there is, or a new
// one.
type VMDisk struct {
	Volume holdfast.VolumeID // zero: New
	New    VolumeSpec        // without a name: the VM's name and a number
}

// AddVMDisk gives a VM a disk beside its boot disk. The host that runs it gives
// it to the machine at once, if that can be.
func (p *Provisioner) AddVMDisk(id holdfast.VMID, d VMDisk) (cluster.VM, error) {
	if d.Volume.IsZero() {
		var vm cluster.VM
		err := p.again(func() (err error) { vm, err = p.addNewDisk(id, d.New); return err })
		return vm, err
	}
	var vm cluster.VM
	err := p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, err := vmIn(st, id)
		if err != nil {
			return err
		}
		if vm.Has(d.Volume) && v.Val.Has(d.Volume) {
			return errStands
		}
		vm = v.Val
		rec, err := freeVolume(st, d.Volume, "the volume that VM "+vm.Name+" is to have as a disk")
		if err != nil {
			return err
		}
		rec.Val.VM = id
		tx.PutVolume(rec.Val, rec.Mod)
		return giveDisk(tx, &vm, v, d.Volume)
	})
	return vm, err
}

// addNewDisk makes a volume and gives it to a VM, in one commit.
func (p *Provisioner) addNewDisk(id holdfast.VMID, spec VolumeSpec) (vm cluster.VM, err error) {
	st, err := p.fresh()
	if err != nil {
		return vm, err
	}
	v, err := vmIn(st, id)
	if err != nil {
		return vm, err
	}
	if err := mayGive(&v.Val); err != nil {
		return vm, err
	}
	if spec.Name == "" {
		spec.Name = diskName(st, v.Val.Name)
	}
	rec, _, err := p.prepare(spec)
	if err != nil {
		return vm, err
	}
	rec.VM = id
	err = p.transact(func(now *cluster.State, tx *cluster.Txn) error {
		v, err := vmIn(now, id)
		if err != nil {
			return err
		}
		if vm = v.Val; vm.Has(rec.ID) {
			return errStands
		}
		if err := p.putVolume(tx, st, now, rec); err != nil {
			return err
		}
		return giveDisk(tx, &vm, v, rec.ID)
	})
	if err != nil {
		err = p.unmade(rec, err)
	}
	return vm, err
}

// mayGive refuses another disk for a VM that is to go on with a memory: its machine had
// none when that was kept.
func mayGive(vm *cluster.VM) error {
	if of, wakes := vm.Snapshot(cmp.Or(vm.Reverting, vm.Wake)); wakes && of.Memory != nil {
		return holdfast.Errorf(holdfast.Conflict, "VM %s is to go on with the memory of snapshot %s, and with the disks that it had then; give it another once it runs, or set the VM back with --without-memory first", vm.Name, of.Name)
	}
	return nil
}

func giveDisk(tx *cluster.Txn, vm *cluster.VM, was cluster.Versioned[cluster.VM], id holdfast.VolumeID) error {
	if err := mayGive(vm); err != nil {
		return err
	}
	if !vm.AddDisk(id) {
		return holdfast.Errorf(holdfast.Invalid, "VM %s has %d disks; that is all that fit", vm.Name, cluster.MaxVMDisks)
	}
	tx.PutVM(*vm, was.Mod)
	return nil
}

// diskName is a name for another disk of a VM.
func diskName(st *cluster.State, vm string) string {
	for n := 2; ; n++ {
		name := fmt.Sprintf("%s-%d", vm, n)
		if _, taken := st.VolumeByName(name); !taken {
			return name
		}
	}
}

// vmIn finds a VM that is not being deleted.
func vmIn(st *cluster.State, id holdfast.VMID) (cluster.Versioned[cluster.VM], error) {
	v, ok := st.VMs[id]
	if !ok || v.Val.Deleted {
		return v, holdfast.Errorf(holdfast.NotFound, "VM %s does not exist", id.Short())
	}
	return v, nil
}

// freeVolume returns a volume that may become a VM's disk. what says what it is
// to be, for an error.
func freeVolume(st *cluster.State, id holdfast.VolumeID, what string) (cluster.Versioned[cluster.Volume], error) {
	v, ok := st.Volumes[id]
	if !ok || v.Val.Deleted {
		return v, holdfast.Errorf(holdfast.NotFound, "%s does not exist", what)
	}
	if other, ok := st.VMs[v.Val.VM]; ok && !other.Val.Deleted {
		return v, holdfast.Errorf(holdfast.Busy, "volume %s is the disk of VM %s; clone it", v.Val.Name, other.Val.Name)
	}
	if e, ok := st.ExportOf(id); ok {
		return v, errExported(v.Val.Name, e.Val.Name)
	}
	if v.Val.Shared {
		return v, holdfast.Errorf(holdfast.Conflict, "volume %s is shared by several clients; a VM's disk is its own: 'holdfast volume set %s --shared=false' first", v.Val.Name, v.Val.Name)
	}
	return v, nil
}

// RemoveVMDisk takes a disk away from a VM; the volume stays. One that a machine
// may have stays the VM's until the guest has let it go, or the machine is off.
func (p *Provisioner) RemoveVMDisk(id holdfast.VMID, volume holdfast.VolumeID) (cluster.VM, error) {
	var vm cluster.VM
	seen := false
	err := p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, err := vmIn(st, id)
		if err != nil {
			return err
		}
		vm = v.Val
		i, runs := vm.Disk(volume), MayRun(st, vm)
		name := st.Volumes[volume].Val.Name
		switch {
		case volume == vm.Volume:
			return holdfast.Errorf(holdfast.Conflict, "volume %s is what VM %s boots from; a VM keeps its boot disk", name, vm.Name)
		case i < 0 && seen, i >= 0 && vm.Disks[i].Leaving && runs:
			return errStands // of one that was to leave a machine that is no more, nobody else takes care
		case i < 0:
			return holdfast.Errorf(holdfast.NotFound, "volume %s is no disk of VM %s: see 'holdfast vm disk list %s'", name, vm.Name, vm.Name)
		}
		if of, wakes := vm.Snapshot(cmp.Or(vm.Reverting, vm.Wake)); wakes && of.Memory != nil && slices.ContainsFunc(of.Disks, func(d cluster.VMSnapshotDisk) bool { return d.Volume == volume }) {
			return holdfast.Errorf(holdfast.Conflict, "VM %s is to go on with the memory of snapshot %s, and with disk %s, which it had then; take that away once it runs, or set the VM back with --without-memory first", vm.Name, of.Name, name)
		}
		seen = true
		if runs {
			vm.Disks = slices.Clone(vm.Disks)
			vm.Disks[i].Leaving = true
		} else {
			vm.Disks = vm.WithoutDisks(volume)
			if rec, ok := st.Volumes[volume]; ok {
				rec.Val.VM = holdfast.VMID{}
				tx.PutVolume(rec.Val, rec.Mod)
			}
		}
		tx.PutVM(vm, v.Mod)
		return nil
	})
	return vm, err
}

// MayRun reports whether a VM has a machine, or may have one. Of a host that is
// away nobody knows, but what it may still do is refused: its epochs are over
// when somebody else opens the volumes.
func MayRun(st *cluster.State, vm cluster.VM) bool {
	if vm.Power == cluster.On {
		return true
	}
	m, ok := st.Machines[vm.ID]
	return ok && m.Val.State != "off" && st.AliveHost(m.Val.Host)
}
