package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Reads of a volume whose reads are confirmed lean on no clock. When its data is
// there, a read waits until every in-sync replica has answered a question that was
// sent after the read had come: until then none of them had promised a later epoch,
// and no later writer opens the volume without such a promise of one of them. So
// what the read returns was not old when it came. Reads that come while a round of
// questions is under way share the next one.

// confirming is the reads of a volume that wait for such a round; v.mu guards it.
type confirming struct {
	waiting []*op // for the next
	round   []*op // for the one that is under way
	under   bool
	left    int  // members that have not answered it
	failed  bool // one of them could not be asked
}

// confirmAgain is how long after a round that failed the next one is begun.
const confirmAgain = 10 * time.Millisecond

// confirmed reports whether the volume's reads are; v.mu is held.
func (v *Volume) confirmed() bool { return v.rec.Reads == cluster.Confirmed }

// confirm completes a read, whose data is there, after a round; v.mu is held.
func (v *Volume) confirm(o *op) {
	v.confirms.waiting = append(v.confirms.waiting, o)
	v.nextRound()
}

// nextRound asks all in-sync replicas, unless a round is under way or no read
// waits; v.mu is held.
func (v *Volume) nextRound() {
	c := &v.confirms
	if c.under || len(c.waiting) == 0 {
		return
	}
	c.round, c.waiting = c.waiting, c.round[:0]
	c.under, c.left, c.failed = true, 0, v.local != nil && !v.local.stands(v.epoch)
	now := v.s.Clock.Now()
	for i := range v.m.Members() {
		if m := &v.m.Members()[i]; !m.Gone && m.InSync && m.ID != v.localID {
			c.left++
			v.askWhether(i, now)
		}
	}
	if c.left == 0 {
		v.endRound()
	}
}

// askWhether asks member i whether it still stands by this writer; v.mu is held.
func (v *Volume) askWhether(i int, now time.Duration) {
	v.m.Ask(i, now)
	ask := replica.Ask{Replica: v.m.Members()[i].ID, Epoch: v.epoch, Stable: v.m.Stable()}
	f := transport.Frame{Kind: replica.KindAppend, Head: ask.AppendTo(nil)}
	v.s.Net.Send(v.refs[i].Host, f, askTimeout, func(f transport.Frame, err error) {
		v.mu.Lock()
		v.takeAnswer(i, f, err, now)
		c := &v.confirms
		c.failed = c.failed || err != nil
		if c.left--; c.left == 0 && v.failed == nil {
			v.endRound()
		}
		v.pump()
		done := v.takeDone()
		v.mu.Unlock()
		tell(done)
	})
}

// endRound completes the reads of a round that all have answered, or has them wait
// for another one; v.mu is held.
func (v *Volume) endRound() {
	c := &v.confirms
	c.under = false
	if c.failed {
		c.waiting = append(c.waiting, c.round...)
		c.round = c.round[:0]
		v.s.Clock.AfterFunc(confirmAgain, v.confirmLater)
		return
	}
	for i, o := range c.round {
		c.round[i] = nil
		v.pendIssued(o)
	}
	c.round = c.round[:0]
	v.nextRound()
}

func (v *Volume) confirmLater() {
	v.mu.Lock()
	if v.failed == nil {
		v.nextRound()
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

// dropUnconfirmed ends the reads that wait for a round; v.mu is held.
func (v *Volume) dropUnconfirmed(err error) {
	c := &v.confirms
	for _, o := range append(c.waiting, c.round...) {
		v.finishLocked(o, err)
	}
	c.waiting, c.round = nil, nil
}

// stands reports whether the replica has promised nobody a later epoch than e. It
// takes no lock, for its caller holds the volume's.
func (m *member) stands(e holdfast.Epoch) bool { return holdfast.Epoch(m.highest.Load()) <= e }
