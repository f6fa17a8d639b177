// Package clocktest is the conformance suite of the clock seam: the system
// clock and the simulated one pass the same behaviours.
package clocktest

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// Run checks a clock. run executes f on a task of c and returns when f has.
func Run(t *testing.T, c clock.Clock, run func(f func())) {
	check := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { run(func() { f(t) }) })
	}
	check("a set event is waited for at once and cleared", func(t *testing.T) {
		e := c.NewEvent()
		e.Set()
		e.Set()
		if !e.Wait(0) || e.Wait(0) {
			t.Error("Wait must return true once")
		}
	})
	check("an unset event times out after its timeout and not before", func(t *testing.T) {
		start := c.Now()
		if c.NewEvent().Wait(20 * time.Millisecond) {
			t.Error("Wait reported an event that nobody set")
		}
		if d := c.Now() - start; d < 20*time.Millisecond {
			t.Errorf("Wait gave up after %v", d)
		}
	})
	check("Set from another task ends a Wait", func(t *testing.T) {
		e := c.NewEvent()
		c.Go(e.Set)
		if !e.Wait(clock.Forever) {
			t.Error("Wait without a timeout returned false")
		}
	})
	check("a stopped timer does not run", func(t *testing.T) {
		e := c.NewEvent()
		if !c.AfterFunc(10*time.Millisecond, e.Set).Stop() {
			t.Error("Stop reported a timer that had not run as run")
		}
		if e.Wait(30 * time.Millisecond) {
			t.Error("a stopped timer ran")
		}
	})
	check("a timer runs and then cannot be stopped", func(t *testing.T) {
		e := c.NewEvent()
		tm := c.AfterFunc(time.Millisecond, e.Set)
		if !e.Wait(10 * time.Second) {
			t.Error("the timer did not run")
		}
		if tm.Stop() {
			t.Error("Stop claims to have stopped a timer that ran")
		}
	})
	check("timers run in the order of their times", func(t *testing.T) {
		q := clock.NewQueue[int](c)
		c.AfterFunc(30*time.Millisecond, func() { q.Put(2) })
		c.AfterFunc(1*time.Millisecond, func() { q.Put(1) })
		var got []int
		for len(got) < 2 {
			items, ok := q.Take(5 * time.Second)
			if !ok || len(items) == 0 && len(got) == 0 {
				break
			}
			got = append(got, items...)
		}
		if len(got) != 2 || got[0] != 1 || got[1] != 2 {
			t.Errorf("got %v", got)
		}
	})
	check("a future keeps its first value", func(t *testing.T) {
		f := clock.NewFuture[int](c)
		c.Go(func() { f.Resolve(7); f.Resolve(8) })
		if v, ok := f.Wait(5 * time.Second); !ok || v != 7 {
			t.Errorf("got %d, %v", v, ok)
		}
	})
	check("a group waits for all its tasks", func(t *testing.T) {
		g := clock.NewGroup(c)
		n := make([]bool, 5)
		for i := range n {
			g.Go(func() { clock.Sleep(c, time.Duration(i)*time.Millisecond); n[i] = true })
		}
		g.Wait()
		for i, ok := range n {
			if !ok {
				t.Errorf("task %d had not ended", i)
			}
		}
	})
	check("a closed queue gives what it holds, then ends", func(t *testing.T) {
		q := clock.NewQueue[string](c)
		q.Put("a")
		q.Close()
		q.Put("late")
		if items, ok := q.Take(clock.Forever); !ok || len(items) != 1 || items[0] != "a" {
			t.Errorf("got %v, %v", items, ok)
		}
		if _, ok := q.Take(clock.Forever); ok {
			t.Error("a closed and empty queue did not end")
		}
	})
}
