package provision

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/saved"
)

const (
	// aside is what the memory of a machine takes beyond that of its guest, in
	// bytes: its devices, firmware and tables.
	aside = 16 << 20
	// stalled is how long keeping a memory may make no progress.
	stalled = time.Minute
	// lookEvery is how often it is looked at.
	lookEvery = 100 * time.Millisecond
)

// SnapshotVMMemory is SnapshotVM of a VM that runs, with its memory. The VM's
// record says that it is being kept: then its host has the machine stand still
// and writes its memory to a volume that is made for it. The commit that names
// the disks' snapshots takes that word back, and requires it: whoever takes it
// back before has the machine go on, and there is no snapshot.
func (p *Provisioner) SnapshotVMMemory(id holdfast.VMID, name string) (cluster.VMSnapshot, error) {
	var out cluster.VMSnapshot
	mem, err := p.beginKeeping(id, name)
	if err != nil {
		return out, err
	}
	kept, err := p.awaitKept(id, mem)
	if err == nil {
		out, err = p.snapshotVM(id, name, &cluster.VMMemory{Volume: mem, Bytes: kept.Done, Kind: kept.Kind})
	}
	if err != nil && !holdfast.IsKind(err, holdfast.Unknown) {
		p.endKeeping(id, mem)
	}
	return out, err
}

// mayKeepMemory looks whether a VM's memory can be kept now.
func mayKeepMemory(st *cluster.State, vm cluster.VM) error {
	m, ok := st.Machines[vm.ID]
	switch {
	case vm.Power != cluster.On || !ok || m.Val.State != "running" || m.Val.Generation != vm.Generation:
		return holdfast.Errorf(holdfast.Conflict, "VM %s does not run, so it has no memory to keep; without --memory its disks are kept", vm.Name)
	case !st.AliveHost(vm.Host):
		return holdfast.Errorf(holdfast.Unavailable, "the host of VM %s does not answer", vm.Name)
	case vm.Keeping != nil:
		return holdfast.Errorf(holdfast.Busy, "the memory of VM %s is being kept for snapshot %s", vm.Name, vm.Keeping.Name)
	case vm.Leaving():
		return holdfast.Errorf(holdfast.Busy, "VM %s is being moved", vm.Name)
	case len(vm.Disks) > 0 && slices.ContainsFunc(vm.Disks, func(d cluster.VMDisk) bool { return d.Leaving }):
		return holdfast.Errorf(holdfast.Busy, "a disk of VM %s is being taken away", vm.Name)
	case m.Val.MemoryMiB > cluster.MaxKeptMemoryMiB:
		return holdfast.Errorf(holdfast.Invalid, "VM %s has %d MiB of memory; up to %d MiB are kept, for the guest stands still meanwhile", vm.Name, m.Val.MemoryMiB, cluster.MaxKeptMemoryMiB)
	case m.Val.MemoryMiB != vm.MemoryMiB || m.Val.CPUs != vm.CPUs || m.Val.Edition != vm.Edition:
		return holdfast.Errorf(holdfast.Conflict, "VM %s was changed since it was started: what it is and what its record says differ; stop and start it first, or keep its disks only", vm.Name)
	}
	return nil
}

// beginKeeping makes the volume for a VM's memory, and has its host fill it.
func (p *Provisioner) beginKeeping(id holdfast.VMID, name string) (holdfast.VolumeID, error) {
	var none holdfast.VolumeID
	if err := holdfast.CheckName("snapshot", name); err != nil {
		return none, err
	}
	st, err := p.fresh()
	if err != nil {
		return none, err
	}
	v, err := vmIn(st, id)
	if err == nil {
		err = mayKeep(v.Val, name)
	}
	if err == nil {
		err = mayKeepMemory(st, v.Val)
	}
	if err == nil {
		_, err = groupOf(st, v.Val.Volumes(), name)
	}
	if err != nil {
		return none, err
	}
	boot := st.Volumes[v.Val.Volume].Val
	size := int64(v.Val.MemoryMiB) << 20
	size = saved.Room(size+size/128+aside) + saved.Piece
	rec, _, err := p.prepare(VolumeSpec{Name: memoryName(st, v.Val.Name, name), Blocks: uint64(size) / holdfast.BlockSize,
		Copies: boot.Copies, Pool: boot.Pool, Encrypt: boot.Encrypted()})
	if err != nil {
		return none, err
	}
	rec.VM = id
	err = p.transact(func(now *cluster.State, tx *cluster.Txn) error {
		if _, made := now.Volumes[rec.ID]; made {
			return errStands
		}
		v, err := vmIn(now, id)
		if err == nil {
			err = mayKeep(v.Val, name)
		}
		if err == nil {
			err = mayKeepMemory(now, v.Val)
		}
		if err == nil {
			err = p.putVolume(tx, st, now, rec)
		}
		if err != nil {
			return err
		}
		vm := v.Val
		vm.Keeping = &cluster.Keeping{Name: name, Volume: rec.ID, Generation: vm.Generation}
		tx.PutVM(vm, v.Mod)
		return nil
	})
	if err != nil {
		err = p.unmade(rec, err)
	}
	return rec.ID, err
}

// memoryName is a name for the volume of a memory.
func memoryName(st *cluster.State, vm, snapshot string) string {
	base := fmt.Sprintf("%.26s-memory-%.24s", vm, snapshot)
	for n, name := 2, base; ; n++ {
		if _, taken := st.VolumeByName(name); !taken {
			return name
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}

// awaitKept waits until the VM's host has written its memory.
func (p *Provisioner) awaitKept(id holdfast.VMID, mem holdfast.VolumeID) (cluster.Kept, error) {
	var last cluster.Kept
	for moved := p.Clock.Now(); ; clock.Sleep(p.Clock, lookEvery) {
		st := p.Cluster.State()
		if st == nil {
			continue
		}
		var now cluster.Kept
		if m, ok := st.Machines[id]; ok && m.Val.Kept != nil && m.Val.Kept.Volume == mem {
			now = *m.Val.Kept
		}
		vm := st.VMs[id].Val
		switch {
		case now.Failed != "":
			return now, holdfast.Errorf(holdfast.Unavailable, "the memory of VM %s was not kept, and it goes on: %s", vm.Name, now.Failed)
		case vm.Keeping == nil || vm.Keeping.Volume != mem || vm.Keeping.Generation != vm.Generation:
			return now, holdfast.Errorf(holdfast.Unavailable, "the memory of VM %s was not kept: it was moved, stopped or given up meanwhile", vm.Name)
		case now.Whole:
			return now, nil
		case now != last:
			last, moved = now, p.Clock.Now()
		case p.Clock.Now()-moved > stalled:
			return now, holdfast.Errorf(holdfast.Unavailable, "the memory of VM %s was not kept, and it goes on: its host has made no progress for %v", vm.Name, stalled)
		}
	}
}

// endKeeping takes back that a VM's memory is kept, whereupon its machine goes on.
func (p *Provisioner) endKeeping(id holdfast.VMID, mem holdfast.VolumeID) {
	err := p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, ok := st.VMs[id]
		if !ok || v.Val.Keeping == nil || v.Val.Keeping.Volume != mem {
			return errStands
		}
		vm := v.Val
		vm.Keeping = nil
		tx.PutVM(vm, v.Mod)
		cluster.Discard(st, tx, mem)
		return nil
	})
	if err != nil {
		p.Log.Warn("a VM's memory was not kept, and that is not on record yet; its host gives it up", "vm", id.Short(), "error", err)
	}
}

// MayWake says why a VM that is set back to a snapshot could not go on with the
// memory of it.
func MayWake(st *cluster.State, vm cluster.VM, of cluster.VMSnapshot) error {
	const without = "; --without-memory sets back its disks only"
	if of.Memory == nil {
		return nil
	}
	if rec, ok := st.Volumes[of.Memory.Volume]; !ok || rec.Val.Deleted {
		return holdfast.Errorf(holdfast.Conflict, "the memory of snapshot %s of VM %s is gone"+without, of.Name, vm.Name)
	}
	for _, id := range vm.Volumes() {
		if !slices.ContainsFunc(of.Disks, func(d cluster.VMSnapshotDisk) bool { return d.Volume == id && d.Slot == vm.SlotOf(id) }) {
			return holdfast.Errorf(holdfast.Conflict, "VM %s has disk %s, which it had not, or not in the same place, when its memory was kept; take it away first"+without, vm.Name, st.Volumes[id].Val.Name)
		}
	}
	now := vm.Volumes()
	for _, d := range of.Disks {
		if !slices.Contains(now, d.Volume) || d.Slot != vm.SlotOf(d.Volume) {
			return holdfast.Errorf(holdfast.Conflict, "VM %s had disk %s when its memory was kept, and has it no more, or not in the same place; give it back first"+without, vm.Name, cmp.Or(st.Volumes[d.Volume].Val.Name, d.Volume.Short()))
		}
	}
	var have []string
	for _, h := range st.SortedHosts() {
		a, ok := st.Alive[h.Val.ID]
		if ok && a.Val.Machines == of.Memory.Kind {
			return nil
		}
		if ok && a.Val.Machines != "" {
			have = append(have, fmt.Sprintf("host %s has %s", h.Val.Name, a.Val.Machines))
		}
	}
	return holdfast.Errorf(holdfast.Conflict, "no host that answers can go on with the memory of snapshot %s of VM %s: it was kept on %s, and %v"+without, of.Name, vm.Name, of.Memory.Kind, have)
}
