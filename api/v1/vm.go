package v1

import "time"

// VMSpec asks for a VM. Image or Volume says what it boots from; if neither is
// named Size asks for an empty disk, to install on from a CD-ROM.
type VMSpec struct {
	Name      string    `json:"name" maxLength:"63"`
	Image     string    `json:"image,omitempty" maxLength:"63" doc:"Boot from a linked clone of this image"`
	Volume    string    `json:"volume,omitempty" maxLength:"63" doc:"Boot from this volume"`
	Size      int64     `json:"size,omitempty" minimum:"0" doc:"Grow the clone to this, or without image and volume: make an empty disk of this; bytes"`
	Copies    int       `json:"copies,omitempty" minimum:"0" maximum:"8"`
	Pool      string    `json:"pool,omitempty" maxLength:"63" doc:"Pool that its disk has to be in: that of the image or volume, or where an empty one is made"`
	CPUs      int       `json:"cpus,omitempty" minimum:"0" maximum:"256" doc:"0: 1"`
	MemoryMiB int       `json:"memory_mib,omitempty" minimum:"0" maximum:"16777216" doc:"0: 256"`
	Off       bool      `json:"off,omitempty" doc:"Do not start it"`
	Priority  string    `json:"priority,omitempty" enum:"low,normal,high"`
	Isolation string    `json:"isolation,omitempty" enum:"pause,off,leave" doc:"What a host that is cut off does with it"`
	Publish   []Publish `json:"publish,omitempty" maxItems:"64"`
	UserData  string    `json:"user_data,omitempty" maxLength:"65536" doc:"cloud-init user data"`
	SSHKeys   []string  `json:"ssh_keys,omitempty" maxItems:"64"`
	Kernel    string    `json:"kernel,omitempty" maxLength:"63" doc:"Direct boot: image that holds the kernel"`
	Initrd    string    `json:"initrd,omitempty" maxLength:"63"`
	Append    string    `json:"append,omitempty" maxLength:"2048" doc:"Kernel command line"`
	CDROM     string    `json:"cdrom,omitempty" maxLength:"63" doc:"Image that lies in its CD-ROM drive, as of an ISO file"`
	Firmware  string    `json:"firmware,omitempty" enum:"bios,uefi" doc:"What starts it; empty: bios, or uefi if there are variables"`
	Vars      string    `json:"vars,omitempty" maxLength:"63" doc:"Volume that holds the variables of its UEFI; empty: a new one"`
	Boot      []string  `json:"boot,omitempty" maxItems:"2" doc:"What it is started from: disk, cdrom, in the order in which it is tried; empty: disk, cdrom"`
}

// VMSet says what is to be changed of a VM; what is absent stays as it is. CPUs,
// memory, user data, keys, the kernel and the order of what it is started from are its machine's when that is
// started the next time.
type VMSet struct {
	Name      *string    `json:"name,omitempty" maxLength:"63"`
	CPUs      *int       `json:"cpus,omitempty" minimum:"1" maximum:"256"`
	MemoryMiB *int       `json:"memory_mib,omitempty" minimum:"1" maximum:"16777216"`
	Priority  *string    `json:"priority,omitempty" enum:"low,normal,high"`
	Isolation *string    `json:"isolation,omitempty" enum:"pause,off,leave" doc:"What a host that is cut off does with it"`
	Publish   *[]Publish `json:"publish,omitempty" maxItems:"64" doc:"All ports that are to be published from now on"`
	UserData  *string    `json:"user_data,omitempty" maxLength:"65536" doc:"cloud-init user data"`
	SSHKeys   *[]string  `json:"ssh_keys,omitempty" maxItems:"64"`
	Kernel    *string    `json:"kernel,omitempty" maxLength:"63" doc:"Direct boot: image that holds the kernel; empty: boot from the disk"`
	Initrd    *string    `json:"initrd,omitempty" maxLength:"63"`
	Append    *string    `json:"append,omitempty" maxLength:"2048" doc:"Kernel command line"`
	CDROM     *string    `json:"cdrom,omitempty" maxLength:"63" doc:"Image that lies in its CD-ROM drive from now on; empty: nothing"`
	Boot      *[]string  `json:"boot,omitempty" maxItems:"2" doc:"What it is started from: disk, cdrom, in the order in which it is tried; empty: disk, cdrom"`
}

// Publish makes a guest's TCP port reachable at every host.
type Publish struct {
	Addr      string `json:"addr,omitempty" maxLength:"45" doc:"Address to listen on; empty: each host's loopback or publish address"`
	Port      int    `json:"port" minimum:"1" maximum:"65535"`
	GuestPort int    `json:"guest_port" minimum:"1" maximum:"65535"`
}

// VM is a desired machine and what became of it.
type VM struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	State     string    `json:"state" doc:"running, paused, starting, off, failed, away, reverting, deleting"`
	Power     string    `json:"power" enum:"on,off" doc:"What it should be doing"`
	Reason    string    `json:"reason,omitempty" doc:"Why it is not running"`
	Host      string    `json:"host,omitempty" doc:"Where it runs or should run"`
	Rack      string    `json:"rack,omitempty"`
	CPUs      int       `json:"cpus"`
	MemoryMiB int       `json:"memory_mib"`
	Volume    string    `json:"volume" doc:"Its boot disk"`
	Disks     []VMDisk  `json:"disks" doc:"All its disks, the boot disk first"`
	Priority  string    `json:"priority"`
	Isolation string    `json:"isolation"`
	Publish   []Publish `json:"publish"`
	SSHKeys   []string  `json:"ssh_keys,omitempty"`
	UserData  string    `json:"user_data,omitempty"`
	Kernel    string    `json:"kernel,omitempty"`
	Initrd    string    `json:"initrd,omitempty"`
	Append    string    `json:"append,omitempty"`
	Firmware  string    `json:"firmware" enum:"bios,uefi" doc:"What starts it"`
	Vars      string    `json:"vars,omitempty" doc:"The volume that holds the variables of its UEFI"`
	CDROM     string    `json:"cdrom,omitempty" doc:"The image in its CD-ROM drive"`
	Boot      []string  `json:"boot" doc:"What it is started from: disk, cdrom, in the order in which it is tried"`
	MAC       string    `json:"mac"`
	Created   time.Time `json:"created"`
	Machine   *Machine  `json:"machine,omitempty" doc:"The process, as the host that runs it last said"`
	Came      string    `json:"came,omitempty" doc:"How it came to its host, if it was moved"`
	Pending   []string  `json:"pending,omitempty" doc:"What was changed and is not its running machine's yet: stop and start it"`
	Snapshots int       `json:"snapshots" doc:"How many snapshots it has"`
	// Assigned counts assignments: it rises each time the VM is moved or
	// started anew.
	Assigned int64 `json:"assigned"`
}

// VMDisk is one disk of a VM.
type VMDisk struct {
	Volume string `json:"volume"`
	Size   int64  `json:"size" doc:"Bytes"`
	Slot   int    `json:"slot" doc:"Its place on the machine's bus; 0 is the boot disk"`
	State  string `json:"state" doc:"ok, pending (the running machine does not have it yet), leaving (it goes when the guest lets it go), lost, missing"`
	Path   string `json:"path" doc:"Where a Linux guest finds it, whichever slot it has"`
}

// VMDiskSpec asks for a disk of a VM beside its boot disk: a volume that there
// is, or a new one of a size.
type VMDiskSpec struct {
	Volume  string `json:"volume,omitempty" maxLength:"63" doc:"A volume that belongs to no VM"`
	Size    int64  `json:"size,omitempty" minimum:"0" doc:"Or: make one of so many bytes"`
	Name    string `json:"name,omitempty" maxLength:"63" doc:"Its name; empty: the VM's and a number"`
	Copies  int    `json:"copies,omitempty" minimum:"0" maximum:"8"`
	Pool    string `json:"pool,omitempty" maxLength:"63"`
	Encrypt bool   `json:"encrypt,omitempty"`
}

// VMRemoval says how to delete a VM.
type VMRemoval struct {
	Force    bool // also if it should run: end its process first
	KeepDisk bool // keep its boot disk as a volume
	Disks    bool // delete its other disks too, which else stay as volumes
}

// Machine is a VM's process.
type Machine struct {
	Host       string    `json:"host"`
	Generation int64     `json:"generation"`
	Epoch      uint32    `json:"epoch"`
	State      string    `json:"state"`
	Reason     string    `json:"reason,omitempty"`
	Since      time.Time `json:"since"`
	PID        int       `json:"pid,omitempty"`
}

// StopSpec says how to stop a VM.
type StopSpec struct {
	Force bool `json:"force,omitempty" doc:"End the process at once instead of pressing the power button"`
}
