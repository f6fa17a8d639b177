package clock

import (
	"sync"
	"time"
)

// Future is a value that one task waits for and another provides once.
type Future[T any] struct {
	mu   sync.Mutex
	done bool
	val  T
	ev   Event
}

// NewFuture returns an unresolved future.
func NewFuture[T any](c Clock) *Future[T] { return &Future[T]{ev: c.NewEvent()} }

// Resolve provides the value; only the first call counts.
func (f *Future[T]) Resolve(v T) {
	f.mu.Lock()
	if !f.done {
		f.done, f.val = true, v
	}
	f.mu.Unlock()
	f.ev.Set()
}

// Wait returns the value, or false if timeout passes first. One task waits.
func (f *Future[T]) Wait(timeout time.Duration) (T, bool) {
	f.mu.Lock()
	done := f.done
	f.mu.Unlock()
	if !done {
		f.ev.Wait(timeout)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.val, f.done
}

// Group counts tasks so that their owner can wait for all of them.
type Group struct {
	c    Clock
	mu   sync.Mutex
	n    int
	wait []Event
}

// NewGroup returns an empty group.
func NewGroup(c Clock) *Group { return &Group{c: c} }

// Go runs f on a new task that belongs to the group.
func (g *Group) Go(f func()) {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
	g.c.Go(func() {
		defer g.leave()
		f()
	})
}

func (g *Group) leave() {
	g.mu.Lock()
	g.n--
	var wake []Event
	if g.n == 0 {
		wake, g.wait = g.wait, nil
	}
	g.mu.Unlock()
	for _, e := range wake {
		e.Set()
	}
}

// Wait blocks until no task of the group is left.
func (g *Group) Wait() {
	g.mu.Lock()
	if g.n == 0 {
		g.mu.Unlock()
		return
	}
	e := g.c.NewEvent()
	g.wait = append(g.wait, e)
	g.mu.Unlock()
	e.Wait(Forever)
}

// Queue hands values from any number of tasks to one receiver, in order and
// without a bound: whoever puts must bound what it puts.
type Queue[T any] struct {
	mu     sync.Mutex
	items  []T
	closed bool
	ev     Event
}

// NewQueue returns an empty queue.
func NewQueue[T any](c Clock) *Queue[T] { return &Queue[T]{ev: c.NewEvent()} }

// Put adds v; it is dropped if the queue is closed.
func (q *Queue[T]) Put(v T) {
	q.mu.Lock()
	if !q.closed {
		q.items = append(q.items, v)
	}
	q.mu.Unlock()
	q.ev.Set()
}

// Close ends the queue: Take returns what is left, then false.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ev.Set()
}

// Take moves everything queued into the receiver's hands, waiting up to
// timeout for the first. ok is false once the queue is closed and empty.
func (q *Queue[T]) Take(timeout time.Duration) (items []T, ok bool) {
	for first := true; ; first = false {
		q.mu.Lock()
		items, q.items = q.items, nil
		closed := q.closed
		q.mu.Unlock()
		if len(items) > 0 {
			return items, true
		}
		if closed {
			return nil, false
		}
		if !first {
			return nil, true
		}
		q.ev.Wait(timeout)
	}
}
