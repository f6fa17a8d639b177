package provision

import (
	"fmt"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// VMSpec is a VM to be made; its boot disk is a clone of Image, or the VM's
// Volume, or if neither is named a new one of Blocks with nothing on it.
type VMSpec struct {
	VM     cluster.VM // what people choose: name, CPUs, memory, power, priority, …
	Image  holdfast.VolumeID
	Blocks uint64
	Copies int
	Pool   holdfast.PoolID // of a new one
	UEFI   bool            // with UEFI variables of its own, unless the VM names a volume that has some
}

// CreateVM makes a VM, its boot disk and its first assignment in one commit.
func (p *Provisioner) CreateVM(spec VMSpec) (vm cluster.VM, err error) {
	err = p.again(func() error { vm, err = p.createVM(spec); return err })
	return vm, err
}

func (p *Provisioner) createVM(spec VMSpec) (cluster.VM, error) {
	vm := spec.VM
	if err := holdfast.CheckName("VM", vm.Name); err != nil {
		return vm, err
	}
	u, err := p.uuid()
	if err != nil {
		return vm, err
	}
	p.identify(&vm, u)
	if vm.Isolation == "" {
		vm.Isolation = cluster.IsolationPause
	}
	if !vm.Volume.IsZero() {
		return p.createOn(vm, spec)
	}
	disk := VolumeSpec{Name: vm.Name, Blocks: spec.Blocks, Copies: spec.Copies, Pool: spec.Pool}
	if !spec.Image.IsZero() {
		disk.Origin = &cluster.Origin{Volume: spec.Image}
	}
	rec, st, err := p.prepare(disk)
	if err != nil {
		return vm, err
	}
	if _, taken := st.VMByName(vm.Name); taken {
		p.discard(rec)
		return vm, holdfast.Errorf(holdfast.Exists, "a VM named %q exists; choose another name", vm.Name)
	}
	vm.Volume, rec.VM = rec.ID, vm.ID
	made := []cluster.Volume{rec}
	tx := p.Cluster.Begin()
	if vars, err := p.takeVars(tx, st, &vm, spec, rec); err != nil {
		p.discard(rec)
		return vm, err
	} else if vars != nil {
		made = append(made, *vars)
	}
	p.assign(st, &vm, made...)
	for _, rec := range made {
		if err == nil {
			err = p.putVolume(tx, st, st, rec)
		}
	}
	tx.PutVM(vm, 0)
	if err == nil {
		err = p.settled(tx)
	}
	for _, rec := range made {
		if err != nil {
			err = p.unmade(rec, err)
		}
	}
	return vm, err
}

// takeVars gives a VM that is to have UEFI a place for its variables, beside its
// boot disk: the volume that it names, or a new one, which is returned and has
// no record yet.
func (p *Provisioner) takeVars(tx *cluster.Txn, st *cluster.State, vm *cluster.VM, spec VMSpec, disk cluster.Volume) (*cluster.Volume, error) {
	if vm.UEFI() {
		v, err := freeVolume(st, vm.Vars, "the volume with the UEFI variables of VM "+vm.Name)
		if err != nil {
			return nil, err
		}
		if v.Val.Blocks != cluster.VarsBlocks {
			return nil, holdfast.Errorf(holdfast.Invalid, "volume %s has %d blocks; UEFI variables have %d", v.Val.Name, v.Val.Blocks, cluster.VarsBlocks)
		}
		v.Val.VM, v.Val.Durability = vm.ID, cluster.Always
		tx.PutVolume(v.Val, v.Mod)
		return nil, nil
	}
	if !spec.UEFI {
		return nil, nil
	}
	rec, _, err := p.prepare(VolumeSpec{Name: varsName(vm.Name), Blocks: cluster.VarsBlocks, Copies: disk.Copies, Pool: disk.Pool,
		Durability: cluster.Always, Encrypt: disk.Encrypted()})
	if err != nil {
		return nil, err
	}
	vm.Vars, rec.VM = rec.ID, vm.ID
	return &rec, nil
}

// varsName is the name of the volume of a VM's UEFI variables.
func varsName(vm string) string { return vm[:min(len(vm), 58)] + "-uefi" }

// identify makes a VM one of its own.
func (p *Provisioner) identify(vm *cluster.VM, u holdfast.UUID) {
	vm.ID, vm.Created = holdfast.VMID{UUID: u}, p.Clock.Wall()
	vm.MAC = fmt.Sprintf("52:54:00:%02x:%02x:%02x", u[0], u[1], u[2])
}

// createOn makes a VM on an existing volume.
func (p *Provisioner) createOn(vm cluster.VM, spec VMSpec) (cluster.VM, error) {
	st, err := p.fresh()
	if err != nil {
		return vm, err
	}
	v, err := freeVolume(st, vm.Volume, "the volume to boot VM "+vm.Name+" from")
	if err != nil {
		return vm, err
	}
	rec := v.Val
	rec.VM = vm.ID
	tx := p.Cluster.Begin()
	vars, err := p.takeVars(tx, st, &vm, spec, rec)
	if err != nil {
		return vm, err
	}
	with := []cluster.Volume{rec}
	if vars != nil {
		with = append(with, *vars)
		err = p.putVolume(tx, st, st, *vars)
	}
	p.assign(st, &vm, with...)
	tx.PutVolume(rec, v.Mod)
	tx.PutVM(vm, 0)
	if err == nil {
		err = p.settled(tx)
	}
	if err != nil && vars != nil {
		err = p.unmade(*vars, err)
	}
	return vm, err
}

// assign chooses the host of a VM that should run, so that it starts without
// waiting for the reconciler; if none fits, that one will say why and retry. made
// are volumes that are not in the picture, or not so.
func (p *Provisioner) assign(st *cluster.State, vm *cluster.VM, made ...cluster.Volume) {
	if vm.Power != cluster.On {
		return
	}
	with := *st
	with.Volumes = make(map[holdfast.VolumeID]cluster.Versioned[cluster.Volume], len(st.Volumes)+len(made))
	for id, v := range st.Volumes {
		with.Volumes[id] = v
	}
	for _, rec := range made {
		with.Volumes[rec.ID] = cluster.Versioned[cluster.Volume]{Val: rec}
	}
	if host, _ := placement.PlaceVM(&with, *vm, placement.VMOptions{}); !host.IsZero() {
		vm.Host = host
		vm.Generation++
		vm.Came = ""
	}
}

// changeVM applies f to a VM's newest record and commits it.
func (p *Provisioner) changeVM(id holdfast.VMID, f func(*cluster.State, *cluster.VM) error) (vm cluster.VM, err error) {
	err = p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, err := vmIn(st, id)
		if err != nil {
			return err
		}
		vm = v.Val
		if err := f(st, &vm); err != nil {
			return err
		}
		tx.PutVM(vm, v.Mod)
		return nil
	})
	return vm, err
}

// ChangeVM changes a VM; what its machine is only told when it is started waits
// for that.
func (p *Provisioner) ChangeVM(id holdfast.VMID, c cluster.VMChange) (cluster.VM, error) {
	if c.Name != nil {
		if err := holdfast.CheckName("VM", *c.Name); err != nil {
			return cluster.VM{}, err
		}
	}
	return p.changeVM(id, func(st *cluster.State, vm *cluster.VM) error {
		if c.CDROM != nil && !c.CDROM.IsZero() {
			if err := readable(st, *c.CDROM); err != nil {
				return err
			}
		}
		c.Apply(vm)
		return nil
	})
}

// readable refuses what cannot lie in a CD-ROM drive.
func readable(st *cluster.State, image holdfast.VolumeID) error {
	rec, ok := st.Volumes[image]
	switch {
	case !ok || rec.Val.Deleted || !rec.Val.Image:
		return holdfast.Errorf(holdfast.NotFound, "the image for the CD-ROM drive does not exist")
	case !rec.Val.Sealed:
		return holdfast.Errorf(holdfast.Unavailable, "image %s is still being imported", rec.Val.Name)
	}
	return nil
}

// StartVM has a VM run. The host that it was last on may have a machine of it still,
// and not know yet that it was stopped: as long as that lives and has not said that the
// machine is gone, it is the one to start another (ADR 0071).
func (p *Provisioner) StartVM(id holdfast.VMID) error {
	return p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, err := vmIn(st, id)
		if err != nil {
			return err
		}
		vm, last := v.Val, v.Val.Host
		if vm.Power == cluster.On {
			return errStands
		}
		if of, ok := vm.Snapshot(vm.Reverting); ok {
			return holdfast.Errorf(holdfast.Conflict, "VM %s is being set back to snapshot %s; if that was interrupted, do it again: 'holdfast vm snapshot revert %s %s'", vm.Name, of.Name, vm.Name, of.Name)
		}
		off := placement.IsOff(st, vm)
		vm.Power, vm.Leave = cluster.On, 0
		_, member := st.Hosts[last]
		switch alive := st.AliveHost(last); {
		case alive && !off:
			vm.Generation++
			vm.Came = ""
		default:
			p.assign(st, &vm)
			if member && !alive {
				tx.RequireAlive(last, 0)
			}
		}
		tx.PutVM(vm, v.Mod)
		return nil
	})
}

// StopVM presses the power button, or with force ends the machine.
func (p *Provisioner) StopVM(id holdfast.VMID, force bool) error {
	var button press
	_, err := p.changeVM(id, func(st *cluster.State, vm *cluster.VM) error {
		if force || !st.AliveHost(vm.Host) {
			vm.Power = cluster.Stopped
			return nil
		}
		if vm.Power == cluster.On {
			return button.once(&vm.Shutdowns)
		}
		return nil
	})
	return err
}

// press is the pressing of a button: once, though it may have to be decided
// again whether it is.
type press struct{ to int64 }

// once raises the counter of a button, unless an earlier try has.
func (b *press) once(counter *int64) error {
	switch {
	case b.to == 0:
		b.to = *counter + 1
	case *counter >= b.to:
		return errStands
	}
	*counter = b.to
	return nil
}

// ResetVM presses the reset button.
func (p *Provisioner) ResetVM(id holdfast.VMID) error {
	var button press
	_, err := p.changeVM(id, func(_ *cluster.State, vm *cluster.VM) error {
		if vm.Power != cluster.On {
			return holdfast.Errorf(holdfast.Conflict, "VM %s is off; start it instead", vm.Name)
		}
		return button.once(&vm.Resets)
	})
	return err
}

// DeleteVM removes a VM, with the disks that r says. The host that runs it ends
// the machine and removes the record.
func (p *Provisioner) DeleteVM(id holdfast.VMID, r cluster.VMRemoval) error {
	seen := false
	return p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, err := vmIn(st, id)
		switch {
		case err != nil && seen:
			return errStands
		case err != nil:
			return err
		}
		seen = true
		if v.Val.Power == cluster.On && !r.Force {
			return holdfast.Errorf(holdfast.Conflict, "VM %s should be running; stop it first, or force its deletion", v.Val.Name)
		}
		deleteVM(st, tx, v, r)
		return nil
	})
}

func deleteVM(st *cluster.State, tx *cluster.Txn, v cluster.Versioned[cluster.VM], r cluster.VMRemoval) {
	letGo := func(id holdfast.VolumeID, goes bool) {
		rec, ok := st.Volumes[id]
		if !ok || rec.Val.Deleted {
			return
		}
		vol := rec.Val
		vol.VM = holdfast.VMID{}
		if vol.Deleted = goes; vol.Deleted {
			vol.Keys = nil // nobody reads it any more
		}
		tx.PutVolume(vol, rec.Mod)
	}
	letGo(v.Val.Volume, !r.KeepDisk)
	letGo(v.Val.Vars, !r.KeepDisk)
	for _, d := range v.Val.Disks {
		letGo(d.Volume, r.Disks && !d.Leaving)
	}
	for _, id := range v.Val.Memories() {
		letGo(id, true)
	}
	vm := v.Val
	vm.Power, vm.Deleted = cluster.Stopped, true
	if st.AliveHost(vm.Host) {
		tx.PutVM(vm, v.Mod)
	} else {
		// Nobody runs it; a host that comes back finds no record and ends it.
		tx.DeleteVM(vm.ID, v.Mod)
		if m, ok := st.Machines[vm.ID]; ok {
			tx.DeleteMachine(vm.ID, m.Mod)
		}
	}
}
