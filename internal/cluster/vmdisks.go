package cluster

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// MaxVMDisks is how many disks a VM may have, the boot disk included.
const MaxVMDisks = 20

// VMDisk is a volume that a VM has beside its boot disk.
type VMDisk struct {
	Volume holdfast.VolumeID `json:"volume"`
	Slot   int               `json:"slot"` // its place on the machine's bus, from 1; it keeps it
	// Leaving says that it is to be taken away. The VM has it, and nobody else
	// may, until its machine has not.
	Leaving bool `json:"leaving,omitempty"`
}

// VarsBlocks is the size of the volume of a VM's UEFI variables, in blocks, and
// VarsSlot its slot: behind all disks.
const (
	VarsBlocks = 132
	VarsSlot   = MaxVMDisks + 1
)

// UEFI reports whether the VM is started by UEFI firmware.
func (v *VM) UEFI() bool { return !v.Vars.IsZero() }

// Volumes are the volumes that the VM's machine is to be started with, the boot
// disk first, and last that of its UEFI variables.
func (v *VM) Volumes() []holdfast.VolumeID {
	var out []holdfast.VolumeID
	if !v.Volume.IsZero() {
		out = append(out, v.Volume)
	}
	for _, d := range v.Disks {
		if !d.Leaving {
			out = append(out, d.Volume)
		}
	}
	if v.UEFI() {
		out = append(out, v.Vars)
	}
	return out
}

// Has reports whether a volume is one of the VM's disks, or holds its UEFI
// variables.
func (v *VM) Has(id holdfast.VolumeID) bool {
	return v.Volume == id || v.Disk(id) >= 0 || v.UEFI() && v.Vars == id
}

// Disk is the place of a volume among the VM's further disks, or -1.
func (v *VM) Disk(id holdfast.VolumeID) int {
	return slices.IndexFunc(v.Disks, func(d VMDisk) bool { return d.Volume == id })
}

// AddDisk gives the VM a disk at the first free slot; ok is false if none is.
func (v *VM) AddDisk(id holdfast.VolumeID) (ok bool) {
	slot := 1
	for _, d := range v.Disks {
		if d.Slot == slot {
			slot++
		}
	}
	if slot >= MaxVMDisks {
		return false
	}
	v.Disks = append(slices.Clone(v.Disks), VMDisk{Volume: id, Slot: slot})
	slices.SortFunc(v.Disks, func(a, b VMDisk) int { return a.Slot - b.Slot })
	return true
}

// WithoutDisks returns the VM's further disks but for some volumes.
func (v *VM) WithoutDisks(ids ...holdfast.VolumeID) []VMDisk {
	return slices.DeleteFunc(slices.Clone(v.Disks), func(d VMDisk) bool { return slices.Contains(ids, d.Volume) })
}

// checkVMDisks refuses disks that share a slot or a volume.
func checkVMDisks(v *VM) error {
	if v.UEFI() && (v.Vars == v.Volume || v.Disk(v.Vars) >= 0) {
		return bad("vm", v.Name, "its UEFI variables are on one of its disks")
	}
	last := 0
	for i, d := range v.Disks {
		switch {
		case d.Volume.IsZero() || d.Volume == v.Volume || slices.ContainsFunc(v.Disks[:i], func(o VMDisk) bool { return o.Volume == d.Volume }):
			return bad("vm", v.Name, "disk %d has no volume of its own", d.Slot)
		case d.Slot <= last || d.Slot >= MaxVMDisks:
			return bad("vm", v.Name, "a disk at slot %d after one at %d: they rise, from 1 to %d", d.Slot, last, MaxVMDisks-1)
		}
		last = d.Slot
	}
	return nil
}
