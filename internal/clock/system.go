package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// System is the computer's own clock: CLOCK_BOOTTIME, so that a suspended
// computer wakes with its leases run out, and ordinary goroutines.
type System struct{}

// Now implements Clock.
func (System) Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock: CLOCK_BOOTTIME: " + err.Error()) // present since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

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
