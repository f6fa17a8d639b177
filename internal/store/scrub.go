package store

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// A scrub reads every block that any root refers to, past the page cache, and
// compares it with the map's hash. It goes through the roots one by one and
// takes a portion of blocks of each at a time, in the order in which they lie on
// the disk (adr/0047). An identity is never used twice, so a portion that was
// collected stays true: what has died meanwhile is passed over.

// scrub is the scrubbing of a disk. Under the store's lock; the task owns what
// is said to be its own.
type scrub struct {
	wake   clock.Event
	passes []*pass // the first is under way
	full   time.Time
	ended  time.Time
	dirty  bool
	seq    uint64
	onBad  func(Fault) // blocks; called by the task without the lock

	since   time.Duration // when the present life of the first pass began
	sinceAt int64         // and what it had done
	busy    uint64        // calls of the foreground, of any kind
}

// pass is one scrub: of the whole disk, or of one replica. Roots are visited by
// rising number, heads after those; one that is made while it is under way has
// a higher number, and is visited too.
type pass struct {
	started time.Time
	only    uint32 // number of the replica; 0: all
	spot
	done  int64 // units
	total int64 // units, about; 0: not known yet
	bad   int64 // blocks
}

// spot is how far a pass has come.
type spot struct {
	nodePos uint64 // nodes up to here are done
	headPos uint32 // heads up to here
	at      passAt // what addr is in
	head    uint32 // number of the replica whose head it is
	addr    uint64 // next block there

	node  *node // atNode: which, if it is known already
	owner *Replica
}

type passAt uint8

const (
	atNothing passAt = 0
	atNode    passAt = 1 // the first above nodePos
	atHead    passAt = 2
)

// ScrubStatus tells how a disk's scrubbing goes.
type ScrubStatus struct {
	Running bool
	Replica holdfast.ReplicaID // the one that is scrubbed; zero: the whole disk
	Started time.Time
	Done    int64 // bytes
	Total   int64 // bytes, about; 0: not known yet
	Rate    int64 // bytes a second, lately; 0: not known yet
	Bad     int64 // blocks
	Last    time.Time
	Ended   time.Time
	Next    time.Time // zero: never
}

// Left is about how long a scrub still takes; 0: not known.
func (st ScrubStatus) Left() time.Duration {
	if st.Rate <= 0 || st.Total <= st.Done {
		return 0
	}
	return time.Duration(float64(st.Total-st.Done) / float64(st.Rate) * float64(time.Second)).Round(time.Second)
}

// Scrubbing tells how the disk's scrubbing goes.
func (s *Store) Scrubbing() ScrubStatus {
	s.lock()
	defer s.unlock()
	st := ScrubStatus{Last: s.scrub.full, Ended: s.scrub.ended}
	if s.o.ScrubEvery > 0 {
		st.Next = s.clk.Wall().Add(s.scrubDue())
	}
	if len(s.scrub.passes) == 0 {
		return st
	}
	p := s.scrub.passes[0]
	st.Running, st.Started, st.Done, st.Total, st.Bad = true, p.started, p.done*unitSize, max(p.total, p.done)*unitSize, p.bad
	if r := s.byNum[p.only]; r != nil {
		st.Replica = r.id
	}
	if d := s.clk.Now() - s.scrub.since; d > 0 && s.scrub.since > 0 {
		st.Rate = int64(float64((p.done-s.scrub.sinceAt)*unitSize) / d.Seconds())
	}
	return st
}

// Proved is when the last scrub began that found all of the replica good, or
// restored; zero: none has yet.
func (r *Replica) Proved() time.Time {
	r.s.lock()
	defer r.s.unlock()
	return r.proved
}

// OnBad sets the function that is told of every block that a scrub finds bad. It
// may block, and should try to have it restored.
func (s *Store) OnBad(f func(Fault)) {
	s.lock()
	defer s.unlock()
	s.scrub.onBad = f
}

// Scrub has a replica scrubbed now, before anything else; the zero identity
// stands for the whole disk. One that is under way goes on.
func (s *Store) Scrub(id holdfast.ReplicaID) error {
	s.lock()
	defer s.unlock()
	if s.err != nil {
		return s.err
	}
	var only uint32
	if !id.IsZero() {
		r := s.replicas[id]
		if r == nil {
			return holdfast.Errorf(holdfast.NotFound, "disk %s has no replica %s", s.id.Disk, id)
		}
		only = r.num
	}
	if slices.ContainsFunc(s.scrub.passes, func(p *pass) bool { return p.only == only }) {
		return nil
	}
	if len(s.scrub.passes) >= maxPasses {
		return holdfast.Errorf(holdfast.Busy, "disk %s: %d scrubs are waiting already; try again later", s.id.Disk, len(s.scrub.passes))
	}
	s.beginPass(only)
	return nil
}

// beginPass puts a scrub behind those of single replicas, and before that of
// the disk.
func (s *Store) beginPass(only uint32) {
	p := &pass{started: s.clk.Wall(), only: only}
	i := len(s.scrub.passes)
	if k := slices.IndexFunc(s.scrub.passes, func(p *pass) bool { return p.only == 0 }); k >= 0 && only != 0 {
		i = k
	}
	s.scrub.passes = slices.Insert(s.scrub.passes, i, p)
	s.scrub.dirty = true
	if i == 0 {
		s.scrub.since = 0
	}
	s.scrub.wake.Set()
}

// scrubDue is how long it is until the disk is to be scrubbed again. Calendar
// time may jump: it is never longer than the period.
func (s *Store) scrubDue() time.Duration {
	last := s.scrub.full
	if last.IsZero() {
		last = s.bornWall
	}
	return max(0, s.o.ScrubEvery-max(0, s.clk.Wall().Sub(last)))
}

// scrubTask scrubs when it is time or asked for, and keeps what is known of it
// on the disk.
func (s *Store) scrubTask() {
	for {
		s.saveScrub()
		s.lock()
		stop := s.stopped || s.err != nil
		wait := clock.Forever
		if n := len(s.scrub.passes); n == 0 && s.o.ScrubEvery > 0 {
			if wait = s.scrubDue(); wait == 0 {
				s.beginPass(0)
			}
		}
		more := len(s.scrub.passes) > 0
		s.unlock()
		switch {
		case stop:
			return
		case more:
			s.scrubPortion()
		default:
			s.scrub.wake.Wait(wait)
		}
	}
}

// scrubPortion does the next piece of the first pass.
func (s *Store) scrubPortion() {
	s.lock()
	p := s.scrub.passes[0]
	if s.scrub.since == 0 {
		s.scrub.since, s.scrub.sinceAt = s.clk.Now(), p.done
	}
	s.unlock()
	if p.total == 0 {
		s.measure(p)
	}
	before := p.spot
	items, ok := s.collectPortion(p)
	if !ok {
		s.finishPass(p)
		return
	}
	if !s.readPortion(p, items) {
		s.lock()
		p.spot = before // what was not read is read in the next life
		s.unlock()
	}
}

// measure finds how much a pass has to read.
func (s *Store) measure(p *pass) {
	total := int64(0)
	if p.only == 0 {
		s.lock()
		s.space.each(func(g *segment) {
			if g.class != classMeta {
				total += int64(g.nlive)
			}
		})
		s.unlock()
	} else {
		probe := *p
		for {
			items, ok := s.collectPortion(&probe)
			if !ok {
				break
			}
			total += unitsOfAll(items)
		}
	}
	s.lock()
	p.total = max(total, 1)
	s.unlock()
}

// finishPass notes what a pass has proved.
func (s *Store) finishPass(p *pass) {
	s.lock()
	defer s.unlock()
	if s.stopped || s.err != nil || len(s.scrub.passes) == 0 || s.scrub.passes[0] != p {
		return
	}
	s.settleFaults()
	for _, r := range s.sorted {
		if (p.only != 0 && r.num != p.only) || r.build || r.damage != "" || !r.missed.Before(p.started) {
			continue
		}
		open := slices.ContainsFunc(s.faults, func(f Fault) bool { return f.Replica == r.id && f.Open() })
		if !open {
			r.proved = p.started
		}
	}
	s.scrub.passes = s.scrub.passes[1:]
	s.scrub.since, s.scrub.dirty = 0, true
	if p.only == 0 {
		s.scrub.full, s.scrub.ended = p.started, s.clk.Wall()
	}
	s.log.Info("scrubbed", "disk", s.id.Disk.String(), "bytes", p.done*unitSize, "bad", p.bad)
}

// miss notes that a scrub under way may not have seen all of the replica. Under
// the lock.
func (r *Replica) miss() {
	if len(r.s.scrub.passes) > 0 {
		r.missed = r.s.clk.Wall()
		r.s.scrub.dirty = true
	}
}

// inherit notes that a head takes over what only a node had. A scrub that has
// passed the head and not the node would never see it. Under the lock.
func (r *Replica) inherit(n *node) {
	for _, p := range r.s.scrub.passes {
		if (p.only == 0 || p.only == r.num) && n.id > p.nodePos {
			r.miss()
		}
	}
}
