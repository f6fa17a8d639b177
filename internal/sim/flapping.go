package sim

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// series strikes several times, one after the other, and waits in between for as
// long as each says.
func (f *faults) series(n int, strike func() (wait time.Duration)) {
	f.s.c.Go(func() {
		for range n {
			if f.over {
				return
			}
			clock.Sleep(f.s.c, strike())
		}
	})
}

// flap is a path that comes and goes: a host is cut off and reached again, time
// after time, each time for as long as it takes just to notice, or just not.
func (f *faults) flap() {
	h, way, plane := f.host(), "", " data"
	in, out := f.rng.IntN(4) > 0, f.rng.IntN(4) > 0
	switch {
	case in && !out:
		way = " in"
	case out && !in:
		way = " out"
	}
	if f.rng.IntN(2) == 0 {
		plane = ""
	}
	most := []time.Duration{300 * time.Millisecond, 2 * time.Second, 4 * time.Second}[f.rng.IntN(3)]
	f.series(3+f.rng.IntN(8), func() time.Duration {
		d := time.Millisecond + f.upTo(most)
		f.strike("cut host %s%s%s for %v", h.name, way, plane, d)
		return d + time.Millisecond + f.upTo(most)
	})
}

// crashAgain ends a host again and again while it recovers from the last end,
// which takes some milliseconds, or just after it.
func (f *faults) crashAgain() {
	h := f.replicaHost()
	f.series(2+f.rng.IntN(4), func() time.Duration {
		how, d := "power off", f.upTo(50*time.Millisecond)
		if f.rng.IntN(3) == 0 {
			how = "kill"
		}
		f.strike("%s host %s for %v", how, h.name, d)
		return d + time.Millisecond + f.upTo([]time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second}[f.rng.IntN(4)])
	})
}

const ( // of an election, after a leader that is gone: etcd's, as the product sets it up
	electionLeast = 1200 * time.Millisecond
	electionMost  = 2400 * time.Millisecond
)

// kvElects has the control plane lose its leader, several times in a row: calls
// are refused, swallowed, or done without an answer until there is the next one,
// watches break, and no lease ends.
func (f *faults) kvElects() {
	f.series(1+f.rng.IntN(4), func() time.Duration {
		d := electionLeast + f.upTo(electionMost-electionLeast)
		if f.rng.IntN(4) == 0 { // it hands its place over
			d = time.Millisecond + f.upTo(200*time.Millisecond)
		}
		f.strike("kv away for %v", d)
		return d + time.Millisecond + f.upTo(3*time.Second)
	})
}
