package fakevm

import (
	"io"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// historySize is how much of what a guest printed is kept, in bytes.
const historySize = 64 << 10

// Machine implements hypervisor.Machine.
type Machine struct {
	host    *Host
	spec    hypervisor.Spec
	started time.Time
	wake    clock.Event // for the machine's task: something changed

	mu       sync.Mutex
	state    hypervisor.State
	asked    bool                          // it was paused on request
	boots    int                           // raised by Reset: the guest starts over when it sees it
	sessions [hypervisor.MaxDisks]*session // by slot; nil while the agent is away
	leaving  [hypervisor.MaxDisks]bool     // disks that go with the next reset
	history  []byte
	consoles []*console
	flushed  uint32 // on the boot disk
	second   uint32 // on the one at slot 1
	corrupt  int
	memory   memory
	waiting  []clock.Event // those who wait in Kill
	ended    bool          // the task is over
}

var _ hypervisor.Machine = (*Machine)(nil)

func newMachine(h *Host, s hypervisor.Spec, now time.Time) *Machine {
	return &Machine{host: h, spec: s, started: now, wake: h.cfg.Clock.NewEvent(), state: hypervisor.Running}
}

// Spec implements hypervisor.Machine.
func (m *Machine) Spec() hypervisor.Spec {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spec
	s.Disks = slices.Clone(s.Disks)
	return s
}

// Started implements hypervisor.Machine.
func (m *Machine) Started() time.Time { return m.started }

// PID implements hypervisor.Machine.
func (m *Machine) PID() int { return 0 }

// State implements hypervisor.Machine.
func (m *Machine) State() hypervisor.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Flushed returns the last counter that the guest reported as flushed since
// the machine was started.
func (m *Machine) Flushed() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flushed
}

// Corrupt returns how many findings the guest reported.
func (m *Machine) Corrupt() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.corrupt
}

// become changes the state unless the machine is off, and reports whether it
// did.
func (m *Machine) become(s hypervisor.State) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == hypervisor.Off || m.state == s {
		return false
	}
	m.state = s
	m.wake.Set()
	return true
}

func (m *Machine) offError() error {
	return holdfast.Errorf(holdfast.Closed, "the machine of VM %s is off", m.spec.VM)
}

// Pause implements hypervisor.Machine.
func (m *Machine) Pause() error { return m.ask(hypervisor.Paused) }

// Resume implements hypervisor.Machine.
func (m *Machine) Resume() error { return m.ask(hypervisor.Running) }

func (m *Machine) ask(s hypervisor.State) error {
	return m.command(func() {
		m.mu.Lock()
		m.asked = s == hypervisor.Paused
		m.mu.Unlock()
		m.become(s)
	})
}

// Shutdown implements hypervisor.Machine. The probe guest ignores the button.
func (m *Machine) Shutdown() error { return m.command(func() {}) }

// Reset implements hypervisor.Machine.
func (m *Machine) Reset() error {
	return m.command(func() {
		m.mu.Lock()
		m.boots++
		m.forget()
		gone := m.letGo()
		m.mu.Unlock()
		for _, s := range gone {
			s.hangUp()
		}
		m.wake.Set()
	})
}

func (m *Machine) command(do func()) error {
	if m.State() == hypervisor.Off {
		return m.offError()
	}
	do()
	return nil
}

// Kill implements hypervisor.Machine.
func (m *Machine) Kill() error {
	v, _ := m.host.current()
	m.end(true)
	if v == nil {
		return nil // whoever calls is no agent and does not wait
	}
	gone := v.clock.NewEvent()
	m.mu.Lock()
	ended := m.ended
	if !ended {
		m.waiting = append(m.waiting, gone)
	}
	m.mu.Unlock()
	if !ended {
		gone.Wait(clock.Forever)
	}
	return nil
}

// Die ends the machine by itself, as a crash of its process does; the agent is
// told.
func (m *Machine) Die() {
	m.end(true)
	m.host.tell(m.spec.VM, hypervisor.Off)
}

// end switches off. Its connection breaks; requests in flight may still be
// done by the other side.
func (m *Machine) end(disconnect bool) {
	m.mu.Lock()
	m.state = hypervisor.Off
	sessions := m.sessions
	m.sessions = [hypervisor.MaxDisks]*session{}
	open := m.consoles
	m.consoles = nil
	m.mu.Unlock()
	for _, s := range sessions {
		if disconnect && s != nil {
			s.hangUp()
		}
	}
	for _, c := range open {
		c.out.Close()
	}
	m.host.remove(m)
	m.wake.Set()
}

// History implements hypervisor.Machine.
func (m *Machine) History() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), m.history...)
}

// say prints one line, as the guest does on its serial port.
func (m *Machine) say(text string) {
	l, err := probe.ParseLine(text)
	if err != nil {
		panic("fakevm: " + err.Error()) // the lines are ours
	}
	m.mu.Lock()
	m.history = append(m.history, text...)
	if len(m.history) > historySize {
		m.history = m.history[len(m.history)-historySize:]
	}
	switch l.What {
	case probe.Flushed:
		m.flushed = l.Counter
	case probe.SecondFlushed:
		m.second = l.Counter
	case probe.Corrupt:
		m.corrupt++
	}
	open := append([]*console(nil), m.consoles...)
	m.mu.Unlock()
	for _, c := range open {
		c.out.Put([]byte(text))
	}
	if m.host.cfg.Report != nil {
		m.host.cfg.Report(m.spec.VM, l)
	}
}

// Console implements hypervisor.Machine. Input is ignored, as the guest does.
func (m *Machine) Console() (io.ReadWriteCloser, error) {
	v, _ := m.host.current()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == hypervisor.Off || v == nil {
		return nil, m.offError()
	}
	c := &console{m: m, out: clock.NewQueue[[]byte](v.clock)}
	c.out.Put(append([]byte(nil), m.history...))
	m.consoles = append(m.consoles, c)
	return c, nil
}

type console struct {
	m    *Machine
	out  *clock.Queue[[]byte]
	rest []byte
}

func (c *console) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		items, ok := c.out.Take(clock.Forever)
		if !ok {
			return 0, io.EOF
		}
		for _, b := range items {
			c.rest = append(c.rest, b...)
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *console) Write(p []byte) (int, error) {
	if c.m.State() == hypervisor.Off {
		return 0, c.m.offError()
	}
	return len(p), nil
}

func (c *console) Close() error {
	c.m.mu.Lock()
	for i, o := range c.m.consoles {
		if o == c {
			c.m.consoles = append(c.m.consoles[:i:i], c.m.consoles[i+1:]...)
			break
		}
	}
	c.m.mu.Unlock()
	c.out.Close()
	return nil
}

// Dial implements hypervisor.Machine: the probe guest has no network.
func (m *Machine) Dial(int) (io.ReadWriteCloser, error) {
	return nil, holdfast.Errorf(holdfast.Unavailable, "VM %s has no network", m.spec.VM)
}
