package clock

import "time"

// System is the computer's own clock: CLOCK_BOOTTIME, so that a suspended
// computer wakes with its leases run out, and ordinary goroutines.
type System struct{}

// boot is a cache of what the kernel knows, not a state of the program.
var boot = newBootClock()

// Now implements Clock.
func (System) Now() time.Duration { return boot.now() }

// Wall implements Clock.
func (System) Wall() time.Time { return time.Now() }

// AfterFunc implements Clock.
func (System) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// Go implements Clock.
func (System) Go(f func()) { go f() }

// NewEvent implements Clock.
func (System) NewEvent() Event { return systemEvent(make(chan struct{}, 1)) }

type systemEvent chan struct{}

func (e systemEvent) Set() {
	select {
	case e <- struct{}{}:
	default:
	}
}

func (e systemEvent) Wait(timeout time.Duration) bool {
	if timeout < 0 {
		<-e
		return true
	}
	select {
	case <-e:
		return true
	default:
	}
	if timeout == 0 {
		return false
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-e:
		return true
	case <-t.C:
		return false
	}
}
