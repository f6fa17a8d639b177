// Package clock is the seam through which product code meets time and
// concurrency: one host's monotonic time, its timers, and the tasks
// (goroutines) that wait on them.
//
// Product code starts goroutines only with Clock.Go, waits only on an Event
// or one of the helpers built from it (Sleep, Group, Future, Queue), and takes
// decisions only by Now. Then the simulator can run the same code on its own
// scheduler, one task at a time, and the same seed gives the same history
// (docs/adr/0002). Two rules follow and are tested:
//
//   - no lock is held across a wait (an Event, a disk, the network, kv);
//   - nothing that decides depends on the order of a map or of a select.
//
// A sync.Mutex held only between waits is therefore allowed everywhere.
package clock

import "time"

// Clock is one host's view of time, and the owner of its tasks.
type Clock interface {
	// Now is monotonic time since an arbitrary start, the only time that
	// decisions may use. It does not stop while the computer is suspended.
	Now() time.Duration
	// Wall is the calendar time, for display only: it may jump and lie.
	Wall() time.Time
	// AfterFunc runs f on a task of its own after d.
	AfterFunc(d time.Duration, f func()) Timer
	// Go runs f on a new task.
	Go(f func())
	// NewEvent returns an unset event.
	NewEvent() Event
}

// Timer is a pending AfterFunc.
type Timer interface {
	// Stop reports whether it kept f from running.
	Stop() bool
}

// Forever as a timeout means no timeout.
const Forever time.Duration = -1

// Event is a flag that one task waits for and others set. Setting a set event
// changes nothing; a Wait that returns true has cleared it.
type Event interface {
	// Set sets the flag; it never blocks and may be called from anywhere.
	Set()
	// Wait blocks until the flag is set or timeout has passed, and reports
	// whether it was set. A zero timeout polls. One task may wait at a time.
	Wait(timeout time.Duration) bool
}

// Sleep waits for d.
func Sleep(c Clock, d time.Duration) {
	if d > 0 {
		c.NewEvent().Wait(d)
	}
}
