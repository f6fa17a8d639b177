package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// stableEvery bounds how far stable falls behind when nobody flushes.
const (
	stableEvery = time.Second
	stableBytes = 64 << 20
)

// watch is the volume's timer: it renews leases, finds the silent, sends again
// and advances stable. It ends when the volume fails.
func (v *Volume) watch() {
	for {
		v.tick.Wait(tickEvery)
		v.mu.Lock()
		if v.failed != nil {
			v.mu.Unlock()
			return
		}
		v.tickLocked(v.s.Clock.Now())
		done := v.takeDone()
		v.mu.Unlock()
		tell(done)
		v.mendSome()
		v.dropOrphansSometimes()
	}
}

func (v *Volume) tickLocked(now time.Duration) {
	for _, i := range v.m.Silent(now, nil) {
		v.propose(i, "it did not answer in time")
	}
	for i := range v.m.Members() {
		m := &v.m.Members()[i]
		if m.Gone || m.ID == v.localID {
			continue
		}
		if m.Asked != 0 || m.LeaseUntil-now < replica.LeaseWriter-pingEvery {
			v.ping(i, now)
		}
	}
	v.settleInAny()
	if v.mayRelease() {
		v.reconfig.Set()
	}
	v.advanceStable(now)
	v.pump()
	v.admitLocked()
}

// ping asks member i for an answer, which renews its lease.
func (v *Volume) ping(i int, now time.Duration) {
	v.m.Ask(i, now)
	ask := replica.Ask{Replica: v.m.Members()[i].ID, Epoch: v.epoch, Stable: v.m.Stable()}
	f := transport.Frame{Kind: replica.KindAppend, Head: ask.AppendTo(nil)}
	v.s.Net.Send(v.refs[i].Host, f, askTimeout, func(f transport.Frame, err error) {
		v.mu.Lock()
		v.takeAnswer(i, f, err, now)
		v.pump()
		done := v.takeDone()
		v.mu.Unlock()
		tell(done)
	})
}

// advanceStable syncs in the background when nobody asked for it for a while,
// so that memory and the work after a crash stay bounded.
func (v *Volume) advanceStable(now time.Duration) {
	acked := v.m.Acked()
	stable := v.m.Stable()
	if stable >= acked {
		v.stable = now
		return
	}
	if now-v.stable >= stableEvery || uint64(acked-stable) > stableBytes/holdfast.BlockSize {
		v.stable = now
		v.syncUpto(acked)
	}
}

// leaseless parks a read whose lease has run out until the next answers: it
// may be served only if all in-sync members still stand by this writer. v.mu
// is held.
func (v *Volume) leaseless(o *op) {
	now := v.s.Clock.Now()
	for i := range v.m.Members() {
		m := &v.m.Members()[i]
		if !m.Gone && m.InSync && m.ID != v.localID && now >= m.LeaseUntil {
			v.ping(i, now)
		}
	}
	req, began := o.req, o.began
	putOp(o)
	v.s.Clock.AfterFunc(10*time.Millisecond, func() { v.read(req, began) })
}

// LeaseLeft is for how long every other in-sync replica is sure to stand by this
// writer: so long nobody else opens the volume, and it serves without asking
// anybody. Zero or less: they may not.
func (v *Volume) LeaseLeft() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return 0
	}
	return v.m.LeaseLeft(v.localID, v.s.Clock.Now())
}
