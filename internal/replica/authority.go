package replica

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Authority is whom a replica serves: the writer of the epoch it promised, which
// holds the lease that it granted with its last answer. Times are those of the
// replica's host, monotonic.
type Authority struct {
	promise holdfast.Epoch // refused below
	leased  holdfast.Epoch // the writer that holds the lease; 0: none
	until   time.Duration  // and how long
}

// Awakened is the authority of a replica that has just come to life, with what it
// has promised on its disk: the writer of an earlier epoch, whichever, may hold a
// lease that an earlier process granted.
func Awakened(promise holdfast.Epoch, now time.Duration) Authority {
	a := Authority{promise: promise}
	if promise != 0 {
		a.leased, a.until = 1, now+Lease
	}
	return a
}

// Promise is the lowest epoch that is not refused.
func (a *Authority) Promise() holdfast.Epoch { return a.promise }

// Inherit takes over the lease that another authority over the same replica has
// granted.
func (a *Authority) Inherit(old *Authority) { a.leased, a.until = old.leased, old.until }

// Authorize checks a request's epoch and, if the request proves its writer alive,
// grants it a lease. Kind Fenced: another epoch was promised; kind Unavailable: this
// one is not known here.
func (a *Authority) Authorize(id holdfast.ReplicaID, e holdfast.Epoch, now time.Duration) error {
	if e != a.promise {
		if e < a.promise {
			return holdfast.Errorf(holdfast.Fenced, "replica %s promised epoch %d; a writer of epoch %d may no longer use it", id.Short(), a.promise, e)
		}
		return holdfast.Errorf(holdfast.Unavailable, "replica %s knows epochs up to %d only, and its writer is at %d", id.Short(), a.promise, e)
	}
	a.leased, a.until = e, now+Lease
	return nil
}

// Raise promises an epoch, unless more is promised already. Whoever raises it
// makes it durable before it tells anybody.
func (a *Authority) Raise(e holdfast.Epoch) (refused bool) {
	if e < a.promise {
		return true
	}
	a.promise = e
	return false
}

// LeaseBelow is what is left of a lease that a writer of an epoch below e holds.
func (a *Authority) LeaseBelow(e holdfast.Epoch, now time.Duration) time.Duration {
	if a.leased == 0 || a.leased >= e {
		return 0
	}
	return max(0, a.until-now)
}

// Granted is the epoch whose writer holds the last lease that was granted, and
// until when; 0: there was none.
func (a *Authority) Granted() (e holdfast.Epoch, until time.Duration) { return a.leased, a.until }
