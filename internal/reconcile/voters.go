package reconcile

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// vote promotes hosts to voters where the planner wants more. It may take long,
// so it runs on a task of its own, one at a time, whose end wakes the loop. It
// returns how long no attempt is due; negative: until the picture changes.
func (l *Loop) vote(now time.Duration, s *cluster.State) time.Duration {
	if l.o.Voters == nil {
		return -1
	}
	want := placement.NewVoters(s)
	if len(want) == 0 {
		return -1
	}
	l.mu.Lock()
	busy, pause := l.voting, l.voteAt-now
	if !busy && pause <= 0 {
		l.voting, l.voteAt = true, now+voteEvery
	}
	l.mu.Unlock()
	switch {
	case busy:
		return -1
	case pause > 0:
		return pause
	}
	l.group.Go(func() { l.promote(want) })
	return -1
}

// promote makes hosts voters, one after the other, and records each once it is
// one: what is recorded is what CanLose counts on.
func (l *Loop) promote(hosts []cluster.Host) {
	defer func() {
		l.mu.Lock()
		l.voting = false
		l.mu.Unlock()
		l.ev.Set() // one that failed is tried again, though nothing changed
	}()
	for _, h := range hosts {
		if err := l.promoteOne(h); err != nil {
			l.o.Log.Info("host not made a voter yet", "host", h.Name, "err", err)
			return
		}
		l.o.Log.Info("host made a voter", "host", h.Name)
	}
}

func (l *Loop) promoteOne(h cluster.Host) error {
	office, leads := l.o.Office.Leading()
	if !leads || l.isStopped() {
		return holdfast.Errorf(holdfast.Fenced, "this host does not lead any more")
	}
	if err := l.o.Voters.Promote(h); err != nil {
		return err
	}
	s, err := l.o.Cluster.Refresh()
	if err != nil {
		return err
	}
	rec, ok := s.Hosts[h.ID]
	if !ok {
		return holdfast.Errorf(holdfast.NotFound, "host %s was removed meanwhile", h.Name)
	}
	rec.Val.Voter = true
	t := l.o.Cluster.Begin()
	t.AsLeader(office)
	t.PutHost(rec.Val, rec.Mod)
	_, err = t.Commit()
	return err
}
