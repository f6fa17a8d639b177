package fakevm

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// retryPause is how long the guest, or the machine stopped for a failed write,
// waits before it tries the request again.
const retryPause = time.Second

// readBlocks is how many blocks the guest reads at once.
const readBlocks = 16

// run is the machine's task: one boot of the guest after the other.
func (m *Machine) run() {
	for m.State() != hypervisor.Off {
		m.mu.Lock()
		boot := m.boots
		m.mu.Unlock()
		m.boot(boot)
		for m.alive(boot) { // the guest halted, the machine goes on
			m.wake.Wait(clock.Forever)
		}
	}
	m.mu.Lock()
	m.ended = true
	waiting := m.waiting
	m.waiting = nil
	m.mu.Unlock()
	for _, e := range waiting {
		e.Set()
	}
}

// boot is the guest's program (docs/format/probe.md); a guest that has got its
// memory back goes on in the midst of it.
func (m *Machine) boot(boot int) {
	rings := m.rings()
	if !m.remembered(rings) {
		if rings = m.comeUp(boot); rings == nil {
			return
		}
	}
	if !m.mayRun(boot) {
		return
	}
	for {
		for _, r := range rings {
			if !m.advance(boot, r) {
				return
			}
			m.remember(boot, rings)
		}
		m.pause(m.host.cfg.Pace, boot)
		if !m.mayRun(boot) {
			return
		}
	}
}

// comeUp starts the guest and has it verify its disks; nil: it goes no further.
func (m *Machine) comeUp(boot int) []*ring {
	m.pause(m.host.cfg.Boot, boot)
	if !m.mayRun(boot) {
		return nil
	}
	m.say("probe start\n")
	rings := m.rings()
	for _, r := range rings {
		if !m.verify(boot, r) || !m.mayRun(boot) {
			return nil
		}
	}
	m.say("probe ready\n")
	m.remember(boot, rings)
	return rings
}

// ring is what the guest writes on one of its disks.
type ring struct {
	disk     int // its slot on the bus
	slots    int
	last     uint32 // the counter that is flushed
	verified func(count, highest uint32) string
	flushed  func(uint32) string
}

// advance writes a ring's next block, flushes, and only then says so.
func (m *Machine) advance(boot int, r *ring) bool {
	n := r.last + 1
	slot := probe.SlotOf(n, uint32(r.slots))
	block := make([]byte, probe.BlockSize)
	probe.FillBlock(block, n, slot)
	w := export.Request{Op: export.Write, Off: offset(slot), Length: probe.BlockSize, Data: block}
	if !m.do(boot, r.disk, "write", w) || !m.do(boot, r.disk, "flush", export.Request{Op: export.Flush}) {
		return false
	}
	r.last = n
	m.say(r.flushed(n))
	return true
}

func offset(slot uint32) int64 { return int64(probe.FirstBlock+slot) * probe.BlockSize }

// pause lets time pass for the guest; it may end early.
func (m *Machine) pause(d time.Duration, boot int) {
	c := m.host.cfg.Clock
	for end := c.Now() + d; m.alive(boot); {
		left := end - c.Now()
		if left <= 0 {
			return
		}
		m.wake.Wait(left)
	}
}

// mayRun waits while the virtual processor is stopped; false: the guest is no
// more.
func (m *Machine) mayRun(boot int) bool {
	for m.alive(boot) {
		if m.State() == hypervisor.Running {
			return true
		}
		m.wake.Wait(clock.Forever)
	}
	return false
}

// do does a request until it succeeds. A failed write or flush stops the
// machine, which tries again after a while; a failed read is the guest's
// affair, which reports and repeats it. A session that lost its cache resets
// the machine: what the guest believes to be written may be gone.
func (m *Machine) do(boot, disk int, what string, r export.Request) bool {
	for m.mayRun(boot) {
		err, ok := m.request(boot, disk, r)
		if !ok {
			return false
		}
		if !m.mayRun(boot) { // the answer reaches a processor that runs
			return false
		}
		switch {
		case err == nil:
			return true
		case holdfast.IsKind(err, holdfast.LostCache):
			m.reset(boot)
			return false
		case r.Op == export.Read:
			m.say(fmt.Sprintf("probe ERROR %s status 1\n", what))
			m.pause(retryPause, boot)
		default:
			m.stopFor(boot, disk, err)
		}
	}
	return false
}

// reset starts the guest over on new sessions.
func (m *Machine) reset(boot int) {
	m.mu.Lock()
	sessions := m.sessions
	var gone []*session
	if m.boots == boot {
		m.boots++
		m.forget()
		gone = m.letGo()
	}
	m.mu.Unlock()
	for _, s := range sessions {
		switch {
		case s == nil:
		case slices.Contains(gone, s):
			s.hangUp()
		default:
			m.drop(s)
		}
	}
}

// stopFor is what QEMU does at a failed write: stop, tell, and go on after a
// while unless somebody else decided meanwhile.
func (m *Machine) stopFor(boot, disk int, err error) {
	if m.become(hypervisor.Paused) {
		m.host.tell(m.spec.VM, hypervisor.Paused)
	}
	if kind := holdfast.KindOf(err); kind == holdfast.Fenced {
		m.mu.Lock()
		s := m.sessions[disk]
		m.mu.Unlock()
		if s != nil {
			m.drop(s)
		}
	}
	m.pause(retryPause, boot)
	m.mu.Lock()
	asked := m.asked
	m.mu.Unlock()
	if !asked && m.alive(boot) && m.become(hypervisor.Running) {
		m.host.tell(m.spec.VM, hypervisor.Running)
	}
}

// verify reads every slot of a ring and compares with what the highest counter
// implies.
func (m *Machine) verify(boot int, r *ring) bool {
	slots := r.slots
	counters := make([]uint32, slots)
	buf := make([]byte, readBlocks*probe.BlockSize)
	bad := 0
	for first := 0; first < slots; first += readBlocks {
		n := min(readBlocks, slots-first)
		part := buf[:n*probe.BlockSize]
		if !m.do(boot, r.disk, "read", export.Request{Op: export.Read, Off: offset(uint32(first)), Length: int64(len(part)), Data: part}) {
			return false
		}
		for i := range n {
			c, err := probe.VerifyBlock(part[i*probe.BlockSize:(i+1)*probe.BlockSize], uint32(first+i))
			if err != nil {
				bad++
				m.say(probe.CorruptLine(uint32(first+i), c))
				c = 0
			}
			counters[first+i] = c
		}
	}
	count, highest, err := probe.VerifyHistory(counters)
	if err != nil && bad == 0 {
		bad++
		m.say(fmt.Sprintf("probe CORRUPT slot %d claims %d\n", firstWrong(counters, highest), highest))
	}
	if bad > 0 {
		m.say(fmt.Sprintf("probe halted corrupt %d\n", bad))
		return false
	}
	if !m.do(boot, r.disk, "flush", export.Request{Op: export.Flush}) {
		return false
	}
	m.say(r.verified(count, highest))
	r.last = highest
	return true
}

// firstWrong finds the newest slot that history contradicts.
func firstWrong(counters []uint32, highest uint32) uint32 {
	slots := uint32(len(counters))
	for i := range slots {
		want := uint32(0)
		if highest > i {
			want = highest - i
		}
		if s := probe.SlotOf(highest-i, slots); counters[s] != want {
			return s
		}
	}
	return 0
}
