package cluster

import (
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// campaignEvery is how often a candidate looks again without being woken.
const campaignEvery = 2 * time.Second

// Election is one host's candidacy for the office that only one host holds:
// the reconciler's. The office hangs on the host's lease and ends with it.
type Election struct {
	c    *Client
	ka   *KeepAlive
	host holdfast.HostID
	wake clock.Event
	wg   *clock.Group

	mu   sync.Mutex
	stop bool
}

// Campaign stands for the office under ka's lease until Stop. The caller stops
// it before ka.
func (c *Client) Campaign(ka *KeepAlive, host holdfast.HostID) *Election {
	e := &Election{c: c, ka: ka, host: host, wake: c.clk.NewEvent(), wg: clock.NewGroup(c.clk)}
	e.wg.Go(e.run)
	return e
}

// Leading returns the revision of this host's election, for Txn.AsLeader; ok
// is false if it does not hold the office. What a leader decides is safe only
// through AsLeader: holding the office may end at any moment.
func (e *Election) Leading() (mod kv.Rev, ok bool) {
	s := e.c.State()
	ok = s.Leader == e.host && s.LeaderLease == e.ka.Lease() && e.ka.Valid()
	if !ok {
		return 0, false
	}
	return s.LeaderMod, true
}

// Stop ends the candidacy and gives the office up.
func (e *Election) Stop() {
	e.mu.Lock()
	e.stop = true
	e.mu.Unlock()
	e.wake.Set()
	e.wg.Wait()
	if mod, ok := e.Leading(); ok {
		t := e.c.Begin()
		t.require(keyLeader, mod)
		t.ops = append(t.ops, kv.Op{Key: keyLeader, Delete: true})
		if _, err := t.Commit(); err != nil {
			e.c.log.Debug("the office was not given up and ends with the lease", "err", err)
		}
	}
}

func (e *Election) stopped() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stop
}

func (e *Election) run() {
	e.c.Subscribe(e.wake)
	defer e.c.Unsubscribe(e.wake)
	e.ka.Subscribe(e.wake)
	defer e.ka.Unsubscribe(e.wake)
	for !e.stopped() {
		if e.open() {
			e.stand()
		}
		e.wake.Wait(campaignEvery)
	}
}

// open reports whether the office can be taken: nobody holds it, or this host
// does from a life before, under a lease that is not its own any more.
func (e *Election) open() bool {
	s := e.c.State()
	vacant := s.Leader.IsZero() || s.Leader == e.host && s.LeaderLease != e.ka.Lease()
	return s.Rev > 0 && vacant && e.ka.Valid()
}

func (e *Election) stand() {
	lease := e.ka.Lease()
	t := e.c.Begin()
	t.putElection(election{Host: e.host, Lease: lease}, e.c.State().LeaderMod)
	rev, err := t.Commit()
	if err == nil {
		e.c.log.Info("this host leads", "rev", rev)
		e.c.WaitRev(rev, kv.CallTimeout) // else it would stand again, against itself
		return
	}
	if !holdfast.IsKind(err, holdfast.Conflict) {
		e.c.log.Debug("standing for leader failed", "err", err)
	}
	// Somebody was quicker, or nobody knows: the truth decides.
	if _, err := e.c.Refresh(); err != nil {
		e.c.log.Debug("reading after an election failed", "err", err)
		clock.Sleep(e.c.clk, retryMin)
	}
}
