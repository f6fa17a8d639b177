package clocktest

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
)

func TestSystem(t *testing.T) {
	Run(t, clock.System{}, func(f func()) { f() })
}

func TestSimulated(t *testing.T) {
	w := simclock.NewWorld(1)
	h := w.Host("a", simclock.Skew{Offset: time.Hour, Drift: 0.01})
	defer w.Close(h)
	Run(t, h, func(f func()) {
		done := false
		h.Go(func() { f(); done = true })
		if !w.RunUntil(func() bool { return done }, w.Now()+time.Minute) {
			t.Errorf("the task did not end: %v", w)
		}
	})
}

func TestKillUnwindsWaitingTasks(t *testing.T) {
	w := simclock.NewWorld(1)
	h := w.Host("a", simclock.Skew{})
	deferred := 0
	for range 3 {
		h.Go(func() {
			defer func() { deferred++ }()
			defer clock.Sleep(h, time.Second) // a wait while unwinding must end at once
			h.NewEvent().Wait(clock.Forever)
			t.Error("a dead host's task went on")
		})
	}
	w.Run(time.Second)
	h.Kill()
	w.Run(10 * time.Second)
	if deferred != 3 {
		t.Errorf("%d of 3 tasks unwound", deferred)
	}
	w.Close()
}

func TestPauseHoldsTasksNotTheClock(t *testing.T) {
	w := simclock.NewWorld(1)
	h := w.Host("a", simclock.Skew{})
	defer w.Close(h)
	var woke time.Duration
	h.Go(func() { clock.Sleep(h, time.Second); woke = h.Now() })
	w.Run(time.Millisecond)
	h.Pause()
	w.Run(5 * time.Second)
	if woke != 0 {
		t.Fatal("a paused host's task ran")
	}
	h.Resume()
	w.Run(6 * time.Second)
	if woke != 5*time.Second {
		t.Errorf("woke at %v by its own clock, want 5s", woke)
	}
}

// A host that is suspended as a virtual machine is knows nothing of it: whatever
// it waits for takes as long by its own clock, drift and all.
func TestSuspendHoldsTheClockToo(t *testing.T) {
	for _, drift := range []float64{0, 0.01, -0.01} {
		w := simclock.NewWorld(1)
		h := w.Host("a", simclock.Skew{Drift: drift})
		var slept, told, late time.Duration
		h.Go(func() { clock.Sleep(h, time.Second); slept = h.Now() })
		h.AfterFunc(8*time.Second, func() { late = h.Now() })
		ev := h.NewEvent()
		h.Go(func() { ev.Wait(clock.Forever); told = h.Now() })
		stopped := h.AfterFunc(500*time.Millisecond, func() { t.Error("a timer that was stopped fired") })
		w.Run(100 * time.Millisecond)
		before, wall := h.Now(), h.Wall()
		h.Suspend()
		w.Run(5 * time.Second)
		ev.Set()
		w.Run(6 * time.Second)
		if h.Now() != before || !h.Wall().Equal(wall) || slept != 0 || told != 0 {
			t.Fatalf("drift %v: time went on, from %v to %v, slept %v, told %v", drift, before, h.Now(), slept, told)
		}
		h.Resume()
		stopped.Stop()
		w.Run(7*time.Second + 200*time.Millisecond)
		if told != before || slept < time.Second || slept > time.Second+time.Microsecond {
			t.Errorf("drift %v: told at %v, slept until %v, by its own clock", drift, told, slept)
		}
		w.Run(20 * time.Second)
		if late < 8*time.Second || late > 8*time.Second+time.Microsecond {
			t.Errorf("drift %v: a timer of 8s fired at %v by its own clock", drift, late)
		}
		h.JumpWall(time.Hour)
		if now := h.Now(); h.Wall().Sub(wall) != now-before+time.Hour {
			t.Errorf("drift %v: the calendar moved by %v in %v", drift, h.Wall().Sub(wall), now-before)
		}
		w.Close(h)
	}
}

func TestSameSeedSameHistory(t *testing.T) {
	history := func(seed uint64) (out []int) {
		w := simclock.NewWorld(seed)
		h := w.Host("a", simclock.Skew{})
		defer w.Close(h)
		r := w.Rand("test")
		for i := range 50 {
			h.Go(func() {
				for range 20 {
					clock.Sleep(h, time.Duration(r.IntN(1000)))
					out = append(out, i)
				}
			})
		}
		w.Run(time.Second)
		return out
	}
	a, b, c := history(7), history(7), history(8)
	if len(a) != 1000 || !equal(a, b) {
		t.Error("one seed gave two histories")
	}
	if equal(a, c) {
		t.Error("two seeds gave one history")
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
