package clock

import (
	"math/rand/v2"
	"testing"
	"time"
)

// computer is a computer's clocks.
type computer struct{ mono, slept, set time.Duration }

func (k *computer) clock() *bootClock {
	return &bootClock{
		monotonic: func() (time.Duration, time.Duration) { return k.mono, k.mono + k.slept + k.set },
		boottime:  func() time.Duration { return k.mono + k.slept },
	}
}

func TestASuspensionIsToldAtOnce(t *testing.T) {
	k := &computer{mono: time.Hour}
	c := k.clock()
	before := c.now()
	k.mono += time.Microsecond
	k.slept += 5 * time.Second
	if d := c.now() - before; d != 5*time.Second+time.Microsecond {
		t.Errorf("after a suspension of 5 s the clock has moved by %v", d)
	}
}

func TestASuspensionBehindACalendarSetBackIsToldSoon(t *testing.T) {
	k := &computer{}
	c := k.clock()
	c.now()
	k.slept += time.Minute
	k.set -= time.Minute
	k.mono += maxAge + 1
	if got := c.now(); got != k.mono+k.slept {
		t.Errorf("the clock says %v, want %v", got, k.mono+k.slept)
	}
}

func TestAnyDaysOfAComputer(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		k := &computer{mono: time.Duration(rnd.Int64N(1e15)), slept: time.Duration(rnd.Int64N(1e15))}
		c := k.clock()
		last := c.now()
		for range 500 {
			switch rnd.IntN(8) {
			case 0:
				k.slept += time.Duration(rnd.Int64N(int64(time.Hour))) + suspension
			case 1:
				k.set += time.Duration(rnd.Int64N(int64(time.Hour))) - time.Hour/2
			case 2:
				k.set += time.Duration(rnd.Int64N(10_000)) // slewed
			}
			k.mono += time.Duration(rnd.ExpFloat64() * 1e5)
			now := c.now()
			if now < last || now != k.mono+k.slept {
				t.Fatalf("seed %d: the clock says %v after %v, it is %v", seed, now, last, k.mono+k.slept)
			}
			last = now
		}
	}
}

func TestAMeasurementThatWasHeldUpIsPutRight(t *testing.T) {
	k := &computer{mono: time.Second, slept: time.Hour}
	c := k.clock()
	good := c.monotonic
	c.monotonic = func() (time.Duration, time.Duration) { // as if 1 s passed since the boot clock was read
		k.mono += time.Second
		return good()
	}
	c.known.Store(c.measure(nil))
	c.monotonic = good
	k.mono += 2 * maxAge
	if got := c.now(); got != k.mono+k.slept {
		t.Errorf("the clock says %v, want %v", got, k.mono+k.slept)
	}
}

func TestTheSystemClockIsTheBootClock(t *testing.T) {
	near := 0
	for range 1000 {
		before, now, after := readBoottime(), System{}.Now(), readBoottime()
		if now > after {
			t.Fatalf("Now is %v before CLOCK_BOOTTIME is %v", now, after)
		}
		if now >= before-suspension {
			near++ // else a measurement was held up
		}
	}
	if near == 0 {
		t.Error("Now is never what CLOCK_BOOTTIME was just before")
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		System{}.Now()
	}
}
