package sim

import (
	"crypto/sha256"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// In every second seed the operator lies in wait for half of what it does: it
// strikes a client's volume in the moment in which it is taken over, or in which a
// replica joins it.

// worst is when the operator strikes.
type worst struct {
	rng   *rand.Rand
	on    bool
	seen  map[holdfast.VolumeID]holdfast.Epoch
	acted int
}

const (
	worstLook = 20 * time.Millisecond
	worstWait = 6 * time.Second
	worstLate = 400 * time.Millisecond // after the moment was seen, at most
	drainFor  = 2 * time.Second
)

func (s *simulation) newWorst() *worst {
	x := &worst{rng: s.w.Rand("worst moments"), seen: make(map[holdfast.VolumeID]holdfast.Epoch)}
	x.on = x.rng.IntN(2) == 0
	return x
}

// moment waits for a volume that is just taken over or joined; nil: there was none
// in time.
func (o *operator) moment() *blockClient {
	joins := o.worst.rng.IntN(2) == 0
	for _, c := range o.s.clients {
		o.worst.seen[c.vol.ID] = o.s.eye.State().Volumes[c.vol.ID].Val.Epoch
	}
	for end := o.s.w.Now() + worstWait; o.s.w.Now() < end && !o.over; o.wake.Wait(worstLook) {
		for _, c := range o.s.clients {
			v := o.s.eye.State().Volumes[c.vol.ID].Val
			if joins && len(v.Others) > 0 && v.Writer != v.Others[0].Host && o.s.eye.State().AliveHost(v.Others[0].Host) || !joins && v.Epoch > o.worst.seen[c.vol.ID] {
				clock.Sleep(o.s.c, time.Duration(o.worst.rng.Int64N(int64(worstLate))))
				return c
			}
		}
	}
	return nil
}

// strikeAt does something to a client's volume.
func (o *operator) strikeAt(c *blockClient) (string, error) {
	o.worst.acted++
	switch o.worst.rng.IntN(7) {
	case 0, 1:
		return o.snapshotOf(c)
	case 2:
		return o.growOf(c)
	case 3:
		return o.dropSnapshot()
	case 4:
		return o.dropClone()
	case 5:
		return o.drainAway(c)
	}
	return o.revert()
}

// drainAway drains the host that writes a client's volume for a moment.
func (o *operator) drainAway(c *blockClient) (string, error) {
	what := "drain who writes " + c.vol.Name
	h := o.s.byID(o.s.eye.State().Volumes[c.vol.ID].Val.Writer)
	if h == nil || !o.s.drains.order(h, true) {
		return what, holdfast.Errorf(holdfast.Unavailable, "it cannot be drained")
	}
	o.wake.Wait(drainFor)
	o.s.drains.order(h, false)
	return what + " (" + h.name + ")", nil
}

// lookAgain reads a snapshot of a client's volume from a replica in sync, in the
// middle of everything: it never changes (and a replica that cannot be read now
// tells nothing).
func (o *operator) lookAgain() (string, error) {
	if len(o.snaps) == 0 {
		return "look at a snapshot", holdfast.Errorf(holdfast.NotFound, "there is none")
	}
	k := o.snaps[o.worst.rng.IntN(len(o.snaps))]
	what := "look at snapshot " + k.snap.Name + " of " + k.c.vol.Name
	v := o.s.eye.State().Volumes[k.c.vol.ID].Val
	if len(v.InSync) == 0 {
		return what, holdfast.Errorf(holdfast.Unavailable, "no replica is in sync")
	}
	got, err := o.s.read(v.InSync[o.worst.rng.IntN(len(v.InSync))], volumeBlocks, func(r *store.Replica, buf []byte) error {
		return r.ReadSnapshot(k.snap.ID, buf, 0, o.s.opener(v))
	})
	if err == nil && got != nil {
		o.same(k, what, got)
	}
	return what, err
}

// same checks that a snapshot is what it was when it was first read.
func (o *operator) same(k *keptSnapshot, what string, content []byte) {
	is := sha256.Sum256(content)
	if k.read && k.was != is {
		o.s.fail("%s: it is not what it was (a snapshot never changes)", what)
	}
	k.read, k.was = true, is
}
