package sim

import (
	"time"

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
