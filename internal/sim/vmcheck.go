package sim

import (
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// vmCheck holds what the probe guests said against what must be: counters that
// were reported as flushed are found by every later boot, and no two machines
// of one VM ever make progress side by side.
type vmCheck struct {
	s    *simulation
	vms  []cluster.VM
	seen map[holdfast.VMID]*vmSeen
}

type vmSeen struct {
	name    string
	flushed uint32 // highest counter reported as flushed, by any machine
	boots   int
	at      sighting // when a story last looked
	next    uint32   // counter the newest machine goes on with; 0: not known
	found   uint32   // highest counter that the newest machine found
	second  diskSeen
	setBack *keptMemory // to which it is being set back
	back    *comeBack   // it was, and its guest has not been heard since
}

// diskSeen is what was said of a second disk.
type diskSeen struct{ flushed, next, found uint32 }

// overslept reports whether a flush of which a host's guest speaks is one that it
// was told of late, since the host or its process stood still in the middle of it: then the VM's
// next machine, which runs elsewhere, has found what was flushed when it booted.
// Whoever had written since would count beyond that.
func (h *host) overslept(counter, found uint32) bool {
	return (h.asleep() || h.blind()) && counter <= found
}

// report takes what a guest said of its second disk.
func (d *diskSeen) report(s *simulation, h *host, name string, l probe.Line) {
	if l.What == probe.SecondVerified {
		if l.Counter < d.flushed {
			s.fail("%s lost flushed writes of its second disk: it reported %d and found only %d (invariant 1)", name, d.flushed, l.Counter)
		}
		d.next, d.found = l.Counter+1, l.Counter
		return
	}
	if h.overslept(l.Counter, d.found) {
		return
	}
	if d.next != 0 && l.Counter != d.next {
		s.fail("%s flushed %d on its second disk where %d follows: two machines write (invariant 4)", name, l.Counter, d.next)
	}
	d.next = l.Counter + 1
	d.flushed = max(d.flushed, l.Counter)
}

func newVMCheck(s *simulation) *vmCheck {
	return &vmCheck{s: s, seen: make(map[holdfast.VMID]*vmSeen)}
}

func (c *vmCheck) add(vm cluster.VM) { c.vms = append(c.vms, vm); c.of(vm.ID).name = vm.Name }

// of finds the record of a VM; a guest may speak before its VM is noted.
func (c *vmCheck) of(id holdfast.VMID) *vmSeen {
	if c.seen[id] == nil {
		c.seen[id] = &vmSeen{name: id.Short()}
	}
	return c.seen[id]
}

// report takes a line that a guest printed on a host.
func (c *vmCheck) report(h *host, id holdfast.VMID, l probe.Line) {
	v := c.of(id)
	c.s.note("%s %v\n", v.name, l)
	if c.s.memories.report(h, v, l) {
		return
	}
	switch l.What {
	case probe.Verified:
		v.boots++
		c.s.tell("%s booted and verified %d blocks, highest %d", v.name, l.Count, l.Counter)
		if l.Counter < v.flushed {
			c.s.fail("%s lost flushed writes: it reported %d and found only %d (invariant 1)", v.name, v.flushed, l.Counter)
		}
		v.next, v.found = l.Counter+1, l.Counter
	case probe.Flushed:
		if h.overslept(l.Counter, v.found) {
			c.s.tell("%s on %s hears late that %d is flushed", v.name, h.name, l.Counter)
			return
		}
		if v.next != 0 && l.Counter != v.next {
			c.s.fail("%s flushed %d where %d follows: two machines write (invariant 4)", v.name, l.Counter, v.next)
		}
		v.next = l.Counter + 1
		v.flushed = max(v.flushed, l.Counter)
	case probe.SecondVerified, probe.SecondFlushed:
		v.second.report(c.s, h, v.name, l)
	case probe.Corrupt:
		c.s.fail("%s found slot %d corrupt, claiming %d (invariant 2)", v.name, l.Slot, l.Counter)
	}
}

func (c *vmCheck) String() string {
	out := ""
	for _, vm := range c.vms {
		v := c.of(vm.ID)
		out += fmt.Sprintf(" %s: %d flushed, %d boots;", v.name, v.flushed, v.boots)
		if n := v.second.flushed; n > 0 {
			out += fmt.Sprintf(" %d on its second disk;", n)
		}
	}
	return out
}

// guestsLimit is how long after everything is whole every guest has flushed more.
const guestsLimit = time.Minute

// goOn sees that every guest gets on with its work: one that runs and waits for its
// disk for ever is as good as lost.
func (c *vmCheck) goOn() {
	for _, vm := range c.vms {
		v := c.of(vm.ID)
		was, boots := v.flushed, v.boots
		for end := c.s.w.Now() + guestsLimit; v.flushed == was && v.boots == boots && len(c.s.res.Failures) == 0; clock.Sleep(c.s.c, 20*time.Millisecond) {
			if c.s.w.Now() > end {
				c.s.fail("%s runs, and has flushed nothing for %v though everything was put right", v.name, guestsLimit)
			}
		}
	}
}
