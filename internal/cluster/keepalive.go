package cluster

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// The times of a host's lease.
const (
	LeaseTTL   = 4 * time.Second // from the last renewal to the host counting as lost
	RenewEvery = time.Second
	// renewAgain is how soon a renewal that is not answered is followed by another,
	// unless answers have lately taken longer: one that a cut link has swallowed is
	// sent again by TCP only after as long again as the cut lasted.
	renewAgain = 300 * time.Millisecond
	// maxRenewals may be under way at once: one that hangs on a member that
	// has just died must not cost the lease. Once the lease has run out there is
	// less hurry.
	maxRenewals  = 16
	fewRenewals  = 4
	roundsBefore = 2 // round trips that a renewal is waited for
)

// KeepAlive keeps a host's lease renewed and, under it, what the host says of
// itself. Its methods may be called from any task.
type KeepAlive struct {
	c    *Client
	wake clock.Event
	wg   *clock.Group

	mu         sync.Mutex
	alive      Alive
	dirty      bool // alive differs from what is published
	publishing bool
	renewing   int
	asked      time.Duration // when the newest renewal was begun
	took       time.Duration // by the last that succeeded
	word       Word
	wasValid   bool
	subs       []clock.Event
	stop       bool
}

// KeepAlive begins to keep the host of a alive. The caller stops it before it
// closes the client.
func (c *Client) KeepAlive(a Alive) *KeepAlive {
	k := &KeepAlive{c: c, wake: c.clk.NewEvent(), wg: clock.NewGroup(c.clk), alive: a, dirty: true}
	k.wg.Go(k.run)
	return k
}

// Update changes what the host says of itself; it is published with the next
// beat. f must not wait.
func (k *KeepAlive) Update(f func(*Alive)) {
	k.mu.Lock()
	f(&k.alive)
	k.dirty = true
	k.mu.Unlock()
	k.wake.Set()
}

// Lease returns the present lease; zero if there is none.
func (k *KeepAlive) Lease() kv.LeaseID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.word.Lease()
}

// Left is for how long the cluster is sure to count this host as alive, by the
// host's own clock and counted from before the last renewal that succeeded;
// zero or less if it may have been given up.
func (k *KeepAlive) Left() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leftLocked()
}

func (k *KeepAlive) leftLocked() time.Duration {
	return k.word.Left(k.c.clk.Now())
}

// Valid reports whether Left is positive.
func (k *KeepAlive) Valid() bool { return k.Left() > 0 }

// Confirmed returns when, by Clock.Now, the last successful renewal of the
// present lease was begun; ok is false if there is no lease.
func (k *KeepAlive) Confirmed() (at time.Duration, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.word.Confirmed()
}

// Standing is Word.Standing of the client's picture.
func (k *KeepAlive) Standing() (at time.Duration, ok bool) {
	rev := k.c.State().Rev
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.word.Standing(rev)
}

// Subscribe has ev set when the lease is gained, lost or runs out.
func (k *KeepAlive) Subscribe(ev clock.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.subs = append(slices.Clip(k.subs), ev)
}

// Unsubscribe ends that.
func (k *KeepAlive) Unsubscribe(ev clock.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.subs = slices.DeleteFunc(slices.Clone(k.subs), func(e clock.Event) bool { return e == ev })
}

// Stop ends the renewals. The lease is left to run out: a process that stops
// to be restarted or upgraded leaves its machines running, and is back before
// anybody has to act.
func (k *KeepAlive) Stop() {
	k.mu.Lock()
	k.stop = true
	k.mu.Unlock()
	k.wake.Set()
	k.wg.Wait()
}

// run beats once a second, and when there is something to do.
func (k *KeepAlive) run() {
	next := k.c.clk.Now()
	for {
		k.mu.Lock()
		stop, lease := k.stop, k.word.Lease()
		k.mu.Unlock()
		if stop {
			return
		}
		now := k.c.clk.Now()
		due := now >= next
		if due {
			next = now + RenewEvery
		}
		due = due || now >= k.hurry()
		switch {
		case lease == 0:
			k.grant()
		case due:
			k.startRenewal(lease)
		}
		k.startPublishing()
		k.notice()
		k.wake.Wait(k.pause(next))
	}
}

// pause is until the next beat, or until the lease runs out.
func (k *KeepAlive) pause(next time.Duration) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.c.clk.Now()
	d := next - now
	if left := k.leftLocked(); left > 0 {
		d = min(d, left, k.hurryLocked()-now)
	}
	return max(d, time.Millisecond)
}

// hurry is when another renewal is due because the newest has not been answered.
func (k *KeepAlive) hurry() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hurryLocked()
}

func (k *KeepAlive) hurryLocked() time.Duration {
	if k.word.confirmed >= k.asked || k.renewing >= maxRenewals || k.leftLocked() <= 0 {
		return math.MaxInt64
	}
	return k.asked + max(renewAgain, roundsBefore*k.took)
}

// grant gets a lease; without one there is nothing else to do.
func (k *KeepAlive) grant() {
	begun := k.c.clk.Now()
	id, err := k.c.st.Grant(LeaseTTL)
	if err != nil {
		k.c.log.Debug("no lease", "err", err)
		return
	}
	k.mu.Lock()
	k.word.Granted(id, begun)
	k.dirty = true
	k.mu.Unlock()
}

func (k *KeepAlive) startRenewal(id kv.LeaseID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.renewing >= maxRenewals || k.renewing >= fewRenewals && k.leftLocked() <= 0 {
		return
	}
	k.renewing++
	k.asked = k.c.clk.Now()
	k.wg.Go(func() { k.renew(id) })
}

func (k *KeepAlive) renew(id kv.LeaseID) {
	begun := k.c.clk.Now() // not before asked
	err := k.c.st.Renew(id)
	k.mu.Lock()
	k.renewing--
	switch {
	case k.word.Lease() != id:
	case err == nil:
		k.word.Renewed(id, begun)
		k.took = k.c.clk.Now() - begun
	case holdfast.IsKind(err, holdfast.NotFound):
		k.word.Ended(id)
	}
	k.mu.Unlock()
	if err != nil {
		k.c.log.Debug("the lease was not renewed", "err", err)
	}
	k.wake.Set()
}

// startPublishing writes what the host says of itself, if that has changed.
func (k *KeepAlive) startPublishing() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.dirty || k.publishing || k.word.Lease() == 0 {
		return
	}
	k.publishing, k.dirty = true, false
	a, id := k.alive, k.word.Lease()
	a.Wall = k.c.clk.Wall().UTC()
	k.wg.Go(func() { k.publish(a, id) })
}

func (k *KeepAlive) publish(a Alive, id kv.LeaseID) {
	t := k.c.Begin()
	putRecord(t, aliveKind(), a, Any, id)
	rev, err := t.Commit()
	k.mu.Lock()
	k.publishing = false
	switch {
	case err == nil:
		k.word.Published(id, rev)
	case holdfast.IsKind(err, holdfast.Invalid):
		k.c.log.Error("what this host says of itself cannot be stored", "err", err)
	default:
		k.dirty = true // written again with the next beat
	}
	if holdfast.IsKind(err, holdfast.NotFound) {
		k.word.Ended(id)
	}
	k.mu.Unlock()
}

// notice tells the subscribers when the lease begins or ceases to be valid.
func (k *KeepAlive) notice() {
	k.mu.Lock()
	valid := k.leftLocked() > 0
	changed := valid != k.wasValid
	k.wasValid = valid
	subs := k.subs
	k.mu.Unlock()
	if !changed {
		return
	}
	if valid {
		k.c.log.Info("this host's lease is held")
	} else {
		k.c.log.Warn("this host's lease has run out: the others may count it as lost")
	}
	for _, ev := range subs {
		ev.Set()
	}
}
