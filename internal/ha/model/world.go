package model

import (
	"maps"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// Kinds of disturbances, to be added.
const (
	Cuts    = 1 << iota // a host's link to the control plane, or that between the hosts
	Deaths              // of a host's process, or of the computer
	Late                // the outcome of a commit is not known
	KVAway              // the control plane answers nobody, and is back
	Lags                // somebody does late what could be done at once, or messages are late
	AllOfIt = Lags | Cuts | Deaths | Late | KVAway
)

// Mistake is something that somebody could get wrong, to see that it is found.
type Mistake string

// The mistakes.
const (
	NoMistake       Mistake = ""
	LeaseFromAnswer Mistake = "a volume's lease is counted from the answer"
	ReadoptDead     Mistake = "a machine of a dead generation is adopted again"
	StartEarly      Mistake = "an opening does not outwait the leases of the writer before"
	NoEpochCheck    Mistake = "a replica does not refuse the epoch of a dead writer"
	OpenOvertaken   Mistake = "an opening opens though its replica has promised a later epoch meanwhile"
)

// Config says what is explored.
type Config struct {
	Name         string
	Slow         int // whose clock is slow by 1/replica.Drift: 0 nobody's, 1 the first host's, 2 the second's, 3 both hosts'
	Disturbances int
	Kinds        int
	Phase        time.Duration // of the first host's guard and volume against its renewals
	Mistake      Mistake
	Begin        []string // disturbances before everything else, by name
	MaxStates    int      // the exploration gives up beyond
}

// world is what does not change while it is explored.
type world struct {
	Config
	ids   [2]holdfast.HostID
	refs  [2]cluster.Replica
	vm    holdfast.VMID
	vol   holdfast.VolumeID
	alive [2]cluster.Alive
}

const (
	kvClock   = 2
	trueClock = 2 // the control plane's is right
)

// local is a clock's time at the true time t; 2 is the control plane's.
func (w *world) local(c int, t time.Duration) time.Duration {
	if c < kvClock && w.Slow&(1<<c) != 0 {
		return t - t/replica.Drift
	}
	return t
}

// trueTime is when a clock shows a time, to the next millisecond: what a host does
// is never early.
func (w *world) trueTime(c int, at time.Duration) time.Duration {
	t := at
	if c < kvClock && w.Slow&(1<<c) != 0 {
		t = at + at/(replica.Drift-1)
	}
	return (t + time.Millisecond - 1).Truncate(time.Millisecond)
}

func (w *world) host(id holdfast.HostID) int {
	for i, x := range w.ids {
		if x == id {
			return i
		}
	}
	return -1
}

const drawn = `
host a1 rack=a mem=8192 voter
host b1 rack=b mem=8192 voter
host c1 rack=c witness voter
volume v size=1 copies=2 in-sync=a1,b1 writer=a1 epoch=5
vm x volume=v host=a1 running
`

func newWorld(c Config) (*world, *state, error) {
	pic, err := sketch.Draw(drawn)
	if err != nil {
		return nil, nil, err
	}
	w := &world{Config: c, vm: sketch.VM("x"), vol: sketch.Volume("v")}
	st := pic.State()
	st.Rev = 100
	s := &state{left: c.Disturbances, records: st}
	for h, name := range []string{"a1", "b1"} {
		w.ids[h] = sketch.Host(name)
		w.refs[h] = st.Volumes[w.vol].Val.InSync[h]
		w.alive[h] = st.Alive[w.ids[h]].Val
	}
	s.now = 10 * time.Second
	s.lead = leader{m: ha.New(patience()), wake: never}
	for h := range s.hosts {
		x := &s.hosts[h]
		now := w.local(h, s.now)
		x.power, x.up, x.kept, x.pic = true, true, true, st
		id := kv.LeaseID(h + 1)
		x.word.Granted(id, now)
		x.word.Published(id, st.Alive[w.ids[h]].Mod)
		x.leased = id
		s.leases[h] = lease{id, w.local(kvClock, s.now) + cluster.LeaseTTL}
		x.beat = s.now + cluster.RenewEvery
		x.guard, x.tick = never, never
		x.auth = replica.Awakened(0, now)
		x.auth.Raise(5)
	}
	a := &s.hosts[0]
	a.m = machine{act: running, gen: st.VMs[w.vm].Val.Generation}
	a.w = writer{on: true, epoch: 5, inSync: [2]bool{true, true}}
	now := w.local(0, s.now)
	a.guard, a.tick = now+c.Phase, s.now+c.Phase
	w.ask(s, 0)
	w.look(s)
	w.settle(s)
	return w, s, nil
}

// patience are the times of ha.Machine, without what comes later than anything
// here: building copies, and giving up a start.
func patience() ha.Config {
	return ha.Config{JoinWindow: time.Second, BrakeWindow: time.Second, ColdWait: time.Nanosecond, BrakeHold: 3 * time.Second,
		StartTimeout: 10000 * time.Hour, RebuildAfter: 10000 * time.Hour}
}

// commit changes the records, of which others keep the picture they have, and has
// the leader look.
func (w *world) commit(s *state, change func(st *cluster.State, rev kv.Rev)) kv.Rev {
	st := *s.records
	st.Rev++
	change(&st, st.Rev)
	s.records = &st
	w.look(s)
	return st.Rev
}

func put[K comparable, T any](m *map[K]cluster.Versioned[T], k K, v T, rev kv.Rev) {
	*m = maps.Clone(*m)
	(*m)[k] = cluster.Versioned[T]{Mod: rev, Val: v}
}

// look has the leader take note of the records as they are now. What it wants to
// change is late already; it decides anew after that.
func (w *world) look(s *state) {
	m := s.lead.m.Clone()
	now := w.local(kvClock, s.now)
	var wait time.Duration
	if len(s.lead.pending) > 0 {
		wait = m.Observe(now, s.records)
	} else {
		s.lead.pending, wait = m.Step(now, sketch.Wall(), s.records)
	}
	s.lead.m, s.lead.wake = m, never
	if wait >= 0 && wait < time.Hour {
		s.lead.wake = now + max(wait, time.Millisecond)
	}
}

// lead commits what the leader wants, as far as the records are still as it saw
// them.
func (w *world) lead(s *state) {
	changes := s.lead.pending
	s.lead.pending = nil
	written := map[string]kv.Rev{}
	for _, c := range changes {
		if !w.holds(s, c, written) {
			break
		}
		st := *s.records
		st.Rev++
		for _, v := range c.Volumes {
			put(&st.Volumes, v.Val.ID, v.Val, st.Rev)
		}
		for _, v := range c.VMs {
			put(&st.VMs, v.Val.ID, v.Val, st.Rev)
		}
		for _, i := range c.Incidents {
			put(&st.Incidents, i.Val.ID, i.Val, st.Rev)
			written[i.Val.ID] = st.Rev
		}
		if len(c.Gone) > 0 {
			st.Incidents = maps.Clone(st.Incidents)
			for _, i := range c.Gone {
				delete(st.Incidents, i.Val.ID)
			}
		}
		s.records = &st
	}
	w.look(s)
}

// holds reports whether the conditions of a change hold.
func (w *world) holds(s *state, c ha.Change, written map[string]kv.Rev) bool {
	st := s.records
	for _, l := range c.Lives {
		if st.Alive[l.Host].Mod != l.Mod {
			return false
		}
	}
	for _, v := range c.Volumes {
		if st.Volumes[v.Val.ID].Mod != v.Mod {
			return false
		}
	}
	for _, v := range c.VMs {
		if st.VMs[v.Val.ID].Mod != v.Mod {
			return false
		}
	}
	for _, i := range c.Incidents {
		mod, ok := written[i.Val.ID]
		if !ok {
			mod = i.Mod
		}
		if st.Incidents[i.Val.ID].Mod != mod {
			return false
		}
	}
	return true
}
