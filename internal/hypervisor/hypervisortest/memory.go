package hypervisortest

import (
	"bytes"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// remembers: a machine whose memory was saved goes on, and one that gets it back
// goes on where it was, without a boot.
func (s situation) remembers() {
	m := s.start(0)
	s.reach(m, 5)
	if err := m.Save(&bytes.Buffer{}); !holdfast.IsKind(err, holdfast.Conflict) {
		s.t.Fatalf("the memory of a machine that runs: %v", err)
	}
	s.must("pause", m.Pause())
	s.must("save", m.Save(&bytes.Buffer{}))
	if m.State() != hypervisor.Paused {
		s.t.Fatalf("its memory was saved: %s", m.State())
	}
	s.must("resume", m.Resume())
	s.reach(m, flushed(m)+5)
	s.must("pause", m.Pause())
	refusal := refusing{}
	if err := m.Save(refusal); !holdfast.IsKind(err, holdfast.NoSpace) || err.Error() != "no room" {
		s.t.Fatalf("a memory that nobody takes: %v", err)
	}
	s.must("resume", m.Resume())
	s.reach(m, flushed(m)+5)

	s.must("pause", m.Pause())
	var memory bytes.Buffer
	s.must("save", m.Save(&memory))
	s.clean(m)
	at := flushed(m)
	s.must("kill", m.Kill())
	for _, cut := range [][]byte{nil, memory.Bytes()[:memory.Len()/2], []byte("nothing of the kind")} {
		if _, err := s.Hypervisor().Restore(s.Spec(0), bytes.NewReader(cut)); err == nil {
			s.t.Fatalf("restored from %d bytes of %d", len(cut), memory.Len())
		}
	}
	r, err := s.Hypervisor().Restore(s.Spec(0), bytes.NewReader(memory.Bytes()))
	s.must("restore", err)
	if r.State() != hypervisor.Paused {
		s.t.Fatalf("restored, it is %s", r.State())
	}
	s.RestartAgent()
	found, err := s.Hypervisor().Adopt()
	if err != nil || len(found) != 1 || found[0].State() != hypervisor.Paused {
		s.t.Fatalf("adopted %v, %v", found, err)
	}
	r = found[0]
	s.must("resume", r.Resume())
	s.reach(r, at+10)
	s.clean(r)
	if _, n := last(r, probe.Start); n != 0 {
		s.t.Fatalf("it has booted; the guest said:\n%s", r.History())
	}
	s.must("reset", r.Reset())
	if !s.Await(func() bool { _, n := last(r, probe.Ready); return n == 1 }) {
		s.t.Fatalf("no boot after the reset; the guest said:\n%s", r.History())
	}
	s.clean(r)
	s.must("kill", r.Kill())
	if err := r.Save(&memory); !holdfast.IsKind(err, holdfast.Closed) {
		s.t.Fatalf("the memory of a dead machine: %v", err)
	}
	if s.Hypervisor().Kind() == "" {
		s.t.Fatal("it does not say what its machines are made of")
	}
}

// refusing takes nothing.
type refusing struct{}

func (refusing) Write([]byte) (int, error) {
	return 0, holdfast.Errorf(holdfast.NoSpace, "no room")
}
