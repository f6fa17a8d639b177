// Package fakevm is the hypervisor of the simulator: its machines run the
// probe guest's program in Go, against disks opened in the same process. They
// write self-describing blocks, flush, report, and verify everything when they
// boot (docs/format/probe.md).
//
// A Host is the computer: machines live on it and outlive the agent, as
// processes do, until its power goes. A Hypervisor is what one life of an
// agent sees of it. Machines run on the computer's clock, everything that
// belongs to the agent on the agent's; with simulated clocks the history
// follows from the seed.
package fakevm

import (
	"sort"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// Config describes a computer. Clock is required.
type Config struct {
	// Clock is the computer's, not the agent's: it dies with the power.
	Clock clock.Clock
	// Slots is the size of the guest's ring, a power of two; 0 means 64. The
	// disk must hold probe.FirstBlock + Slots blocks.
	Slots int
	// Pace is the pause after each flush; 0 means 20 ms.
	Pace time.Duration
	// Boot is what a guest takes before it reads its disk; 0 means 500 ms.
	Boot time.Duration
	// Kind is what its machines are made of; hosts with another one cannot go on
	// with a memory saved here. Empty means "simulated".
	Kind string
	// Report, if set, gets every line that a guest prints, in order. It runs
	// on the machine's task and must not wait.
	Report func(holdfast.VMID, probe.Line)
}

// Host is one computer under power.
type Host struct {
	cfg Config

	mu       sync.Mutex
	machines map[holdfast.VMID]*Machine
	agent    *Hypervisor // the one alive, or the last
	life     uint64      // counts agents: a disk session belongs to one
	off      bool
	stuck    bool // no machine comes to life
}

// stuckLook is how often who starts a machine on a stuck computer looks again.
const stuckLook = 100 * time.Millisecond

// SetStuck has whoever starts a machine wait, as for a kernel that answers nothing,
// until it is taken back.
func (h *Host) SetStuck(stuck bool) {
	h.mu.Lock()
	h.stuck = stuck
	h.mu.Unlock()
}

func (h *Host) isStuck() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stuck
}

// NewHost switches a computer on. It has no machines.
func NewHost(cfg Config) *Host {
	if cfg.Slots == 0 {
		cfg.Slots = 64
	}
	if cfg.Kind == "" {
		cfg.Kind = "simulated"
	}
	if cfg.Pace == 0 {
		cfg.Pace = 20 * time.Millisecond
	}
	if cfg.Boot == 0 {
		cfg.Boot = 500 * time.Millisecond
	}
	return &Host{cfg: cfg, machines: make(map[holdfast.VMID]*Machine)}
}

// Power off ends the computer: all machines are gone and nothing is told to
// anybody. The tasks end by themselves if the clock is not killed with them.
func (h *Host) PowerOff() {
	h.mu.Lock()
	h.off = true
	all := h.sorted()
	h.machines = make(map[holdfast.VMID]*Machine)
	h.mu.Unlock()
	for _, m := range all {
		m.end(false)
	}
}

// AgentDied breaks the machines' connections to the agent, as the end of its
// process does. Requests in flight are sent again to the next agent.
func (h *Host) AgentDied() {
	h.mu.Lock()
	h.agent = nil
	h.life++
	all := h.sorted()
	h.mu.Unlock()
	for _, m := range all {
		m.wake.Set()
	}
}

// Machines returns the machines that live here, for checks from outside.
func (h *Host) Machines() []*Machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sorted()
}

// sorted is called with mu held.
func (h *Host) sorted() []*Machine {
	list := make([]*Machine, 0, len(h.machines))
	for _, m := range h.machines {
		list = append(list, m)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].spec.VM.String() < list[j].spec.VM.String() })
	return list
}

// Open opens the disk that a socket and an export name lead to. It runs on a
// task of the agent and may wait there.
type Open func(socket, export string) (export.Disk, error)

// Hypervisor returns the host's machines as a new agent, with the given clock,
// sees them. Whoever was the agent before has died.
func (h *Host) Hypervisor(c clock.Clock, open Open) *Hypervisor {
	v := &Hypervisor{host: h, clock: c, open: open}
	h.AgentDied()
	h.mu.Lock()
	h.agent = v
	all := h.sorted()
	h.mu.Unlock()
	for _, m := range all {
		m.wake.Set()
	}
	return v
}

// current is the agent to connect to, if any, and its life.
func (h *Host) current() (*Hypervisor, uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent, h.life
}

// Hypervisor implements hypervisor.Hypervisor for one life of an agent.
type Hypervisor struct {
	host  *Host
	clock clock.Clock
	open  Open

	mu     sync.Mutex
	notify func(holdfast.VMID, hypervisor.State)
}

var _ hypervisor.Hypervisor = (*Hypervisor)(nil)

// Accelerator implements hypervisor.Hypervisor.
func (v *Hypervisor) Accelerator() (name, why string) { return "tcg", "simulated" }

// Notify implements hypervisor.Hypervisor. f runs on a task of the agent.
func (v *Hypervisor) Notify(f func(holdfast.VMID, hypervisor.State)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notify = f
}

// tell passes a change on to the agent that is there, if any.
func (h *Host) tell(vm holdfast.VMID, s hypervisor.State) {
	v, _ := h.current()
	if v == nil {
		return
	}
	v.clock.Go(func() {
		v.mu.Lock()
		f := v.notify
		v.mu.Unlock()
		if f != nil {
			f(vm, s)
		}
	})
}

// Adopt implements hypervisor.Hypervisor.
func (v *Hypervisor) Adopt() ([]hypervisor.Machine, error) {
	var list []hypervisor.Machine
	for _, m := range v.host.Machines() {
		list = append(list, m)
	}
	return list, nil
}

// Start implements hypervisor.Hypervisor.
func (v *Hypervisor) Start(s hypervisor.Spec) (hypervisor.Machine, error) { return v.startFrom(s, nil) }

// startFrom starts a machine, which stands still with a memory if it is given
// one.
func (v *Hypervisor) startFrom(s hypervisor.Spec, has *memory) (hypervisor.Machine, error) {
	if s.VM.IsZero() || len(s.Disks) == 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "machine %s: a simulated machine needs an identifier and a disk", s.Name)
	}
	for v.host.isStuck() {
		clock.Sleep(v.clock, stuckLook)
	}
	m := newMachine(v.host, s, v.clock.Wall())
	if has != nil {
		m.memory, m.state, m.asked = *has, hypervisor.Paused, true
	}
	if err := v.host.add(m); err != nil {
		return nil, err
	}
	started := false
	defer func() { // also when the agent dies while it waits for the disk
		if !started {
			m.end(true)
		}
	}()
	_, life := v.host.current()
	for _, disk := range s.Disks {
		d, err := v.open(disk.Socket, disk.Export)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.KindOf(err), "machine %s: open its disk %d: %w", s.Name, disk.Slot, err)
		}
		m.connected(v, life, disk.Slot, d)
	}
	started = true
	v.host.cfg.Clock.Go(m.run)
	return m, nil
}

// add reserves the VM's place: one machine at a time.
func (h *Host) add(m *Machine) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off {
		return holdfast.Errorf(holdfast.Unavailable, "the computer is off")
	}
	if h.machines[m.spec.VM] != nil {
		return holdfast.Errorf(holdfast.Busy, "VM %s already has a machine on this host", m.spec.VM)
	}
	h.machines[m.spec.VM] = m
	return nil
}

func (h *Host) remove(m *Machine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.machines[m.spec.VM] == m {
		delete(h.machines, m.spec.VM)
	}
}
