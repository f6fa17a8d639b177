package volume

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// throttle holds the requests of a volume's sessions to its limits: those that
// have to wait do so in the order in which they came, before the volume knows of
// them. Volume.mu guards it.
//
// Flushes pass: they cover what has completed, which no waiting request has.
type throttle struct {
	bucket bucket
	queue  []delayed
	busy   bool        // startDelayed is at work: while anything waits
	wake   clock.Event // for it: there is something else to wait for
}

// delayed is a request that waits for the volume's limits.
type delayed struct {
	ss    *session
	req   *export.Request
	since time.Duration
}

// leastPause is how long startDelayed waits at least, so that it wakes up no more
// than 1000 times a second; what came due meanwhile starts together.
const leastPause = time.Millisecond

// setLimits makes l the volume's limits. What waits then does so for them; v.mu
// is held or v is new.
func (v *Volume) setLimits(l cluster.Limits) {
	none := cluster.Limits{}
	switch {
	case v.throttle == nil && l == none || v.throttle != nil && v.throttle.bucket.limits == l:
		return
	case v.throttle == nil:
		v.throttle = &throttle{wake: v.s.Clock.NewEvent()}
	}
	t := v.throttle
	t.bucket.change(l, v.s.Clock.Now())
	if l == none && !t.busy {
		v.throttle = nil // else startDelayed does that, when what waits has started
	}
	t.wake.Set()
}

// hold has a request wait if the volume's limits say so, and reports whether it
// does. It does not block.
func (v *Volume) hold(ss *session, r *export.Request) bool {
	if r.Op == export.Flush {
		return false
	}
	v.mu.Lock()
	t := v.throttle
	if t == nil || v.failed != nil || ss.closed {
		v.mu.Unlock()
		return false
	}
	now := v.s.Clock.Now()
	if len(t.queue) == 0 && t.bucket.wait(now) == 0 {
		ops, bytes := price(r)
		t.bucket.take(ops, bytes, now)
		v.mu.Unlock()
		return false
	}
	r.Next = false // by the time it starts nobody will push it
	t.queue = append(t.queue, delayed{ss, r, now})
	v.stats.Delayed++
	if !t.busy {
		t.busy = true
		v.tasks.Go(func() { v.startDelayed(t) })
	}
	v.pump() // what came before it may have relied on it for that
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	return true
}

// startDelayed starts what waits, each when its time has come, and ends when nothing
// waits any more.
func (v *Volume) startDelayed(t *throttle) {
	for {
		d, wait, ok := v.nextDelayed(t)
		switch {
		case !ok:
			return
		case wait > 0:
			t.wake.Wait(max(wait, leastPause))
		case d.req.Op == export.Read: // may go to the disk
			v.tasks.Go(func() { v.submitFor(d.ss, d.req) })
		default:
			v.submitFor(d.ss, d.req)
		}
	}
}

// nextDelayed takes the request out that is to start now, or tells how long that
// is off; ok is false if there is none.
func (v *Volume) nextDelayed(t *throttle) (d delayed, wait time.Duration, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(t.queue) == 0 {
		t.busy, t.queue = false, nil
		if t.bucket.limits == (cluster.Limits{}) {
			v.throttle = nil
		}
		return d, 0, false
	}
	now := v.s.Clock.Now()
	d = t.queue[0]
	if wait = min(t.bucket.wait(now), d.since+maxDelay-now); wait > 0 {
		return delayed{}, wait, true
	}
	t.queue[0] = delayed{}
	t.queue = t.queue[1:]
	ops, bytes := price(d.req)
	t.bucket.take(ops, bytes, now)
	return d, 0, true
}

// dropDelayed ends the requests that wait for the volume's limits, all or those
// of one session; v.mu is held.
func (v *Volume) dropDelayed(ss *session, err error) {
	if v.throttle == nil {
		return
	}
	v.throttle.queue = slices.DeleteFunc(v.throttle.queue, func(d delayed) bool {
		if ss != nil && d.ss != ss {
			return false
		}
		v.finishLocked(newOp(d.req), err)
		return true
	})
	v.throttle.wake.Set()
}
