package clock

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// bootClock tells CLOCK_BOOTTIME at the price of CLOCK_MONOTONIC, which a
// process reads without a system call. The two differ by the time for which the
// computer was suspended. When it wakes up, the kernel adds that time to
// CLOCK_BOOTTIME and to the calendar in one step and leaves CLOCK_MONOTONIC
// alone. So as long as the calendar has moved on with the monotonic clock, the
// difference is what it was; whenever the calendar seems to have been set, it is
// measured again before anything is told. It is measured every maxAge as well:
// not even a calendar that somebody sets back by just the length of a suspension
// hides that for longer.
type bootClock struct {
	monotonic func() (mono, calendar time.Duration) // no system call
	boottime  func() time.Duration
	known     atomic.Pointer[bootOffset]
}

// bootOffset is a measurement. It is not changed once published.
type bootOffset struct {
	slept    time.Duration // CLOCK_BOOTTIME less the monotonic clock
	calendar time.Duration // the calendar less the monotonic clock
	at       time.Duration // by the monotonic clock
}

const (
	// calendarStep is how far the calendar may move against the monotonic clock
	// before it counts as set. Slewing by NTP moves it by 5 µs in maxAge.
	calendarStep = 100 * time.Microsecond
	maxAge       = 10 * time.Millisecond
	// suspension is the shortest that a measurement can tell from its own error.
	suspension = time.Millisecond
)

func newBootClock() *bootClock {
	start := time.Now()
	return &bootClock{boottime: readBoottime, monotonic: func() (mono, calendar time.Duration) {
		t := time.Now()
		return t.Sub(start), time.Duration(t.UnixNano() - start.UnixNano())
	}}
}

func (c *bootClock) now() time.Duration {
	for {
		mono, calendar := c.monotonic()
		k := c.known.Load()
		if k != nil && mono-k.at <= maxAge && (calendar-mono-k.calendar).Abs() <= calendarStep {
			return mono + k.slept
		}
		c.known.CompareAndSwap(k, c.measure(k))
	}
}

// measure compares the clocks. The monotonic one is read last, so the result
// never says too much; a task that was held up in between says too little, is
// found out by the next measurement, and costs no more than that.
func (c *bootClock) measure(before *bootOffset) *bootOffset {
	boot := c.boottime()
	mono, calendar := c.monotonic()
	k := &bootOffset{slept: boot - mono, calendar: calendar - mono, at: mono}
	if before != nil && k.slept < before.slept+suspension {
		k.slept = before.slept // the same but for the error: time does not go back
	}
	return k
}

func readBoottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock: CLOCK_BOOTTIME: " + err.Error()) // present since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}
