// Package hypervisor is the seam to the machines of one host. Implementations:
// hypervisor/qemu (QEMU over QMP), hypervisor/fakevm (a guest that writes
// self-describing blocks and verifies them); conformance:
// hypervisor/hypervisortest.
package hypervisor

import (
	"io"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Spec is everything needed to start a machine. It is kept beside the running
// machine, so that a restarted agent finds it again.
type Spec struct {
	VM         holdfast.VMID  `json:"vm"`
	Name       string         `json:"name"`
	Generation int64          `json:"generation"` // of the VM's assignment; a machine of a lower one is stale
	Epoch      holdfast.Epoch `json:"epoch"`      // at which the boot disk was opened
	CPUs       int            `json:"cpus"`
	MemoryMiB  int            `json:"memory_mib"`
	Disks      []Disk         `json:"disks"`            // in the order of their slots
	CD         *Disk          `json:"cd,omitempty"`     // what lies in its CD-ROM drive, at SlotCD, read-only; nil: nothing
	Vars       *Disk          `json:"vars,omitempty"`   // at SlotVars, where its UEFI keeps its variables; nil: it has a BIOS
	Boot       []string       `json:"boot,omitempty"`   // BootDisk and BootCD, in the order in which they are tried; empty: in this one
	Seed       string         `json:"seed,omitempty"`   // path of a NoCloud ISO
	Kernel     string         `json:"kernel,omitempty"` // direct boot: paths of kernel and initrd
	Initrd     string         `json:"initrd,omitempty"`
	Append     string         `json:"append,omitempty"`
	NIC        *NIC           `json:"nic,omitempty"`
	Edition    int64          `json:"edition,omitempty"`  // of the VM's record
	LeaveOn    bool           `json:"leave_on,omitempty"` // by a host that is cut off, as long as it knows no better
}

// MaxDisks is how many disks a machine may have; their slots are below it.
const MaxDisks = 20

// SlotCD is the slot of what lies in a machine's CD-ROM drive, and SlotVars that
// of its UEFI's variables.
const (
	SlotCD   = MaxDisks
	SlotVars = MaxDisks + 1
)

// What a machine may be started from.
const (
	BootDisk = "disk"
	BootCD   = "cdrom"
)

// Disk is one disk of a machine, found at an NBD unix socket.
type Disk struct {
	Slot     int               `json:"slot"` // its place on the machine's bus, from 0; the guest finds it there again
	Volume   holdfast.VolumeID `json:"volume"`
	Cache    uint32            `json:"cache_generation"` // of the volume when the guest got the disk; a later one means that its unflushed writes are gone
	Socket   string            `json:"socket"`
	Export   string            `json:"export"`
	ReadOnly bool              `json:"read_only,omitempty"`
}

// Written are the volumes that the machine writes: its disks, and last what its
// UEFI keeps.
func (s *Spec) Written() []Disk {
	if s.Vars == nil {
		return s.Disks
	}
	return append(slices.Clone(s.Disks), *s.Vars)
}

// Disk returns what the machine writes to a volume as.
func (s *Spec) Disk(id holdfast.VolumeID) (Disk, bool) {
	for _, d := range s.Written() {
		if d.Volume == id {
			return d, true
		}
	}
	return Disk{}, false
}

// At returns the disk at a slot.
func (s *Spec) At(slot int) (Disk, bool) {
	for _, d := range s.Disks {
		if d.Slot == slot {
			return d, true
		}
	}
	return Disk{}, false
}

// NIC is the machine's network: a user-space network outside QEMU's process.
type NIC struct {
	MAC string `json:"mac"`
}

// State is what a machine is doing.
type State string

// The states of a machine.
const (
	Running State = "running"
	Paused  State = "paused"
	Off     State = "off" // the process is gone
)

// Machine is one running VM.
type Machine interface {
	// Spec is what it was started with, with the disks that it has now.
	Spec() Spec
	State() State
	Started() time.Time // wall clock, for display
	PID() int           // 0 in simulation
	// Pause stops the virtual CPUs; Resume lets them go on.
	Pause() error
	Resume() error
	// Reset restarts the guest as the reset button does.
	Reset() error
	// Shutdown presses the power button; the guest may take its time or ignore it.
	Shutdown() error
	// Plug gives the running machine a disk at a free slot. Of one that it has
	// it makes sure that its server is found again, if that has moved. Kind
	// Busy: the slot is taken.
	Plug(d Disk) error
	// Unplug asks the guest to let the disk at a slot go; the machine has it,
	// and Spec names it, until the guest has. Kind Busy: it has not yet; asking
	// again tells. A guest that knows nothing of disks that go lets one go when
	// it is reset.
	Unplug(slot int) error
	// Load has the machine's CD-ROM drive hold a medium, read-only, or nothing
	// (nil), whatever the guest does with it just now. Of one that it holds it
	// makes sure that its server is found again, if that has moved.
	Load(medium *Disk) error
	// Save writes what a machine that stands still has in memory, that of its
	// devices included, to w. It stands still afterwards too, until Resume; what
	// it wrote to its disks has then been handed to their server. Kind Conflict:
	// it runs, or has not gone on since it was saved before.
	Save(w io.Writer) error
	// Kind is what Hypervisor.Kind was when it was started; "" if nobody knows.
	Kind() string
	// Kill ends the process and returns when it is gone.
	Kill() error
	// Console attaches to the serial port: History first, then what follows.
	// Several consoles may be attached.
	Console() (io.ReadWriteCloser, error)
	// History returns the last bytes (up to 64 KiB) the serial port printed.
	History() []byte
	// Dial connects to a TCP port of the guest through its network.
	Dial(guestPort int) (io.ReadWriteCloser, error)
}

// Screened is a Machine with a graphical screen, a keyboard and a pointer. A machine of
// a simulation has none.
type Screened interface {
	// Screen connects to them: the server's side of RFB (RFC 6143), without
	// authentication. Several may be connected. Kind Unavailable: the machine was
	// started by an earlier program, which gave it none.
	Screen() (io.ReadWriteCloser, error)
}

// Metered is a Machine that can say what it uses. A machine of a simulation is none.
type Metered interface {
	// Usage may wait for the machine's processes, a few seconds at most. What one of
	// them does not tell is left out.
	Usage() (Usage, error)
}

// Usage is what a machine has used since its process was started.
type Usage struct {
	CPU    time.Duration // of all processors of the host that its process had
	Memory int64         // of the host's that its process takes now, bytes
	Disks  []DiskUsage   // nil: not told
	Net    *NetUsage     // nil: not told, or it has no network
}

// DiskUsage is what a guest has asked of a disk. The times are of requests that were
// answered, each from its arrival to its answer.
type DiskUsage struct {
	Volume                  holdfast.VolumeID
	Reads, Writes           uint64
	ReadBytes, WrittenBytes uint64
	ReadTime, WriteTime     time.Duration
	Flushes                 uint64
	FlushTime               time.Duration
}

// NetUsage is what a guest has received and sent, bytes of Ethernet frames, since its
// network was started last.
type NetUsage struct{ Received, Sent uint64 }

// Hypervisor runs machines on this host.
type Hypervisor interface {
	// Start starts a machine and returns when its process runs and its disks
	// are connected. A medium that cannot be had keeps no machine from starting:
	// then its drive is empty, and Spec says so.
	Start(s Spec) (Machine, error)
	// Restore starts a machine with the memory that Save wrote of one of the same
	// spec, on disks as they were then. It stands still until Resume. A memory
	// that cannot be read whole, or is of another machine, leaves no machine.
	Restore(s Spec, memory io.Reader) (Machine, error)
	// Kind is what a memory that was saved here needs to be restored elsewhere:
	// a host that says the same. "": it cannot be said, and none can be saved here.
	// It may change at any time, for machines that are started then.
	Kind() string
	// Adopt finds the machines that outlived the agent. It stops none.
	Adopt() ([]Machine, error)
	// Accelerator says what was measured: "kvm" or "tcg", and why.
	Accelerator() (name, why string)
	// Notify installs f, which is called after a machine changed its state by
	// itself (guest powered off, process died). Installed before Start.
	Notify(f func(holdfast.VMID, State))
}
