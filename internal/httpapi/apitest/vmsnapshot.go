package apitest

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
)

// keepVM keeps what a VM is.
func (b *Backend) keepVM(id holdfast.VMID, name string) (of cluster.VMSnapshot, err error) {
	v := b.St.VMs[id].Val
	if slices.ContainsFunc(v.Snapshots, func(s cluster.VMSnapshot) bool { return s.Name == name }) {
		return of, holdfast.Errorf(holdfast.Exists, "VM %s has a snapshot named %q; choose another name", v.Name, name)
	}
	of = cluster.VMSnapshot{ID: holdfast.GroupID{UUID: b.id()}, Name: name, Created: epoch0(), Config: v.Config()}
	for _, d := range v.Volumes() {
		vol := b.St.Volumes[d].Val
		snap := cluster.Snapshot{ID: holdfast.SnapshotID{UUID: b.id()}, Name: name, Created: epoch0(), Group: of.ID, GroupSize: len(v.Volumes())}
		vol.Snapshots = append(slices.Clip(vol.Snapshots), snap)
		put(b, b.St.Volumes, d, vol)
		of.Disks = append(of.Disks, cluster.VMSnapshotDisk{Volume: d, Slot: v.SlotOf(d), Snapshot: snap.ID})
	}
	v.Snapshots = append(slices.Clip(v.Snapshots), of)
	put(b, b.St.VMs, id, v)
	return of, nil
}

// SnapshotVM implements httpapi.Backend.
func (b *Backend) SnapshotVM(_ context.Context, id holdfast.VMID, name string, memory bool) (of cluster.VMSnapshot, err error) {
	err = b.change(func() (err error) {
		if of, err = b.keepVM(id, name); err != nil || !memory {
			return err
		}
		v := b.St.VMs[id].Val
		rec, err := b.newVolume(httpapi.NewVolume{Name: v.Name + "-memory-" + name, Durability: cluster.OnFlush, Blocks: uint64(v.MemoryMiB) << 8})
		if err != nil {
			return err
		}
		rec.VM = id
		put(b, b.St.Volumes, rec.ID, rec)
		of.Memory = &cluster.VMMemory{Volume: rec.ID, Bytes: 30 << 20, Kind: "QEMU 7.2.22, tcg, Nehalem"}
		v.Snapshots[len(v.Snapshots)-1] = of
		put(b, b.St.VMs, id, v)
		return nil
	})
	return of, err
}

// DeleteVMSnapshot implements httpapi.Backend.
func (b *Backend) DeleteVMSnapshot(_ context.Context, id holdfast.VMID, of cluster.VMSnapshot) error {
	return b.change(func() error {
		v := b.St.VMs[id].Val
		v.Snapshots = slices.DeleteFunc(slices.Clone(v.Snapshots), func(s cluster.VMSnapshot) bool { return s.ID == of.ID })
		put(b, b.St.VMs, id, v)
		return nil
	})
}

// RevertVM implements httpapi.Backend.
func (b *Backend) RevertVM(_ context.Context, id holdfast.VMID, of cluster.VMSnapshot, how httpapi.Revert) (safety string, err error) {
	err = b.change(func() error {
		v := b.St.VMs[id].Val
		if v.Power == cluster.On && !how.Stop {
			return holdfast.Errorf(holdfast.Conflict, "VM %s runs; stop it first, or have it ended with --stop", v.Name)
		}
		for n := 1; !how.NoSafety && safety == ""; n++ {
			name := fmt.Sprintf("before-%s-%d", of.Name, n)
			if _, err := b.keepVM(id, name); err == nil {
				safety = name
			}
		}
		v = b.St.VMs[id].Val
		v.Power = cluster.Stopped
		of.Config.Change().Apply(&v)
		m := b.St.Machines[id].Val
		m.State, m.CPUs, m.Disks = "off", 0, nil
		put(b, b.St.Machines, id, m)
		put(b, b.St.VMs, id, v)
		return nil
	})
	return safety, err
}

// CloneVM implements httpapi.Backend.
func (b *Backend) CloneVM(_ context.Context, id holdfast.VMID, of *cluster.VMSnapshot, name string, power cluster.PowerState) (v cluster.VM, err error) {
	err = b.change(func() error {
		from := b.St.VMs[id].Val
		c := from.Config()
		if of != nil {
			c = of.Config
		}
		v = cluster.VM{ID: holdfast.VMID{UUID: b.id()}, Name: name, Priority: from.Priority, Isolation: from.Isolation, Power: power, MAC: "52:54:00:00:00:02", Created: epoch0()}
		c.Change().Apply(&v)
		for i, d := range from.Volumes() {
			n := httpapi.NewVolume{Name: name, Durability: cluster.OnFlush, Blocks: b.St.Volumes[d].Val.Blocks}
			if i > 0 {
				n.Name = fmt.Sprintf("%s-%d", name, i+1)
			}
			vol, err := b.newVolume(n)
			if err != nil {
				return err
			}
			if vol.VM = v.ID; i == 0 {
				v.Volume = vol.ID
			} else {
				v.AddDisk(vol.ID)
			}
			put(b, b.St.Volumes, vol.ID, vol)
		}
		if v.Power == cluster.On {
			b.run(&v)
		}
		put(b, b.St.VMs, v.ID, v)
		return nil
	})
	return v, err
}
