package qemu

import (
	"encoding/json"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Machine is one QEMU process that this agent holds on to.
type Machine struct {
	h     *Hypervisor
	dir   runDir
	rec   record
	proc  *handle
	gone  chan struct{} // closed when everything of it is gone
	ended chan struct{} // closed when watch has returned

	memory io.Reader // that it is to get while it is brought up

	stopNet, netEnded chan struct{} // ask keepNet to end; it has

	plugging  sync.Mutex // one disk comes or goes at a time; before recording
	recording sync.Mutex // one writes the record at a time; before mu

	mu       sync.Mutex // also guards rec.Net, rec.Spec.Disks and rec.Spec.CD
	monitor  *monitor   // nil while the process is held by SIGSTOP since before we came
	serial   *os.File   // where input for the guest's serial port goes
	net      *handle    // the network companion, owned by keepNet
	state    hypervisor.State
	asked    bool        // the last stop was asked for
	retry    *time.Timer // lets a machine go on that stopped for a failed write
	failures int         // how often in a row it did
	released bool
	last     []byte // the serial port's last words, once the process is gone
	consoles map[*console]struct{}
}

var _ hypervisor.Machine = (*Machine)(nil)

func newMachine(h *Hypervisor, d runDir, rec record, p *handle) *Machine {
	return &Machine{
		h: h, dir: d, rec: rec, proc: p, state: hypervisor.Paused, asked: true,
		gone: make(chan struct{}), ended: make(chan struct{}), stopNet: make(chan struct{}), netEnded: make(chan struct{}), consoles: make(map[*console]struct{}),
	}
}

// begin makes the machine known and starts to watch it and its network
// companion, nil if that has to be started.
func (m *Machine) begin(companion *handle) {
	m.mu.Lock()
	m.net = companion
	m.mu.Unlock()
	m.h.mu.Lock()
	m.h.machines[m.rec.Spec.VM] = m
	m.h.wg.Add(2)
	m.h.mu.Unlock()
	go m.watch()
	go m.keepSerialShort()
	if m.rec.Spec.NIC == nil {
		close(m.netEnded)
		return
	}
	m.h.wg.Add(1)
	go m.keepNet()
}

// stateOf maps QEMU's run state (qapi/run-state.json).
func stateOf(status string) hypervisor.State {
	if status == "running" {
		return hypervisor.Running
	}
	return hypervisor.Paused
}

// watch waits for the end of the process, or for release.
func (m *Machine) watch() {
	defer m.h.wg.Done()
	defer close(m.ended)
	if !m.proc.wait(0) {
		return // released
	}
	last, _ := tail(m.dir.serialOut(), historySize)
	m.mu.Lock()
	m.state, m.last = hypervisor.Off, last
	m.stopRetry()
	companion := m.net
	m.mu.Unlock()
	m.disconnect()
	close(m.stopNet)
	if companion != nil {
		companion.signal(unix.SIGKILL) // which wakes keepNet
	}
	<-m.netEnded
	m.proc.close()
	m.h.forget(m)
	m.h.endGroup(m.rec.Spec.VM)
	if err := removeDead(m.dir); err != nil {
		m.h.cfg.Log.Warn("a machine's directory was left behind", "vm", m.rec.Spec.VM.String(), "error", err)
	}
	close(m.gone)
	m.h.tell(m.rec.Spec.VM, hypervisor.Off)
}

// release lets go of the machine without touching it.
func (m *Machine) release() {
	m.mu.Lock()
	if m.released || m.state == hypervisor.Off {
		m.mu.Unlock()
		<-m.ended
		return
	}
	m.released = true
	m.stopRetry()
	companion := m.net
	m.mu.Unlock()
	m.proc.close() // ends watch
	<-m.ended
	select {
	case <-m.gone: // it died just now, and all is done
		return
	default:
	}
	close(m.stopNet)
	if companion != nil {
		companion.close() // ends keepNet
	}
	<-m.netEnded
	m.disconnect()
}

// disconnect closes consoles, serial port and monitor.
func (m *Machine) disconnect() {
	m.mu.Lock()
	open := m.consoles
	m.consoles = make(map[*console]struct{})
	mon, serial := m.monitor, m.serial
	m.mu.Unlock()
	for c := range open {
		c.Close()
	}
	if serial != nil {
		serial.Close()
	}
	if mon != nil {
		mon.close()
	}
}

// onEvent is called from the monitor's reader.
func (m *Machine) onEvent(name string, data json.RawMessage) {
	m.mu.Lock()
	before := m.state
	switch name {
	case "STOP":
		m.state = hypervisor.Paused
	case "RESUME":
		m.state = hypervisor.Running
	case "BLOCK_IO_ERROR":
		m.ioError(data)
	}
	after, asked := m.state, m.asked
	m.mu.Unlock()
	if before != after && !asked {
		m.h.tell(m.rec.Spec.VM, after)
	}
}

// Bounds of the pause before a machine that stopped for a failed write tries
// it again.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// ioError notes a failed request. Called with mu held.
func (m *Machine) ioError(data json.RawMessage) {
	var e struct {
		Node      string `json:"node-name"`
		Operation string `json:"operation"`
		Action    string `json:"action"`
		Reason    string `json:"reason"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return
	}
	m.h.cfg.Log.Warn("a machine's disk request failed", "vm", m.rec.Spec.VM.String(), "disk", e.Node, "operation", e.Operation, "action", e.Action, "error", e.Reason)
	if e.Action == "stop" && m.retry == nil {
		m.retryLater()
	}
}

// retryLater lets the machine go on after a while, which repeats the failed
// write. If it fails again, the machine stops again. Called with mu held.
func (m *Machine) retryLater() {
	if m.released || m.state == hypervisor.Off {
		return
	}
	pause := min(firstRetry<<min(m.failures, 10), lastRetry)
	m.failures++
	m.retry = time.AfterFunc(pause, func() {
		m.mu.Lock()
		m.retry = nil
		again, mon := !m.asked && !m.released, m.monitor
		m.mu.Unlock()
		if !again || mon == nil {
			return
		}
		mon.execute("cont", nil, nil, commandTimeout)
		m.mu.Lock()
		asked := m.asked
		m.mu.Unlock()
		if asked { // a pause came meanwhile, and may have come before this
			mon.execute("stop", nil, nil, drainTimeout)
		}
	})
}

// stopRetry is called with mu held.
func (m *Machine) stopRetry() {
	if m.retry != nil {
		m.retry.Stop()
		m.retry = nil
	}
}

// Spec implements hypervisor.Machine.
func (m *Machine) Spec() hypervisor.Spec {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.rec.Spec
	s.Disks = slices.Clone(s.Disks)
	if s.CD != nil {
		medium := *s.CD
		s.CD = &medium
	}
	return s
}

// State implements hypervisor.Machine. A process that a watchdog stopped is a
// paused machine.
func (m *Machine) State() hypervisor.State {
	m.mu.Lock()
	s := m.state
	m.mu.Unlock()
	if s == hypervisor.Running && m.proc.stopped() {
		return hypervisor.Paused
	}
	return s
}

// Started implements hypervisor.Machine.
func (m *Machine) Started() time.Time { return time.Unix(m.rec.StartedUnix, 0) }

// PID implements hypervisor.Machine.
func (m *Machine) PID() int { return m.rec.QEMU.PID }

// Sandbox says how this machine is confined: "full" or "reduced (why)".
func (m *Machine) Sandbox() string { return m.rec.Sandbox }

// Pause implements hypervisor.Machine. It holds the processors by QEMU's own
// stop, which waits for the disk's requests under way; where these do not end,
// because the disk is out of reach, the whole process is held instead, since a
// machine is paused just then.
func (m *Machine) Pause() error {
	m.mu.Lock()
	m.asked = true
	m.stopRetry()
	m.mu.Unlock()
	err := m.command("stop", hypervisor.Paused, drainTimeout)
	if err == nil || m.State() == hypervisor.Off {
		return err
	}
	return m.proc.signal(unix.SIGSTOP)
}

// drainTimeout is how long a pause waits for the disk.
const drainTimeout = 500 * time.Millisecond

// Resume implements hypervisor.Machine. It also ends a watchdog's hold.
func (m *Machine) Resume() error {
	if m.proc.stopped() {
		if err := m.proc.signal(unix.SIGCONT); err != nil {
			return err
		}
	}
	if err := m.reconnect(); err != nil {
		return err
	}
	err := m.command("cont", hypervisor.Running, commandTimeout)
	m.mu.Lock()
	m.asked = err != nil && m.asked
	m.mu.Unlock()
	return err
}

// reconnect takes hold of a machine that was adopted while it was stopped.
func (m *Machine) reconnect() error {
	m.mu.Lock()
	held := m.monitor != nil
	m.mu.Unlock()
	if held {
		return nil
	}
	conn, err := dial(m.dir.monitor())
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "connect to the machine's monitor: %w", err)
	}
	return m.hold(conn, false)
}

// Reset implements hypervisor.Machine.
func (m *Machine) Reset() error { return m.command("system_reset", "", commandTimeout) }

// Shutdown implements hypervisor.Machine.
func (m *Machine) Shutdown() error { return m.command("system_powerdown", "", commandTimeout) }

// command runs a command without arguments. If it must change the state, the
// state is set when it has succeeded, for the event may come later.
func (m *Machine) command(name string, becomes hypervisor.State, timeout time.Duration) error {
	m.mu.Lock()
	mon, off := m.monitor, m.state == hypervisor.Off
	m.mu.Unlock()
	switch {
	case off:
		return m.offError()
	case mon == nil || m.proc.stopped():
		if becomes == hypervisor.Paused {
			return nil // it stands still already
		}
		return holdfast.Errorf(holdfast.Unavailable, "the machine of VM %s is held by the watchdog; resume or kill it", m.rec.Spec.VM)
	}
	if err := mon.execute(name, nil, nil, timeout); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if becomes != "" && m.state != hypervisor.Off {
		m.state = becomes
	}
	return nil
}

func (m *Machine) offError() error {
	return holdfast.Errorf(holdfast.Closed, "the machine of VM %s is off", m.rec.Spec.VM)
}

// Kill implements hypervisor.Machine. Killing a machine that is off succeeds.
func (m *Machine) Kill() error {
	if m.State() == hypervisor.Off {
		<-m.gone
		return nil
	}
	m.mu.Lock()
	m.asked = true
	m.stopRetry()
	m.mu.Unlock()
	if err := m.proc.signal(unix.SIGKILL); err != nil && m.State() != hypervisor.Off {
		return err
	}
	t := time.NewTimer(killTimeout)
	defer t.Stop()
	select {
	case <-m.gone:
		return nil
	case <-t.C:
		return holdfast.Errorf(holdfast.Unavailable, "QEMU (process %d) was killed but is not gone after %v; it hangs in the kernel", m.rec.QEMU.PID, killTimeout)
	}
}
