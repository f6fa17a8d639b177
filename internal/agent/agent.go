// Package agent owns everything that runs on one host: it converges the
// machines, exports and replicas here to what the cluster's records say, and
// reports what it observes. It decides nothing about other hosts.
//
// One task follows the cluster's state (converge.go); each VM that concerns
// this host has a worker task (worker.go) that owns its machine.
//
// Locks, outermost first: Agent.mu, worker.mu. None is held across a wait.
package agent

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/fence"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Control is the agent's way to the cluster's records.
type Control interface {
	// State returns the newest picture, or nil before the first.
	State() *cluster.State
	// Confirmed is how long ago, by this host's clock, the control plane last
	// confirmed the lease under which State was read, counted from before the
	// question: no VM of this host is given to another sooner than the lease's
	// time after that, unless State says so. While nothing was confirmed in this
	// life, it is how long ago that began.
	Confirmed() time.Duration
	// PutMachine records what a VM's process does, if the VM's record is still
	// at mod.
	PutMachine(m cluster.Machine, vm holdfast.VMID, mod kv.Rev) error
	// PowerOff replaces a VM's record if it was last changed at mod, and with it
	// that of its machine.
	PowerOff(v cluster.VM, m cluster.Machine, mod kv.Rev) error
	// DetachDisks takes volumes from a VM's disks and has them belong to nobody,
	// if the VM's record was last changed at mod.
	DetachDisks(v cluster.VM, ids []holdfast.VolumeID, mod kv.Rev) error
	// PutVM replaces a VM's record if it was last changed at mod, and has a volume
	// that it does without deleted, unless that is zero.
	PutVM(v cluster.VM, without holdfast.VolumeID, mod kv.Rev) error
	// DeleteVM removes a VM's records if it was last changed at mod.
	DeleteVM(v cluster.VM, mod kv.Rev) error
	// CommitVolume replaces a volume's record if it was last changed at mod.
	CommitVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error)
	// ReadVolume reads a volume's record as it is now.
	ReadVolume(id holdfast.VolumeID) (cluster.Volume, kv.Rev, error)
	// DeleteVolume removes a volume's record if it was last changed at mod.
	DeleteVolume(v cluster.Volume, mod kv.Rev) error
}

// Config is what an Agent is made of.
type Config struct {
	Self     holdfast.HostID
	Clock    clock.Clock
	Rand     io.Reader
	Control  Control
	Volumes  *volume.Service
	Hyper    hypervisor.Hypervisor
	Exports  export.Server // nil: volumes are not offered here
	Watchdog fence.Watchdog
	// Seed makes the cloud-init medium of a VM and returns its path; nil if
	// this host cannot.
	Seed func(cluster.VM) (string, error)
	// Boot returns paths of a kernel and an initrd for direct boot.
	Boot func(cluster.VM) (kernel, initrd string, err error)
	// Published is called with all VMs whenever published ports may have
	// changed; nil where nothing listens (simulation).
	Published func([]cluster.VM)
	// SetAside makes a volume of its own of a replica that its volume was forced
	// open without; it blocks.
	SetAside func(holdfast.VolumeID, holdfast.ReplicaID) error
	Log      *slog.Logger
}

// Agent runs on one host.
type Agent struct {
	Config
	tasks *clock.Group
	wake  clock.Event

	mu        sync.Mutex
	stopping  bool
	workers   map[holdfast.VMID]*worker
	published map[holdfast.VolumeID]string // sockets
	opening   map[holdfast.VolumeID]bool   // for mending
	caring    map[holdfast.VolumeID]bool   // open only for mending

	asides      map[holdfast.ReplicaID]bool // being set aside
	nextDropped time.Duration               // owned by the converging task
}

// New returns an agent that does nothing yet.
func New(c Config) *Agent {
	return &Agent{
		Config: c, tasks: clock.NewGroup(c.Clock), wake: c.Clock.NewEvent(),
		workers:   make(map[holdfast.VMID]*worker),
		published: make(map[holdfast.VolumeID]string),
		opening:   make(map[holdfast.VolumeID]bool),
		caring:    make(map[holdfast.VolumeID]bool),
		asides:    make(map[holdfast.ReplicaID]bool),
	}
}

// Wake tells the agent that the cluster's state has changed.
func (a *Agent) Wake() { a.wake.Set() }

// Start adopts the machines that outlived the agent's last life and begins to
// converge.
func (a *Agent) Start() error {
	a.Hyper.Notify(a.machineChanged)
	machines, err := a.Hyper.Adopt()
	if err != nil {
		return err
	}
	for _, m := range machines {
		a.Log.Info("machine re-adopted", "vm", m.Spec().Name, "pid", m.PID())
		a.mu.Lock()
		a.worker(m.Spec().VM).machine = m
		a.mu.Unlock()
	}
	a.tasks.Go(a.run)
	return nil
}

// Stop ends the agent and leaves the machines running.
func (a *Agent) Stop() {
	a.mu.Lock()
	a.stopping = true
	for _, id := range a.workerIDs() {
		a.workers[id].wake.Set()
	}
	a.mu.Unlock()
	a.wake.Set()
	a.tasks.Wait()
	if a.Watchdog != nil {
		if err := a.Watchdog.Disarm(); err != nil {
			a.Log.Warn("the watchdog could not be disarmed", "error", err)
		}
	}
}

func (a *Agent) stopped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopping
}

// machineChanged is the hypervisor's notice that a machine changed by itself.
func (a *Agent) machineChanged(id holdfast.VMID, _ hypervisor.State) {
	a.mu.Lock()
	w := a.workers[id]
	a.mu.Unlock()
	if w != nil {
		w.wake.Set()
	}
}

// Machine returns the machine of a VM that runs here, or nil.
func (a *Agent) Machine(id holdfast.VMID) hypervisor.Machine {
	a.mu.Lock()
	w := a.workers[id]
	a.mu.Unlock()
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machine
}

// Socket returns where a volume is exported on this host.
func (a *Agent) Socket(id holdfast.VolumeID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.published[id]
}
