package sim

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// cutting is one cut of the network: hosts are cut off from those outside of
// them, or from some, or from the control plane, in one direction or in both.
type cutting struct {
	hosts    []*host
	from     []string // names; none: everybody else
	in, out  bool     // what is lost
	data, kv bool     // between volumes and replicas, to the control plane
}

// cut begins a cut.
func (s *simulation) cut(c story.Command, hosts []*host) (undo func()) {
	x := &cutting{hosts: hosts, from: c.Names("from"), in: c.Text("way") != "out", out: c.Text("way") != "in"}
	x.data, x.kv = c.Text("plane") != "kv", c.Text("plane") != "data" && len(x.from) == 0
	if x.data {
		s.res.Partitions++
	}
	s.cuts = append(s.cuts, x)
	s.lay()
	return func() {
		s.cuts = slices.DeleteFunc(s.cuts, func(y *cutting) bool { return x == y })
		s.lay()
	}
}

// loses reports whether what one host sends another is lost.
func (x *cutting) loses(from, to *host) bool {
	return x.data && (x.out && x.parts(from, to) || x.in && x.parts(to, from))
}

// parts reports whether a host is one of those cut off, and another one of those
// that they are cut off from.
func (x *cutting) parts(h, other *host) bool {
	if !slices.Contains(x.hosts, h) {
		return false
	}
	if len(x.from) > 0 {
		return slices.Contains(x.from, other.name)
	}
	return len(x.hosts) == len(h.s.hosts) || !slices.Contains(x.hosts, other)
}

// lay has the network be as the cuts and the topology's links say.
func (s *simulation) lay() {
	for _, h := range s.hosts {
		requests, replies := false, false
		for _, x := range s.cuts {
			if x.kv && slices.Contains(x.hosts, h) {
				requests, replies = requests || x.out, replies || x.in
			}
		}
		if h.kvCut != [2]bool{requests, replies} {
			h.kvCut = [2]bool{requests, replies}
			s.kv.Cut(h.name, requests, replies)
		}
		for _, o := range s.hosts {
			if o == h {
				continue
			}
			if slices.ContainsFunc(s.cuts, func(x *cutting) bool { return x.loses(h, o) }) {
				s.net.Cut(h.rec.ID, o.rec.ID)
			} else {
				s.net.Mend(h.rec.ID, o.rec.ID)
			}
		}
	}
}

// healNetwork ends every cut and slowness.
func (s *simulation) healNetwork() {
	s.cuts = nil
	s.net.SetParams(simnet.LAN())
	s.net.Heal()
	s.layLinks()
	s.lay()
}

// slow delays frames, one way, between a host and all others.
func (s *simulation) slow(h *host, way string, by time.Duration) {
	for _, o := range s.hosts {
		switch {
		case o == h:
		case way == "out":
			s.net.Slow(h.rec.ID, o.rec.ID, by)
		default:
			s.net.Slow(o.rec.ID, h.rec.ID, by)
		}
	}
}
