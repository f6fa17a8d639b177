package sim

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/fakevm"
)

const (
	awakeEvery = 20 * time.Millisecond
	// blindFor is how long after its process stood still or was not there a host
	// may have a machine running that has no right to: a process that has begun
	// takes over what runs, and knows nothing of the time before.
	blindFor = 6 * time.Second
)

// watchAwake sees that no two machines of a VM ever run at the same time, unless
// the older one's host had nobody to stop it (invariant 14).
func (s *simulation) watchAwake() {
	s.c.Go(func() {
		for !s.ending {
			clock.Sleep(s.c, awakeEvery)
			s.lookAwake()
		}
	})
}

func (s *simulation) lookAwake() {
	type running struct {
		h *host
		m *fakevm.Machine
	}
	seen := map[holdfast.VMID]running{}
	for _, h := range s.hosts {
		if h.vmhost == nil {
			continue
		}
		for _, m := range h.vmhost.Machines() {
			if m.State() != hypervisor.Running {
				continue
			}
			id, now := m.Spec().VM, running{h, m}
			was, two := seen[id]
			if !two {
				seen[id] = now
				continue
			}
			if was.m.Spec().Generation > now.m.Spec().Generation {
				was, now = now, was
			}
			if !was.h.blind() {
				s.fail("a machine of VM %s runs on %s at assignment %d, and one on %s at %d (invariant 14)", s.vms.of(id).name,
					was.h.name, was.m.Spec().Generation, now.h.name, now.m.Spec().Generation)
			}
		}
	}
}

// blind reports whether nobody on the host could have stopped a machine in time.
func (h *host) blind() bool {
	return h.agent == nil || h.paused || h.node == nil || h.s.w.Now()-h.blindAt < blindFor
}

// isolationOf has every third VM powered off by a host that is cut off.
func isolationOf(n int) cluster.Isolation {
	if n%3 == 1 {
		return cluster.IsolationOff
	}
	return cluster.IsolationPause
}
