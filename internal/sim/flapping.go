package sim

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// flap is a path that comes and goes: a host is cut off and reached again, time
// after time, each time for as long as it takes just to notice, or just not.
func (f *faults) flap() {
	h := f.host()
	in, out := f.rng.IntN(4) > 0, f.rng.IntN(4) > 0
	if !in && !out {
		in, out = true, true
	}
	kv := f.rng.IntN(2) == 0
	n := 3 + f.rng.IntN(8)
	most := []time.Duration{300 * time.Millisecond, 2 * time.Second, 4 * time.Second}[f.rng.IntN(3)]
	f.s.tell("fault: the path to %s comes and goes %d times (in %v, out %v, control plane %v)", h.name, n, in, out, kv)
	f.s.c.Go(func() {
		for range n {
			if f.s.ending {
				return
			}
			f.s.res.Partitions++
			f.s.net.CutHost(h.rec.ID, in, out)
			if kv {
				f.s.kv.Cut(h.name, out, in)
			}
			clock.Sleep(f.s.c, time.Duration(1+f.rng.Int64N(int64(most))))
			f.mend(h)
			clock.Sleep(f.s.c, time.Duration(1+f.rng.Int64N(int64(most))))
		}
	})
}

// crashAgain ends a host again and again while it recovers from the last end.
func (f *faults) crashAgain() {
	h := f.replicaHost()
	n := 2 + f.rng.IntN(4)
	f.s.tell("fault: %s crashes %d times, each time while it recovers", h.name, n)
	f.s.c.Go(func() {
		for range n {
			if f.s.ending || h.paused {
				break
			}
			if f.rng.IntN(3) == 0 {
				h.processDies()
			} else {
				h.powerCut()
			}
			clock.Sleep(f.s.c, time.Duration(f.rng.Int64N(int64(50*time.Millisecond))))
			h.powerOn()
			f.whileRecovering(h)
		}
		h.powerOn()
	})
}

// whileRecovering waits for a moment within the host's recovery, which takes some
// milliseconds, or just after it.
func (f *faults) whileRecovering(h *host) {
	d := []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second}[f.rng.IntN(4)]
	clock.Sleep(f.s.c, time.Duration(1+f.rng.Int64N(int64(d))))
}
