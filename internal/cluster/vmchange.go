package cluster

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// VMChange is what is to be changed of a VM; nil stays as it is.
type VMChange struct {
	Name      *string
	CPUs      *int
	MemoryMiB *int
	Priority  *int
	Isolation *Isolation
	Publish   *[]Publish
	UserData  *string
	SSHKeys   *[]string
	Kernel    *string
	Initrd    *string
	Append    *string
	CDROM     *holdfast.VolumeID // zero: nothing lies in its drive
	Boot      *[]string
}

// VMRemoval says what goes with a VM that is deleted.
type VMRemoval struct {
	Force    bool // also if it should run
	KeepDisk bool // its boot disk stays, as a volume
	Disks    bool // its other disks go too, which else stay
}

// Apply changes a VM. CPUs, memory and what comes with an Edition are its
// machine's only once that is started anew; the rest is in force at once.
func (c VMChange) Apply(v *VM) {
	set(&v.Name, c.Name)
	set(&v.CPUs, c.CPUs)
	set(&v.MemoryMiB, c.MemoryMiB)
	set(&v.Priority, c.Priority)
	set(&v.Isolation, c.Isolation)
	set(&v.CDROM, c.CDROM)
	if c.Publish != nil {
		v.Publish = slices.Clone(*c.Publish)
	}
	told := []bool{set(&v.UserData, c.UserData), set(&v.Kernel, c.Kernel), set(&v.Initrd, c.Initrd), set(&v.Append, c.Append)}
	if c.SSHKeys != nil && !slices.Equal(v.SSHKeys, *c.SSHKeys) {
		v.SSHKeys = slices.Clone(*c.SSHKeys)
		told[0] = true
	}
	if c.Boot != nil && !slices.Equal(v.Boot, *c.Boot) {
		v.Boot = slices.Clone(*c.Boot)
		told[0] = true
	}
	if slices.Contains(told, true) {
		v.Edition++
	}
}

// set puts a value in place and reports whether that is another one.
func set[T comparable](at *T, to *T) bool {
	if to == nil || *at == *to {
		return false
	}
	*at = *to
	return true
}

// InForce is a VM as its machine on that host is, while that runs: what was
// changed since is not the machine's yet.
func (s *State) InForce(v VM) VM {
	m, ok := s.Machines[v.ID]
	if ok && m.Val.Generation == v.Generation && m.Val.CPUs > 0 {
		v.CPUs, v.MemoryMiB, v.Edition = m.Val.CPUs, m.Val.MemoryMiB, m.Val.Edition
	}
	return v
}
