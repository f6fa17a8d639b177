package sim

import (
	"math/rand/v2"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// limiting gives volumes limits, in one seed of three: what waits for them meets
// fences, stalls and closed sessions. They are so high that the others make up
// for what is held back, and so low that something is.
type limiting struct {
	rng *rand.Rand
	on  bool
}

func (s *simulation) newLimiting() *limiting {
	x := &limiting{rng: s.w.Rand("limits")}
	x.on = x.rng.IntN(3) == 0 && s.with("limits")
	return x
}

func (x *limiting) draw() cluster.Limits {
	l := cluster.Limits{IOPS: 150 + x.rng.IntN(200)}
	if x.rng.IntN(3) == 0 {
		l.MBps = 1
	}
	if x.rng.IntN(2) == 0 {
		l.BurstMS = 1 + x.rng.IntN(3000)
	}
	return l
}

// spec limits a part of the volumes.
func (x *limiting) spec(v provision.VolumeSpec) provision.VolumeSpec {
	if x.on && x.rng.IntN(2) == 0 {
		v.Limits = x.draw()
	}
	return v
}

// turn reports whether the operator is to change limits now.
func (x *limiting) turn() bool { return x.on && x.rng.IntN(5) == 0 }

// limit changes the limits of a client's volume, or takes them away.
func (o *operator) limit() (string, error) {
	x := o.s.limits
	v := o.s.clients[x.rng.IntN(len(o.s.clients))].vol
	var l cluster.Limits
	if x.rng.IntN(3) > 0 {
		l = x.draw()
	}
	return "limit " + v.Name + " to '" + l.String() + "'", o.on(o.s.hosts[x.rng.IntN(len(o.s.hosts))], func(p *provision.Provisioner) error {
		_, err := p.ChangeVolume(v.ID, placement.Change{IOPS: &l.IOPS, MBps: &l.MBps, BurstMS: &l.BurstMS})
		return err
	})
}
