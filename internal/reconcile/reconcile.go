// Package reconcile is the loop of the elected leader: it takes a picture of
// the cluster, asks the planners what is to change, and commits that, each
// change on the condition that everything it was decided on still stands and
// that this host still leads. Hosts that do not lead run the same loop and only
// watch, so that the next leader knows what the last one knew.
//
// A conflict is no error: somebody else was quicker, and the next picture tells
// what is left to do. After an unknown outcome it reads before it decides.
package reconcile

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Times of the loop.
const (
	heartbeat   = 5 * time.Second // the longest pause
	catchUp     = time.Second     // how long the picture may take to show a commit
	firstPause  = 50 * time.Millisecond
	longPause   = 2 * time.Second
	manyRetries = 6
)

// Cluster is what the loop needs of the control plane; *cluster.Client has it.
type Cluster interface {
	State() *cluster.State
	Refresh() (*cluster.State, error)
	WaitRev(rev kv.Rev, timeout time.Duration) bool
	Subscribe(clock.Event)
	Unsubscribe(clock.Event)
	Begin() *cluster.Txn
}

// Office tells whether this host leads; *cluster.Election has it.
type Office interface {
	Leading() (mod kv.Rev, ok bool)
}

// Options are the parts of a loop.
type Options struct {
	Clock   clock.Clock
	Cluster Cluster
	Office  Office
	Voters  Voters    // nil: an external etcd, whose members are not ours to choose
	Rand    io.Reader // for the identities of new replicas
	Log     *slog.Logger
	HA      ha.Config
}

// Loop is a running loop. Its own task owns everything but the flags under mu.
type Loop struct {
	o       Options
	machine *ha.Machine
	ev      clock.Event
	group   *clock.Group
	led     bool
	trouble int // passes in a row that did not get through

	mu      sync.Mutex
	stopped bool
	ballot  ballot
}

// Start starts a loop, which runs until Stop.
func Start(o Options) *Loop {
	o.Log = o.Log.With("part", "reconcile")
	l := &Loop{o: o, machine: ha.New(o.HA), ev: o.Clock.NewEvent(), group: clock.NewGroup(o.Clock)}
	o.Cluster.Subscribe(l.ev)
	l.group.Go(l.run)
	return l
}

// Stop ends the loop and returns when nothing of it runs any more.
func (l *Loop) Stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.ev.Set()
	l.group.Wait()
	l.o.Cluster.Unsubscribe(l.ev)
}

func (l *Loop) isStopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

func (l *Loop) run() {
	for !l.isStopped() {
		wait := l.pass()
		if wait < 0 || wait > heartbeat {
			wait = heartbeat
		}
		if wait > 0 {
			l.ev.Wait(wait)
		}
	}
}

// pass looks once and does what is due. It returns how long nothing more is.
func (l *Loop) pass() time.Duration {
	s := l.o.Cluster.State()
	if s.Rev == 0 {
		return -1 // nothing was read yet
	}
	now := l.o.Clock.Now()
	office, leads := l.o.Office.Leading()
	l.tellOffice(leads)
	if !leads {
		return l.machine.Observe(now, s)
	}
	vote := l.vote(now, s)
	changes, wait := l.machine.Step(now, l.o.Clock.Wall().UTC(), s)
	if len(changes) == 0 {
		l.trouble = 0
		return sooner(wait, vote)
	}
	rev, err := l.commitAll(office, changes)
	if err != nil {
		return l.afterTrouble(err)
	}
	l.trouble = 0
	l.o.Cluster.WaitRev(rev, catchUp)
	return 0
}

// sooner returns the shorter of two waits, of which a negative one has no end.
func sooner(a, b time.Duration) time.Duration {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}

func (l *Loop) tellOffice(leads bool) {
	if leads != l.led {
		l.led = leads
		l.o.Log.Info("leading", "leads", leads)
	}
}

// afterTrouble reads afresh and says how long to wait before the next pass: not
// at all after a first conflict, then ever longer.
func (l *Loop) afterTrouble(err error) time.Duration {
	l.trouble++
	if _, rerr := l.o.Cluster.Refresh(); rerr != nil {
		l.o.Log.Debug("reading afresh failed", "err", rerr)
	}
	if l.trouble == 1 && holdfast.IsKind(err, holdfast.Conflict) {
		return 0
	}
	pause := min(firstPause<<min(l.trouble-1, manyRetries), longPause)
	clock.Sleep(l.o.Clock, pause) // not cut short by every change of the picture
	return 0
}

// commitAll commits changes in order, until one fails.
func (l *Loop) commitAll(office kv.Rev, changes []ha.Change) (rev kv.Rev, err error) {
	written := map[string]kv.Rev{} // incidents of this pass
	for _, c := range changes {
		r, err := l.commit(office, c, written)
		if err != nil {
			l.tellRefused(c, err)
			return rev, err
		}
		rev = r
		if c.What != "incident" {
			l.o.Log.Info("change made", "what", c.What, "text", c.Text, "rev", r)
		}
	}
	return rev, nil
}

// tellRefused logs a change that was not made: what will be tried again is no
// error.
func (l *Loop) tellRefused(c ha.Change, err error) {
	tell := l.o.Log.Error
	switch holdfast.KindOf(err) {
	case holdfast.Conflict, holdfast.Unavailable, holdfast.Unknown:
		tell = l.o.Log.Info
	}
	tell("change not made", "what", c.What, "text", c.Text, "err", err)
}

// commit makes one change. Incidents that an earlier change of the same pass
// has written are followed from there.
func (l *Loop) commit(office kv.Rev, c ha.Change, written map[string]kv.Rev) (kv.Rev, error) {
	t := l.o.Cluster.Begin()
	t.AsLeader(office)
	for _, life := range c.Lives {
		t.RequireAlive(life.Host, life.Mod)
	}
	for _, rec := range c.Volumes {
		v, err := l.identify(rec.Val)
		if err != nil {
			return 0, err
		}
		t.PutVolume(v, rec.Mod)
	}
	for _, rec := range c.VMs {
		t.PutVM(rec.Val, rec.Mod)
	}
	for _, rec := range c.Incidents {
		mod, ok := written[rec.Val.ID]
		if !ok {
			mod = rec.Mod
		}
		t.PutIncident(rec.Val, mod)
	}
	for _, rec := range c.Gone {
		t.DeleteIncident(rec.Val.ID, rec.Mod)
	}
	rev, err := t.Commit()
	if err != nil {
		return 0, err
	}
	for _, rec := range c.Incidents {
		written[rec.Val.ID] = rev
	}
	return rev, nil
}

// identify gives the replicas that have none an identity.
func (l *Loop) identify(v cluster.Volume) (cluster.Volume, error) {
	v.Others = slices.Clone(v.Others)
	for i := range v.Others {
		if v.Others[i].ID.IsZero() {
			u, err := holdfast.NewUUID(l.o.Rand)
			if err != nil {
				return v, fmt.Errorf("a new replica of volume %s: %w", v.Name, err)
			}
			v.Others[i].ID = holdfast.ReplicaID{UUID: u}
		}
	}
	return v, nil
}
