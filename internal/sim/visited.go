package sim

import (
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/visits"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// visited are the counts of a run, of all hosts together: which event met which
// state of the protocol's machines.
type visited struct {
	volumes volume.Visits
	ha      ha.Visits
}

func newVisited() *visited {
	return &visited{
		volumes: volume.Visits{Writer: visits.Of(replica.WriterMachine()), Takeover: visits.Of(volume.TakeoverMachine())},
		ha: ha.Visits{Host: visits.Of(ha.HostMachine()), Brake: visits.Of(ha.BrakeMachine()), VM: visits.Of(ha.VMMachine()),
			Step: visits.Of(ha.StepMachine())},
	}
}

// all are the counts, in the order of a page.
func (v *visited) all() []*visits.Counts {
	return []*visits.Counts{v.volumes.Takeover, v.volumes.Writer, v.ha.Host, v.ha.Brake, v.ha.VM, v.ha.Step}
}

// visitName is what a summary calls a pair.
func visitName(m *visits.Machine, pair int) string { return m.Name + ": " + m.Pairs[pair].String() }

// visits returns what the run has visited, by names, and fails it if that cannot be.
func (s *simulation) visits() map[string]uint64 {
	out := make(map[string]uint64)
	for _, c := range s.visited.all() {
		if p := c.Impossible(); p != nil {
			s.fail("%s: %s: %s, it is said, and so it was", c.Machine.Name, p, p.Never)
		}
		for i, n := range c.Of {
			if n > 0 {
				out[visitName(&c.Machine, i)] += n
			}
		}
	}
	return out
}
