package ha

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// Machine remembers what a state does not tell: since when a host is gone, how
// often a VM failed to start. Every host that may lead keeps one up to date with
// Observe, so that the next leader knows as much as the last. It belongs to one
// task.
type Machine struct {
	cfg      Config
	started  bool
	began    time.Duration // when the first state was seen
	beganRev kv.Rev
	hosts    map[holdfast.HostID]*hostTrack
	vms      map[holdfast.VMID]*vmTrack
	missing  map[holdfast.VolumeID]time.Duration // since when a volume lacks a copy
	planned  map[holdfast.VMID]holdfast.HostID   // where a plan put a VM
	brake    brake
	wake     time.Duration // of the pass under way; -1: nothing to wait for
}

// New returns a machine that has seen nothing yet.
func New(cfg Config) *Machine {
	return &Machine{
		cfg:     cfg.withDefaults(),
		hosts:   map[holdfast.HostID]*hostTrack{},
		vms:     map[holdfast.VMID]*vmTrack{},
		missing: map[holdfast.VolumeID]time.Duration{},
		planned: map[holdfast.VMID]holdfast.HostID{},
	}
}

// Observe takes note of a state. now is monotonic and never goes back. It
// returns how long until time alone may change what the machine thinks, or -1.
func (m *Machine) Observe(now time.Duration, s *cluster.State) time.Duration {
	m.observe(now, placement.Look(s))
	return m.wake
}

func (m *Machine) observe(now time.Duration, v *placement.View) {
	m.wake = -1
	if !m.started {
		m.started, m.began, m.beganRev = true, now, v.State.Rev
	}
	m.observeHosts(now, v)
	m.observeBrake(now, v)
	m.observeVMs(now, v)
	m.observeCopies(now, v)
}

// Step takes note of a state and returns what is to be changed, in order, and
// like Observe how long it can wait. wall is for the timeline alone. The same
// changes come again until a state shows them.
func (m *Machine) Step(now time.Duration, wall time.Time, s *cluster.State) ([]Change, time.Duration) {
	v := placement.Look(s)
	m.observe(now, v)
	d := newDraft(v, wall)
	m.incidents(now, d)
	if !m.brake.on {
		m.plan(now, d)
		m.cut(d)
		m.start(now, d)
		m.drain(now, d)
		m.redundancy(now, d)
		m.abandoned(d)
	}
	m.mend(d)
	d.flush("incident", "timeline")
	d.prune()
	m.visitStep(d.changes)
	return d.changes, m.wake
}

// Phase returns what the machine thinks of a host, "" if it knows none.
func (m *Machine) Phase(id holdfast.HostID) Phase {
	if t := m.hosts[id]; t != nil {
		return t.phase
	}
	return ""
}

// wakeAt asks for another pass at a time.
func (m *Machine) wakeAt(now, at time.Duration) {
	d := max(at-now, 0)
	if m.wake < 0 || d < m.wake {
		m.wake = d
	}
}
