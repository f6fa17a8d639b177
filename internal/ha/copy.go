package ha

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// Clone returns a machine that thinks the same and goes its own way from here:
// what an explorer of all histories branches with.
func (m *Machine) Clone() *Machine {
	c := *m
	c.hosts = maps.Clone(m.hosts)
	for id, t := range c.hosts {
		x := *t
		x.losses = slices.Clone(t.losses)
		c.hosts[id] = &x
	}
	c.vms = maps.Clone(m.vms)
	for id, t := range c.vms {
		x := *t
		x.failedOn = maps.Clone(t.failedOn)
		c.vms[id] = &x
	}
	c.missing = maps.Clone(m.missing)
	c.planned = maps.Clone(m.planned)
	c.brake.hosts = slices.Clone(m.brake.hosts)
	return &c
}

// AppendThoughts appends what sets a machine apart from another one that looks at
// the same cluster: the phases of its hosts, how its VMs fare, and the brake.
// Times are from now, and cut off where they make no difference any more to what
// is restarted; left out is how unsteady a host is, since when a copy is missing and
// how long a start has taken: an explorer has those patiences last for ever.
func (m *Machine) AppendThoughts(b []byte, now time.Duration, v *placement.View) []byte {
	longest := max(m.cfg.Settle, m.cfg.JoinWindow, m.cfg.BrakeWindow)
	age := func(since, most time.Duration) { b = binary.AppendVarint(b, int64(min(now-since, most))) }
	flags := func(f ...bool) {
		var x byte
		for i, on := range f {
			if on {
				x |= 1 << i
			}
		}
		b = append(b, x)
	}
	for _, h := range v.Hosts {
		t := m.hosts[h.ID]
		if t == nil {
			b = append(b, 0xff)
			continue
		}
		b = append(b, t.phase[0])
		flags(t.seen, t.waived)
		if t.phase != Alive {
			age(t.since, longest)
		}
	}
	for _, vm := range v.VMs {
		if t := m.vms[vm.ID]; t != nil {
			b = binary.AppendVarint(b, vm.Generation-t.generation)
			b = append(b, t.state...)
			flags(t.failing, t.counted, !m.planned[vm.ID].IsZero())
		}
	}
	flags(m.brake.on)
	if m.brake.on {
		age(m.brake.since, m.cfg.BrakeHold)
	}
	return b
}
