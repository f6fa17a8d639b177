package reconcile

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

const (
	voteEvery = time.Second // between attempts to change who votes
	// retireAfter is how long a vote must have been one too many before it is taken
	// away: a host that takes its place may be about to join.
	retireAfter = 10 * time.Second
)

// Voters changes who votes in the control plane. Both may take long, and doing
// what is done already does nothing.
type Voters interface {
	// Promote makes a host that learns a voting member, and returns once it is.
	Promote(h cluster.Host) error
	// Retire takes a host's member out of the control plane, which the others
	// must be able to do without. The host may start another one later.
	Retire(h cluster.Host) error
}

// ballot is what the loop knows of the votes; under its mu.
type ballot struct {
	busy  bool          // a task changes them
	next  time.Duration // no attempt before
	spare holdfast.HostID
	since time.Duration // that spare has been one too many
}

// vote changes who votes where the planner wants it. That may take long, so it
// runs on a task of its own, one at a time, whose end wakes the loop. It returns
// how long no attempt is due; negative: until the picture changes.
func (l *Loop) vote(now time.Duration, s *cluster.State) time.Duration {
	if l.o.Voters == nil {
		return -1
	}
	c, ok := placement.NextVote(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok || !c.Retire || c.Host.ID != l.ballot.spare {
		l.ballot.spare = holdfast.HostID{}
	}
	pause := l.ballot.next - now
	if ok && c.Retire {
		if l.ballot.spare.IsZero() {
			l.ballot.spare, l.ballot.since = c.Host.ID, now
		}
		pause = max(pause, l.ballot.since+retireAfter-now)
	}
	switch {
	case !ok || l.ballot.busy:
		return -1
	case pause > 0:
		return pause
	}
	l.ballot.busy, l.ballot.next = true, now+voteEvery
	l.group.Go(func() { l.changeVotes(c) })
	return -1
}

// changeVotes makes one change, and after it those additions that follow from
// it. What is recorded, after it is so, is what CanLose counts on.
func (l *Loop) changeVotes(c placement.VoteChange) {
	defer func() {
		l.mu.Lock()
		l.ballot.busy = false
		l.mu.Unlock()
		l.ev.Set() // one that failed is tried again, though nothing changed
	}()
	for first := true; ; first = false {
		s, err := l.o.Cluster.Refresh()
		if err != nil {
			return
		}
		next, ok := placement.NextVote(s)
		switch {
		case !ok || first && (next.Host.ID != c.Host.ID || next.Retire != c.Retire) || !first && next.Retire:
			return // it looks otherwise by now
		case next.Retire:
			err = l.changeVote(next, l.o.Voters.Retire)
		default:
			err = l.changeVote(next, l.o.Voters.Promote)
		}
		if err != nil {
			l.o.Log.Info("who votes was not changed yet", "host", next.Host.Name, "retire", next.Retire, "err", err)
			return
		}
		if next.Retire {
			l.o.Log.Info("the vote of a host was taken away", "host", next.Host.Name)
			return
		}
		l.o.Log.Info("host made a voter", "host", next.Host.Name)
	}
}

// changeVote carries one change out and records it.
func (l *Loop) changeVote(c placement.VoteChange, do func(cluster.Host) error) error {
	office, leads := l.o.Office.Leading()
	if !leads || l.isStopped() {
		return holdfast.Errorf(holdfast.Fenced, "this host does not lead any more")
	}
	if err := do(c.Host); err != nil {
		return err
	}
	s, err := l.o.Cluster.Refresh()
	if err != nil {
		return err
	}
	rec, ok := s.Hosts[c.Host.ID]
	if !ok {
		return holdfast.Errorf(holdfast.NotFound, "host %s was removed meanwhile", c.Host.Name)
	}
	rec.Val.Voter = !c.Retire
	if c.Retire {
		rec.Val.Peer, rec.Val.Client = "", ""
	}
	t := l.o.Cluster.Begin()
	t.AsLeader(office)
	t.PutHost(rec.Val, rec.Mod)
	_, err = t.Commit()
	return err
}
