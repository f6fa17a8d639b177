package fakevm

import (
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// session is a machine's connection to its disk in one life of the agent.
type session struct {
	agent *Hypervisor
	life  uint64
	slot  int
	disk  export.Disk
}

// hangUp closes the disk on a task of the agent, as a server does that sees
// its client gone.
func (s *session) hangUp() { s.agent.clock.Go(s.disk.Close) }

func (m *Machine) connected(v *Hypervisor, life uint64, slot int, d export.Disk) {
	s := &session{agent: v, life: life, slot: slot, disk: d}
	_, now := m.host.current()
	m.mu.Lock()
	_, has := m.spec.At(slot)
	late := m.state == hypervisor.Off || now != life || !has
	old := m.sessions[slot]
	if !late {
		m.sessions[slot] = s
	}
	m.mu.Unlock()
	if late {
		s.hangUp()
	} else if old != nil && old.life == life {
		old.hangUp()
	}
	m.wake.Set()
}

// reconnectPause is how long a machine waits before it tries again to reach
// the disk of an agent that is there but does not serve it yet.
const reconnectPause = 500 * time.Millisecond

// connect returns a session with the agent that is alive, trying as long as
// the guest's life (boot) lasts.
func (m *Machine) connect(boot, slot int) *session {
	for m.alive(boot) {
		v, life := m.host.current()
		m.mu.Lock()
		s := m.sessions[slot]
		if s != nil && s.life != life {
			s, m.sessions[slot] = nil, nil // the agent that served it has died
		}
		disk, _ := m.spec.At(slot)
		m.mu.Unlock()
		switch {
		case s != nil:
			return s
		case v == nil:
			m.wake.Wait(clock.Forever)
		case !m.reopen(v, life, disk):
			m.pause(reconnectPause, boot)
		}
	}
	return nil
}

// reopen asks the agent for the disk, on a task of the agent's, and waits for
// the answer or for the agent's death.
func (m *Machine) reopen(v *Hypervisor, life uint64, disk hypervisor.Disk) bool {
	var mu sync.Mutex
	answered, given := false, false
	v.clock.Go(func() {
		d, err := v.open(disk.Socket, disk.Export)
		if err == nil {
			m.connected(v, life, disk.Slot, d)
		}
		mu.Lock()
		answered, given = true, err == nil
		mu.Unlock()
		m.wake.Set()
	})
	for {
		mu.Lock()
		done, ok := answered, given
		mu.Unlock()
		if _, now := m.host.current(); done || now != life || m.State() == hypervisor.Off {
			return ok
		}
		m.wake.Wait(clock.Forever)
	}
}

// drop forgets a session that failed.
func (m *Machine) drop(s *session) {
	m.mu.Lock()
	if m.sessions[s.slot] == s {
		m.sessions[s.slot] = nil
	}
	m.mu.Unlock()
	s.hangUp()
}

// alive reports whether the guest that was booted as number boot still runs.
func (m *Machine) alive(boot int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state != hypervisor.Off && m.boots == boot
}

// request does one request and returns its error. While the agent is away it
// waits, and sends the request again to the next one (QEMU's reconnect-delay);
// so it does when the session was closed in order. ok is false if the guest is
// no more.
func (m *Machine) request(boot, slot int, r export.Request) (err error, ok bool) {
	for {
		s := m.connect(boot, slot)
		if s == nil {
			return nil, false
		}
		err, done := m.submit(s, r)
		switch {
		case !m.alive(boot):
			return nil, false
		case !done:
		case holdfast.IsKind(err, holdfast.Closed), r.Op == export.Read && holdfast.IsKind(err, holdfast.Fenced):
			m.drop(s) // the server hangs up without an answer
			m.pause(reconnectPause, boot)
		default:
			return err, true
		}
	}
}

// submit sends one request to one session, on a task of the agent's, with a
// copy of its data: the machine may be gone before the disk is done with it. A
// reset waits for it, as QEMU drains its disks; else an old boot's write could
// land after a new boot's read.
func (m *Machine) submit(s *session, r export.Request) (err error, done bool) {
	var mu sync.Mutex
	data := r.Data
	if r.Op == export.Write {
		r.Data = append([]byte(nil), data...)
	} else if data != nil {
		r.Data = make([]byte, len(data))
	}
	var failure error
	finished := false
	r.Done = func(_ *export.Request, e error) {
		mu.Lock()
		failure, finished = e, true
		mu.Unlock()
		m.wake.Set()
	}
	req := &r
	s.agent.clock.Go(func() { s.disk.Submit(req) })
	for {
		mu.Lock()
		fin, e := finished, failure
		mu.Unlock()
		if fin {
			if r.Op == export.Read && e == nil {
				copy(data, r.Data)
			}
			return e, true
		}
		if _, life := m.host.current(); life != s.life || m.State() == hypervisor.Off {
			return nil, false
		}
		m.wake.Wait(clock.Forever)
	}
}
