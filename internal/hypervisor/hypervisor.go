// Package hypervisor is the seam to the machines of one host. Implementations:
// hypervisor/qemu (QEMU over QMP), hypervisor/fakevm (a guest that writes
// self-describing blocks and verifies them); conformance:
// hypervisor/hypervisortest.
package hypervisor

import (
	"io"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Spec is everything needed to start a machine. It is kept beside the running
// machine, so that a restarted agent finds it again.
type Spec struct {
	VM         holdfast.VMID     `json:"vm"`
	Name       string            `json:"name"`
	Generation int64             `json:"generation"`       // of the VM's assignment; a machine of a lower one is stale
	Volume     holdfast.VolumeID `json:"volume"`           // the first disk's
	Epoch      holdfast.Epoch    `json:"epoch"`            // at which the first disk was opened
	Cache      uint32            `json:"cache_generation"` // of the volume when the guest booted; a later one means that its unflushed writes are gone
	CPUs       int               `json:"cpus"`
	MemoryMiB  int               `json:"memory_mib"`
	Disks      []Disk            `json:"disks"`
	Seed       string            `json:"seed,omitempty"`   // path of a NoCloud ISO
	Kernel     string            `json:"kernel,omitempty"` // direct boot: paths of kernel and initrd
	Initrd     string            `json:"initrd,omitempty"`
	Append     string            `json:"append,omitempty"`
	NIC        *NIC              `json:"nic,omitempty"`
	Edition    int64             `json:"edition,omitempty"` // of the VM's record
}

// Disk is one disk of a machine, found at an NBD unix socket.
type Disk struct {
	Socket   string `json:"socket"`
	Export   string `json:"export"`
	ReadOnly bool   `json:"read_only,omitempty"`
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

// Hypervisor runs machines on this host.
type Hypervisor interface {
	// Start starts a machine and returns when its process runs and its disks
	// are connected.
	Start(s Spec) (Machine, error)
	// Adopt finds the machines that outlived the agent. It stops none.
	Adopt() ([]Machine, error)
	// Accelerator says what was measured: "kvm" or "tcg", and why.
	Accelerator() (name, why string)
	// Notify installs f, which is called after a machine changed its state by
	// itself (guest powered off, process died). Installed before Start.
	Notify(f func(holdfast.VMID, State))
}
