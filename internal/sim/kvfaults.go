package sim

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

// kvAway takes the control plane away, or has it change its leader.
func (f *faults) kvAway() {
	if f.rng.IntN(2) == 0 {
		f.s.tell("fault: the control plane is away")
		f.s.kv.SetDown(true)
		f.later(func() { f.s.kv.SetDown(false) })
		return
	}
	f.s.tell("fault: the control plane changes its leader")
	f.s.kv.ChangeLeader(time.Duration(f.rng.Int64N(int64(3 * time.Second))))
}

// kvSlow has every call take long; some take longer than their callers wait.
func (f *faults) kvSlow() {
	most := time.Duration(1+f.rng.IntN(30)) * 100 * time.Millisecond
	f.s.tell("fault: the control plane takes up to %.1f s, each way", most.Seconds())
	f.s.kv.SetLatency(memkv.LeastLatency, most)
	f.later(func() { f.s.kv.SetLatency(memkv.LeastLatency, memkv.MostLatency) })
}

// kvLossy loses answers: what was asked for may have been done.
func (f *faults) kvLossy() {
	p := 0.2 + 0.8*f.rng.Float64()
	f.s.tell("fault: the control plane's answers get lost (%.2f)", p)
	f.s.kv.SetLoss(0, p)
	f.later(func() { f.s.kv.SetLoss(0, 0) })
}

// kvForgets breaks all watches; some find that what they missed is forgotten.
func (f *faults) kvForgets() {
	f.s.tell("fault: the control plane's watches break and its history is compacted")
	f.s.kv.BreakWatches()
	f.s.kv.Compact()
}

const ( // of an election, after a leader that is gone: etcd's, as the product sets it up
	electionLeast = 1200 * time.Millisecond
	electionMost  = 2400 * time.Millisecond
)

// kvElects has the control plane lose its leader, several times in a row: calls
// are refused, swallowed, or done without an answer until there is the next one,
// watches break, and no lease ends.
func (f *faults) kvElects() {
	n := 1 + f.rng.IntN(4)
	f.s.tell("fault: the control plane loses its leader %d times", n)
	kv := f.s.kv
	f.s.c.Go(func() {
		for range n {
			if f.s.ending {
				return
			}
			d := electionLeast + time.Duration(f.rng.Int64N(int64(electionMost-electionLeast)))
			if f.rng.IntN(4) == 0 { // it hands its place over
				d = time.Duration(1 + f.rng.Int64N(int64(200*time.Millisecond)))
			}
			kv.SetDown(true)
			clock.Sleep(f.s.c, d)
			kv.SetDown(false)
			clock.Sleep(f.s.c, time.Duration(1+f.rng.Int64N(int64(3*time.Second))))
		}
	})
}
