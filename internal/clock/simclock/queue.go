package simclock

import "time"

// event is something that is due at a time. Whoever holds it may remove it
// from the queue until it is popped.
type event struct {
	host *Host // whose it is: dead hosts drop it, paused ones keep it; nil: nobody's
	run  func()
	i    int // where it is in the queue; -1: no more

	stood time.Duration // for how much of the world's time the host's clock had stood still when it was posted
}

// eventHeap is the queue, ordered by (time, sequence): a heap of four children
// per entry with its keys in place, since most of a world's time went into
// looking for them elsewhere.
type eventHeap []entry

type entry struct {
	at  time.Duration
	seq uint64
	*event
}

func (e entry) before(f entry) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

const children = 4

func (h *eventHeap) push(at time.Duration, seq uint64, e *event) {
	*h = append(*h, entry{at, seq, e})
	h.up(len(*h) - 1)
}

func (h *eventHeap) pop() entry {
	first := (*h)[0]
	h.remove(first.event)
	return first
}

// remove takes an event out, if it is still there.
func (h *eventHeap) remove(e *event) {
	i := e.i
	if i < 0 {
		return
	}
	e.i = -1
	last := len(*h) - 1
	moved := (*h)[last]
	(*h)[last] = entry{}
	*h = (*h)[:last]
	if i == last {
		return
	}
	(*h)[i] = moved
	moved.i = i
	if i > 0 && moved.before((*h)[(i-1)/children]) {
		h.up(i)
	} else {
		h.down(i)
	}
}

func (h *eventHeap) up(i int) {
	q := *h
	e := q[i]
	for i > 0 {
		parent := (i - 1) / children
		if !e.before(q[parent]) {
			break
		}
		q[i] = q[parent]
		q[i].i = i
		i = parent
	}
	q[i] = e
	e.i = i
}

func (h *eventHeap) down(i int) {
	q := *h
	e := q[i]
	for {
		first := children*i + 1
		if first >= len(q) {
			break
		}
		least := first
		for c := first + 1; c < min(first+children, len(q)); c++ {
			if q[c].before(q[least]) {
				least = c
			}
		}
		if !q[least].before(e) {
			break
		}
		q[i] = q[least]
		q[i].i = i
		i = least
	}
	q[i] = e
	e.i = i
}
