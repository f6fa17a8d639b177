package cluster

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// What a VM may be started from.
const (
	BootDisk = "disk" // its disks, by their slots
	BootCD   = "cdrom"
)

// BootOrder is what the VM is started from, in the order in which it is tried.
func (v *VM) BootOrder() []string {
	if len(v.Boot) > 0 {
		return v.Boot
	}
	return []string{BootDisk, BootCD}
}

// CheckBoot refuses what a VM cannot be started from.
func CheckBoot(order []string) error {
	for i, what := range order {
		switch {
		case what == "network":
			return holdfast.Errorf(holdfast.Invalid, "a VM is not started from the network: nothing in its network answers such a request; use %s and %s", BootDisk, BootCD)
		case what != BootDisk && what != BootCD:
			return holdfast.Errorf(holdfast.Invalid, "a VM is not started from %.40q; use %s and %s", what, BootDisk, BootCD)
		case slices.Contains(order[:i], what):
			return holdfast.Errorf(holdfast.Invalid, "%s is named twice in what the VM is started from", what)
		}
	}
	return nil
}

// InDriveOf returns a VM, the first by name, in whose CD-ROM drive an image lies.
func (s *State) InDriveOf(image holdfast.VolumeID) (VM, bool) {
	for _, vm := range s.SortedVMs() {
		if vm.Val.CDROM == image && !vm.Val.Deleted {
			return vm.Val, true
		}
	}
	return VM{}, false
}
