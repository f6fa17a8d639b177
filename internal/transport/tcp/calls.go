package tcp

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// maxCalls bounds the calls that wait for one host's replies.
const (
	slotBits = 20
	maxCalls = 1 << slotBits
)

// never is the deadline of a call without a timeout.
const never = time.Duration(math.MaxInt64)

type doneFunc = func(transport.Frame, error)

// calls are the calls to one host that have not ended. A call's id is its
// place in order of sending, above the number of the slot it sits in: looking
// one up is an index, and a late reply to an ended call matches nothing.
// Deadlines are not sorted: the earliest is a lower bound, and whoever finds
// it past scans the slots and learns the next. Calls end in far less than
// their timeout, so scans are as rare as timeouts are long.
//
// The owner's lock guards it.
type calls struct {
	slots    []callSlot
	free     []uint32
	seq      uint64
	earliest time.Duration // no deadline is before it
}

type callSlot struct {
	id       uint64 // 0: free; otherwise never 0, since seq starts at 1
	deadline time.Duration
	done     doneFunc
}

func (c *calls) len() int { return len(c.slots) - len(c.free) }

// add returns the id of a new call; ok is false if there are too many.
func (c *calls) add(done doneFunc, deadline time.Duration) (id uint64, ok bool) {
	var slot uint32
	if n := len(c.free); n > 0 {
		slot, c.free = c.free[n-1], c.free[:n-1]
	} else if len(c.slots) < maxCalls {
		slot = uint32(len(c.slots))
		c.slots = append(c.slots, callSlot{})
	} else {
		return 0, false
	}
	c.seq++
	id = c.seq<<slotBits | uint64(slot)
	c.slots[slot] = callSlot{id: id, deadline: deadline, done: done}
	return id, true
}

// take ends a call and returns its done, or nil if there is no such call.
func (c *calls) take(id uint64) doneFunc {
	slot := id & (maxCalls - 1)
	if id == 0 || slot >= uint64(len(c.slots)) || c.slots[slot].id != id {
		return nil
	}
	done := c.slots[slot].done
	c.slots[slot] = callSlot{}
	c.free = append(c.free, uint32(slot))
	return done
}

// takeDue ends the calls whose deadline is at or before now, in order of
// sending, and sets earliest to the first deadline left.
func (c *calls) takeDue(now time.Duration) []doneFunc {
	var ids []uint64
	c.earliest = never
	for i := range c.slots {
		switch s := &c.slots[i]; {
		case s.id == 0:
		case s.deadline <= now:
			ids = append(ids, s.id)
		case s.deadline < c.earliest:
			c.earliest = s.deadline
		}
	}
	slices.Sort(ids)
	due := make([]doneFunc, len(ids))
	for i, id := range ids {
		due[i] = c.take(id)
	}
	return due
}

// takeAll ends every call, in order of sending.
func (c *calls) takeAll() []doneFunc { return c.takeDue(never) }
