package replica

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// Report is what a replica says of itself when it promises an epoch.
type Report struct {
	Replica  holdfast.ReplicaID
	Boot     holdfast.BootID
	Promise  holdfast.Epoch // after this promise; above the asked epoch it was refused
	Prefix   holdfast.LSN
	Durable  holdfast.LSN
	Stable   holdfast.LSN
	Kept     bool // its memory is the one that acknowledged its last epoch's writes
	Building bool
	Damaged  bool
	Blocks   uint64
	Lease    time.Duration // what is left of the lease it granted an earlier writer
	History  []record.Start
}

// Eligible reports whether the replica's content may be served.
func (r *Report) Eligible() bool { return !r.Building && !r.Damaged }

// Cut is the outcome of a take-over's first half.
type Cut struct {
	LSN  holdfast.LSN  // everything up to it is kept, everything above is dropped
	Best int           // index of a report that holds it
	Kept bool          // some eligible member kept its memory
	Wait time.Duration // outwait the leases of earlier writers
}

// Takeover finds the cut among the reports of in-sync members: the highest
// prefix of an eligible one. ok is false if none is eligible.
func Takeover(reports []Report) (c Cut, ok bool) {
	c.Best = -1
	for i := range reports {
		r := &reports[i]
		c.Wait = max(c.Wait, r.Lease)
		if !r.Eligible() {
			continue
		}
		c.Kept = c.Kept || r.Kept
		if c.Best < 0 || r.Prefix > c.LSN {
			c.Best, c.LSN = i, r.Prefix
		}
	}
	return c, c.Best >= 0
}

// Common returns the last LSN that two histories share: both hold the same
// records up to it, given that each holds everything up to its prefix.
// History starts ascend; a start's Cut ends what counts of the epochs before.
func Common(a []record.Start, aPrefix holdfast.LSN, b []record.Start, bPrefix holdfast.LSN) holdfast.LSN {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	// The histories part after i starts: each side's part of what was begun
	// by the last common start ends at its next cut, or at its prefix.
	end := func(h []record.Start, prefix holdfast.LSN) holdfast.LSN {
		if i < len(h) {
			return min(h[i].Cut, prefix)
		}
		return prefix
	}
	return min(end(a, aPrefix), end(b, bPrefix))
}

// Next returns the epoch for an opening: above the record's and above any
// promise heard of.
func Next(recorded holdfast.Epoch, promises ...holdfast.Epoch) holdfast.Epoch {
	for _, p := range promises {
		recorded = max(recorded, p)
	}
	return recorded + 1
}
