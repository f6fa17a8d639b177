package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

const (
	aloneRounds = 15 // of every client between two openings
	backLimit   = time.Minute
	holdFor     = 15 * time.Second // in which a host that believed an old backup would open something
)

// lastResort ends some runs with what no cluster gets over by itself, and reports
// whether it did.
func (s *simulation) lastResort(rng *rand.Rand) bool {
	switch rng.IntN(8) {
	case 0:
		return s.restVMs() && s.museum(rng)
	case 1:
		return s.restVMs() && s.setBack(rng)
	case 2:
		s.emptied()
		return true
	}
	return false
}

// museum cuts one host off, has the others go on with volumes that they open
// anew, and destroys them. The control plane is rebuilt on the one that is left,
// with the records as they were when it was cut off: what was in sync there must
// be there, and nothing that the others gave out may be given out again.
func (s *simulation) museum(rng *rand.Rand) bool {
	h := s.lastHost(rng)
	if h == nil {
		return false
	}
	items, _, rev, err := cluster.ReadLasting(s.peek)
	s.must(err, "records")
	had := s.models()
	s.tell("fault: %s loses power, the others go on", h.name)
	h.powerCut()
	s.goOn(rng)
	s.tell("fault: all hosts but %s are destroyed", h.name)
	for _, o := range s.hosts {
		o.powerCut()
	}
	p := s.rebuilt(h, items, rev, nil, rng)
	for i, c := range s.clients {
		if slices.ContainsFunc(p.Volumes, func(v cluster.VolumeOutlook) bool {
			return v.Volume.ID == c.vol.ID && v.Outlook == cluster.Served
		}) {
			c.model, c.since = had[i], ordered{}
			s.goesOn(c)
		}
	}
	s.tell("the control plane was rebuilt on %s", h.name)
	return true
}

// setBack puts an older copy of the control plane's records in the place of the
// newest while all power is off. No host that has read later ones may believe
// them; then the control plane is rebuilt with what one host has kept, the others
// stay, and nothing may be missing.
func (s *simulation) setBack(rng *rand.Rand) bool {
	old, _ := s.kv.Peek("")
	s.goOn(rng)
	for _, c := range s.clients {
		c.verify()
	}
	items, incarnation, rev, err := cluster.ReadLasting(s.peek)
	s.must(err, "records")
	s.tell("fault: all power is cut, and the control plane's records are set back")
	for _, h := range s.hosts {
		h.powerCut()
		h.floor = cluster.FloorOf(items, incarnation, rev)
	}
	s.anew(cluster.Lasting(old))
	for _, h := range s.hosts {
		h.powerOn()
	}
	for end := s.c.Now() + holdFor; s.c.Now() < end; clock.Sleep(s.c, 500*time.Millisecond) {
		for _, c := range s.clients {
			if c.connect() {
				s.fail("%s opened %s though it had read later records than there are (invariants 1, 5)", c.h.name, c.vol.Name)
				return true
			}
		}
	}
	for _, h := range s.hosts {
		h.powerCut()
		h.floor = cluster.Floor{}
	}
	h := s.hosts[rng.IntN(len(s.hosts))]
	stay := make(map[holdfast.HostID]bool)
	for _, o := range s.hosts {
		stay[o.rec.ID] = o != h
	}
	s.rebuilt(h, items, rev, stay, rng)
	for _, o := range s.hosts {
		o.powerOn()
	}
	for _, c := range s.clients {
		s.goesOn(c)
	}
	s.tell("the control plane was rebuilt on %s, the others stayed", h.name)
	return true
}

// restVMs stops all VMs for good: what their guests say is not of one history any
// more. It reports whether they have ended.
func (s *simulation) restVMs() bool {
	for end := s.c.Now() + backLimit; s.c.Now() < end; clock.Sleep(s.c, 500*time.Millisecond) {
		err := s.op.on(s.hosts[0], func(p *provision.Provisioner) error {
			for _, vm := range s.vms.vms {
				if err := p.StopVM(vm.ID, true); err != nil {
					return err
				}
			}
			return nil
		})
		left := 0
		for _, h := range s.hosts {
			left += len(h.vmhost.Machines())
		}
		if err == nil && left == 0 {
			return true
		}
	}
	return false
}

func (s *simulation) peek(prefix string) ([]kv.Item, kv.Rev, error) {
	items, rev := s.kv.Peek(prefix)
	return items, rev, nil
}

// lastHost chooses a host that has a copy in sync of some client's volume, of
// which there are others; nil: there is none.
func (s *simulation) lastHost(rng *rand.Rand) *host {
	st, err := s.eye.Refresh()
	s.must(err, "records")
	for _, i := range rng.Perm(len(s.hosts)) {
		h := s.hosts[i]
		for _, c := range s.clients {
			set := st.Volumes[c.vol.ID].Val.InSync
			if len(set) > 1 && slices.ContainsFunc(set, func(r cluster.Replica) bool { return r.Host == h.rec.ID }) {
				return h
			}
		}
	}
	return nil
}

// models returns copies of what the clients' blocks may hold.
func (s *simulation) models() (out []*blockModel) {
	for _, c := range s.clients {
		out = append(out, c.model.clone())
	}
	return out
}

// goOn has the clients write, with openings in between.
func (s *simulation) goOn(rng *rand.Rand) {
	for range 3 {
		for range aloneRounds {
			for _, c := range s.clients {
				if c.disk == nil && !c.connect() || !c.round() {
					c.drop()
				}
				clock.Sleep(s.c, time.Duration(1+c.rng.Int64N(int64(2*think))))
			}
		}
		for _, c := range s.clients {
			if h, err := s.op.writer(c.vol.ID); err == nil && rng.IntN(3) > 0 && h.computer != nil {
				s.tell("fault: power of %s, which writes %s, is cut", h.name, c.vol.Name)
				h.powerCut()
				h.powerOn()
			}
			clock.Sleep(s.c, time.Duration(rng.Int64N(int64(4*time.Second))))
		}
	}
	for _, c := range s.clients {
		c.drop()
	}
}

// goesOn checks what a client's volume holds, writes, and checks again.
func (s *simulation) goesOn(c *blockClient) {
	if c.verify(); len(s.res.Failures) > 0 {
		return
	}
	for range aloneRounds {
		if c.disk == nil && !c.connect() || !c.round() {
			c.drop()
		}
		clock.Sleep(s.c, time.Duration(1+c.rng.Int64N(int64(2*think))))
	}
	c.verify()
}

// rebuilt rebuilds the control plane on a host from records, as serve does; the
// hosts that stay are to be started by the caller.
func (s *simulation) rebuilt(h *host, items []kv.Item, rev kv.Rev, stay map[holdfast.HostID]bool, rng *rand.Rand) *cluster.RecoveryPlan {
	s.kv.SetDown(true)
	h.powerOn()
	for end := s.c.Now() + backLimit; !h.serving() && s.c.Now() < end; {
		clock.Sleep(s.c, 100*time.Millisecond)
	}
	found := make(map[holdfast.ReplicaID]cluster.Found)
	if !s.runOn(h, backLimit, func() {
		for _, st := range h.node.Volumes.Stores() {
			for _, r := range st.Replicas() {
				is := r.State()
				f := cluster.Found{Promise: is.Promise, Prefix: is.Prefix, Wrong: is.Damage}
				if n := len(is.History); n > 0 {
					f.Last = is.History[n-1].Epoch
				}
				if is.Building {
					f.Wrong = "it was being built"
				}
				found[is.Replica] = f
			}
		}
	}) {
		s.fail("%s cannot be looked at", h.name)
		panic(stop{})
	}
	h.processDies()
	p, err := cluster.PlanRecovery(items, rev, cluster.Survivor{Self: h.rec, Stay: stay, Found: found, Wall: s.c.Wall(), Chance: rng.Uint32N})
	s.must(err, "plan of the recovery")
	for _, line := range p.Lines() {
		s.tell("recovery: %s", line)
	}
	s.anew(p.Items)
	h.boot()
	return p
}

// anew puts another control plane, with these records, in the place of the one
// that was.
func (s *simulation) anew(items []kv.Item) {
	s.kv.SetDown(true)
	s.eye.Close()
	s.kv = memkv.NewServer(memkv.Config{Clock: s.c, Rand: s.w.Rand})
	s.eye = cluster.Open(s.kv.Handle("world", s.c), s.c, s.log)
	s.must(s.eye.Refill(items), "the records of the new control plane")
}
