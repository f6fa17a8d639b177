package sim

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// standStill is a host that is itself a virtual machine and is suspended: its
// processes and all its clocks stand still, and it notices nothing. Its calendar
// is wrong afterwards, until somebody sets it.
func (f *faults) standStill() {
	h, d := f.host(), f.length()
	f.strike("suspend host %s for %v", h.name, d)
	if f.rng.IntN(2) == 0 {
		f.after(d+time.Millisecond, func() { f.strike("calendar %s forward by %v", h.name, d) })
	}
}

// standStill stops the computer with its clocks; resume ends it.
func (h *host) standStill() {
	if h.computer == nil || h.paused {
		return
	}
	h.paused, h.stood = true, true
	h.computer.Suspend()
	if h.agent != nil {
		h.agent.Suspend()
	}
}

// jump sets the host's calendar.
func (h *host) jump(d time.Duration) {
	h.skew.Wall = h.skew.Wall.Add(d)
	for _, c := range []*simclock.Host{h.computer, h.agent} {
		if c != nil {
			c.JumpWall(d)
		}
	}
}

// jumpClock sets a host's calendar by anything between seconds and years, forward
// or back: nothing that matters may follow it.
func (f *faults) jumpClock() {
	by := f.upTo([]time.Duration{time.Minute, 48 * time.Hour, 20 * 365 * 24 * time.Hour}[f.rng.IntN(3)])
	f.strike("calendar %s %s by %v", f.host().name, []string{"forward", "back"}[f.rng.IntN(2)], by)
}

// deceived reports whether the host's clocks stood still so lately that it may
// take leases for good that have ended: what it then reads may be old, unless the
// volume's reads are confirmed.
func (h *host) deceived(v cluster.Volume) bool {
	if v.Reads == cluster.Confirmed {
		return false
	}
	return h.asleep()
}

// asleep reports whether the host's clocks stand still, or did so lately that it
// may not have noticed what happened meanwhile.
func (h *host) asleep() bool {
	return h.stood || h.wokeAt != 0 && h.s.w.Now()-h.wokeAt < replica.Lease+replica.Lease/replica.Drift
}
