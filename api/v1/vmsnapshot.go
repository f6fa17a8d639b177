package v1

import "time"

// VMSnapshotSpec asks to keep a VM as it is.
type VMSnapshotSpec struct {
	Name   string `json:"name" maxLength:"63"`
	Memory bool   `json:"memory,omitempty" doc:"Keep the memory of a VM that runs too; it stands still until that is written"`
}

// KeptMemory is the memory that is kept with a snapshot.
type KeptMemory struct {
	Volume string `json:"volume" doc:"The volume that holds it"`
	Bytes  int64  `json:"bytes"`
	Kind   string `json:"kind" doc:"What a host's machines must be to go on with it"`
	Gone   bool   `json:"gone,omitempty" doc:"The volume is not there any more"`
}

// VMSnapshot is what a VM was at one point: all its disks, and its configuration.
type VMSnapshot struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Created   time.Time `json:"created"`
	Disks     []string  `json:"disks" doc:"Volumes that were kept, the boot disk first"`
	Whole     bool      `json:"whole" doc:"The VM has all of these disks, and what was kept of each is there: it can be set back"`
	CPUs      int       `json:"cpus"`
	MemoryMiB int       `json:"memory_mib"`
	UserData  string    `json:"user_data,omitempty"`
	SSHKeys   []string  `json:"ssh_keys,omitempty"`
	Kernel    string    `json:"kernel,omitempty"`
	Initrd    string    `json:"initrd,omitempty"`
	Append    string    `json:"append,omitempty"`
	Boot      []string  `json:"boot,omitempty"`

	Memory *KeptMemory `json:"memory,omitempty" doc:"Absent: only the disks were kept"`
}

// VMRevertSpec says how to set a VM back to a snapshot.
type VMRevertSpec struct {
	Stop     bool `json:"stop,omitempty" doc:"End its process first, if it runs"`
	NoSafety bool `json:"no_safety,omitempty" doc:"Do not keep what it is now as a snapshot first"`

	WithoutMemory bool `json:"without_memory,omitempty" doc:"Set back its disks only, though its memory was kept; it is off then"`
}

// VMReverted is a VM that was set back.
type VMReverted struct {
	VM      VM       `json:"vm"`
	Safety  string   `json:"safety,omitempty" doc:"The snapshot of what it was before"`
	Changed []string `json:"changed" doc:"What of its configuration is another one now"`
	Memory  bool     `json:"memory,omitempty" doc:"It goes on with the memory that was kept; otherwise it is off"`
	Kept    []string `json:"kept,omitempty" doc:"Disks that were not in the snapshot; they are as they were"`
}

// VMCloneSpec asks for a VM with linked clones of another one's disks.
type VMCloneSpec struct {
	Name     string `json:"name" maxLength:"63"`
	Snapshot string `json:"snapshot,omitempty" maxLength:"63" doc:"Of which snapshot; empty: as it is now"`
	Off      bool   `json:"off,omitempty" doc:"Do not start it"`
}
