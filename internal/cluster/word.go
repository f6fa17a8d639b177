package cluster

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Word is what a host has of the control plane's word that it lives: its lease,
// and since when that is confirmed. Times are the host's own, monotonic.
type Word struct {
	lease     kv.LeaseID
	confirmed time.Duration // start of the last renewal known to have succeeded
	published kv.Rev        // of the first word of this host under the lease; 0: none yet
	stood     time.Duration // for Standing
	hasStood  bool
}

// Granted begins a lease that was asked for at begun.
func (w *Word) Granted(id kv.LeaseID, begun time.Duration) {
	w.lease, w.confirmed, w.published = id, begun, 0
}

// Renewed notes that a renewal begun at a time succeeded, if the lease is still
// the present one.
func (w *Word) Renewed(id kv.LeaseID, begun time.Duration) {
	if w.lease == id {
		w.confirmed = max(w.confirmed, begun)
	}
}

// Ended notes that a lease is no more.
func (w *Word) Ended(id kv.LeaseID) {
	if w.lease == id {
		w.lease = 0
	}
}

// Published notes the revision of the host's first word under a lease.
func (w *Word) Published(id kv.LeaseID, rev kv.Rev) {
	if w.lease == id && w.published == 0 {
		w.published = rev
	}
}

// Lease is the present lease; zero if there is none.
func (w *Word) Lease() kv.LeaseID { return w.lease }

// Left is for how long the cluster is sure to count the host as alive, zero or
// less if it may have been given up.
func (w *Word) Left(now time.Duration) time.Duration {
	if w.lease == 0 {
		return 0
	}
	return w.confirmed + LeaseTTL - now
}

// Confirmed is when the last successful renewal of the present lease was begun;
// ok is false if there is no lease.
func (w *Word) Confirmed() (at time.Duration, ok bool) { return w.confirmed, w.lease != 0 }

// Standing is Confirmed of the newest lease under which the host had said that it
// is alive before a picture at rev was read: what that picture gives to this host
// is given to no other before LeaseTTL after that has passed, for whoever does
// requires that the host says nothing any more. ok is false if there has been none.
func (w *Word) Standing(rev kv.Rev) (at time.Duration, ok bool) {
	if w.lease != 0 && w.published != 0 && rev >= w.published {
		w.stood, w.hasStood = max(w.stood, w.confirmed), true
	}
	return w.stood, w.hasStood
}

// First is the revision of the host's first word under the lease; 0: none yet.
func (w *Word) First() kv.Rev { return w.published }
