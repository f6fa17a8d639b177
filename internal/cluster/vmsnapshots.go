package cluster

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// MaxVMSnapshots is how many snapshots a VM may have, and maxVMText how many
// bytes of user data they and the VM may hold together: all of it is one record.
const (
	MaxVMSnapshots = 32
	maxVMText      = 512 << 10
)

// VMSnapshot is what a VM was at one point: its configuration, and a snapshot of
// each of its disks, which are a group.
type VMSnapshot struct {
	ID      holdfast.GroupID `json:"id"`
	Name    string           `json:"name"`
	Created time.Time        `json:"created"`
	Disks   []VMSnapshotDisk `json:"disks"` // by slot
	Config  VMConfig         `json:"config"`
	Memory  *VMMemory        `json:"memory,omitempty"` // nil: only the disks were kept
}

// MaxKeptMemoryMiB is the largest memory that is kept: the guest stands still
// until it is written.
const MaxKeptMemoryMiB = 16 << 10

// VMMemory is where the memory of a VM is kept, and what can go on with it.
type VMMemory struct {
	Volume holdfast.VolumeID `json:"volume"` // the VM's, and nobody's disk (docs/format/memory.md)
	Bytes  int64             `json:"bytes"`
	Kind   string            `json:"kind"` // of hosts that can go on with it, see Alive.Machines
}

// Keeping is a memory that is being kept. As long as the VM's record has one of
// the generation of its machine, that stands still.
type Keeping struct {
	Name       string            `json:"name"`   // of the snapshot
	Volume     holdfast.VolumeID `json:"volume"` // that it goes to
	Generation int64             `json:"generation"`
}

// Kept is how far a host is with keeping a VM's memory, or with reading it back.
type Kept struct {
	Volume holdfast.VolumeID `json:"volume"`
	Done   int64             `json:"done"`            // bytes
	Whole  bool              `json:"whole,omitempty"` // all of it is durable, and the machine stands still
	Failed string            `json:"failed,omitempty"`
	Kind   string            `json:"kind,omitempty"` // of the host
}

// StandsStill reports whether a machine of a generation is not to go on, whatever
// else is the case: its memory is being kept, or it has got one back and the
// record does not say yet that it did.
func (v *VM) StandsStill(generation int64) bool {
	return v.Keeping != nil && v.Keeping.Generation == generation || !v.Wake.IsZero()
}

// WakesFrom is the memory that the VM's next machine goes on with; nil: it is
// started.
func (v *VM) WakesFrom() *VMMemory {
	of, ok := v.Snapshot(v.Wake)
	if !ok {
		return nil
	}
	return of.Memory
}

// Memories are the volumes that hold memories of the VM.
func (v *VM) Memories() (ids []holdfast.VolumeID) {
	for _, s := range v.Snapshots {
		if s.Memory != nil {
			ids = append(ids, s.Memory.Volume)
		}
	}
	if v.Keeping != nil {
		ids = append(ids, v.Keeping.Volume)
	}
	return ids
}

// Uses reports whether a machine of the VM, or its host for it, has one of the
// VM's volumes open: all but memories that lie there.
func (v *VM) Uses(id holdfast.VolumeID) bool {
	if v.Keeping != nil && v.Keeping.Volume == id {
		return true
	}
	if of := v.WakesFrom(); of != nil && of.Volume == id {
		return true
	}
	return !slices.Contains(v.Memories(), id)
}

// VMSnapshotDisk is what is kept of one disk.
type VMSnapshotDisk struct {
	Volume   holdfast.VolumeID   `json:"volume"`
	Slot     int                 `json:"slot"`
	Snapshot holdfast.SnapshotID `json:"snapshot"`
}

// VMConfig is the part of a VM that goes back with its disks: what its machine
// is made of and what it is told when it starts.
type VMConfig struct {
	CPUs      int      `json:"cpus"`
	MemoryMiB int      `json:"memory_mib"`
	UserData  string   `json:"user_data,omitempty"`
	SSHKeys   []string `json:"ssh_keys,omitempty"`
	Kernel    string   `json:"kernel,omitempty"`
	Initrd    string   `json:"initrd,omitempty"`
	Append    string   `json:"append,omitempty"`
	Boot      []string `json:"boot,omitempty"`
}

// Config returns the VM's configuration.
func (v *VM) Config() VMConfig {
	return VMConfig{CPUs: v.CPUs, MemoryMiB: v.MemoryMiB, UserData: v.UserData, SSHKeys: v.SSHKeys, Kernel: v.Kernel, Initrd: v.Initrd, Append: v.Append, Boot: v.Boot}
}

// Change is the change that gives a VM this configuration.
func (c VMConfig) Change() VMChange {
	return VMChange{CPUs: &c.CPUs, MemoryMiB: &c.MemoryMiB, UserData: &c.UserData, SSHKeys: &c.SSHKeys, Kernel: &c.Kernel, Initrd: &c.Initrd, Append: &c.Append, Boot: &c.Boot}
}

// Discard has a volume that held a memory deleted, if it is there.
func Discard(st *State, tx *Txn, id holdfast.VolumeID) {
	rec, ok := st.Volumes[id]
	if !ok || rec.Val.Deleted {
		return
	}
	rec.Val.VM, rec.Val.Deleted, rec.Val.Keys = holdfast.VMID{}, true, nil // nobody reads it any more
	tx.PutVolume(rec.Val, rec.Mod)
}

// Snapshot finds a snapshot of the VM.
func (v *VM) Snapshot(id holdfast.GroupID) (VMSnapshot, bool) {
	i := slices.IndexFunc(v.Snapshots, func(s VMSnapshot) bool { return s.ID == id })
	if i < 0 {
		return VMSnapshot{}, false
	}
	return v.Snapshots[i], true
}

// SlotOf is the slot of one of the VM's volumes.
func (v *VM) SlotOf(id holdfast.VolumeID) int {
	if i := v.Disk(id); i >= 0 {
		return v.Disks[i].Slot
	}
	if v.UEFI() && v.Vars == id {
		return VarsSlot
	}
	return 0
}

// KeptFor returns the VM, if there is one, whose snapshot a snapshot of a volume
// belongs to.
func (s *State) KeptFor(vol Volume, snap holdfast.SnapshotID) (vm VM, of VMSnapshot, ok bool) {
	rec, ok := s.VMs[vol.VM]
	if !ok || rec.Val.Deleted {
		return vm, of, false
	}
	for _, of := range rec.Val.Snapshots {
		if slices.ContainsFunc(of.Disks, func(d VMSnapshotDisk) bool { return d.Snapshot == snap }) {
			return rec.Val, of, true
		}
	}
	return vm, of, false
}

// checkVMSnapshots refuses what would not fit the VM's record.
func checkVMSnapshots(v *VM) error {
	if n := len(v.Snapshots); n > MaxVMSnapshots {
		return bad("vm", v.Name, "%d snapshots: at most %d are allowed; delete one first", n, MaxVMSnapshots)
	}
	text := len(v.UserData)
	for i, s := range v.Snapshots {
		text += len(s.Config.UserData)
		for _, k := range s.Config.SSHKeys {
			text += len(k)
		}
		if s.ID.IsZero() || slices.ContainsFunc(v.Snapshots[:i], func(o VMSnapshot) bool { return o.Name == s.Name }) {
			return bad("vm", v.Name, "snapshot %s has no identity, or the name of another one", s.Name)
		}
		if err := holdfast.CheckName("snapshot", s.Name); err != nil {
			return err
		}
	}
	if !v.Wake.IsZero() && v.WakesFrom() == nil {
		return bad("vm", v.Name, "it is to go on with a memory that it has not")
	}
	if text > maxVMText && len(v.Snapshots) > 0 {
		return bad("vm", v.Name, "%d bytes of user data with that of its snapshots: at most %d are allowed; delete a snapshot first", text, maxVMText)
	}
	return nil
}
