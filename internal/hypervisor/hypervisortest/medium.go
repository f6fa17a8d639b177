package hypervisortest

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

func (s situation) loads() {
	medium := s.Second(0)
	medium.Slot, medium.ReadOnly = hypervisor.SlotCD, true
	spec := s.Spec(0)
	spec.CD = &medium
	m, err := s.Hypervisor().Start(spec)
	s.must("start with a medium", err)
	s.holds(m, &medium)
	s.reach(m, 3)

	s.RestartAgent()
	found, err := s.Hypervisor().Adopt()
	if err != nil || len(found) != 1 {
		s.t.Fatalf("adopted %v, %v", found, err)
	}
	m = found[0]
	s.holds(m, &medium)
	s.DiskAway()
	s.DiskBack()
	s.must("load what has moved", m.Load(&medium))
	s.must("eject", m.Load(nil))
	s.holds(m, nil)
	s.must("eject what is not there", m.Load(nil))
	s.must("load", m.Load(&medium))
	s.must("load what is there", m.Load(&medium))
	s.holds(m, &medium)

	writable := medium
	writable.ReadOnly = false
	if err := m.Load(&writable); !holdfast.IsKind(err, holdfast.Invalid) {
		s.t.Fatalf("a medium that may be written: %v", err)
	}
	at := flushed(m)
	s.reach(m, at+3)
	s.must("reset", m.Reset())
	if !s.Await(func() bool { _, n := last(m, probe.Verified); return n == 2 }) {
		s.t.Fatalf("it did not start anew from its disk; it said:\n%s", m.History())
	}
	s.clean(m)
	s.must("kill", m.Kill())
	if err := m.Load(&medium); !holdfast.IsKind(err, holdfast.Closed) {
		s.t.Fatalf("a medium for a dead machine: %v", err)
	}
}

// holds checks what a machine says lies in its drive.
func (s situation) holds(m hypervisor.Machine, want *hypervisor.Disk) {
	s.t.Helper()
	got := m.Spec().CD
	if (got == nil) != (want == nil) || got != nil && *got != *want {
		s.t.Fatalf("in its drive is %+v", got)
	}
}
