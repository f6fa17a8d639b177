package simfence

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/fence"
	"github.com/holdfast-cloud/holdfast/internal/fence/fencetest"
)

type lab struct {
	t     *testing.T
	w     *simclock.World
	power *simclock.Host
	dog   *Watchdog
	acted bool
}

func (l *lab) Run(body func()) {
	done := false
	l.w.Clock().Go(func() {
		defer func() { done = true }()
		body()
	})
	if !l.w.RunUntil(func() bool { return done }, 10*time.Hour) {
		l.t.Fatalf("%v: the situation did not end", l.w)
	}
}
func (l *lab) Watchdog() fence.Watchdog { return l.dog }
func (l *lab) RestartAgent()            {} // the watchdog is the computer's
func (l *lab) Acted() bool              { return l.acted }
func (l *lab) Mend()                    { l.acted = false }
func (l *lab) Pass(d time.Duration)     { clock.Sleep(l.w.Clock(), d) }
func (l *lab) Short() time.Duration     { return 10 * time.Second }
func (l *lab) Await(cond func() bool) bool {
	for range 1000 {
		if cond() {
			return true
		}
		l.Pass(time.Second)
	}
	return false
}

func TestConformance(t *testing.T) {
	fencetest.Run(t, func(t *testing.T) fencetest.Lab {
		l := &lab{t: t, w: simclock.NewWorld(1)}
		l.power = l.w.Host("computer", simclock.Skew{})
		l.dog = New(l.power, func() { l.acted = true })
		t.Cleanup(func() { l.w.Close(l.power) })
		return l
	})
}

func TestItActsExactlyAtTheDeadlineAndNotAfterPowerIsLost(t *testing.T) {
	w := simclock.NewWorld(1)
	power := w.Host("computer", simclock.Skew{})
	var at []time.Duration
	dog := New(power, func() { at = append(at, w.Now()) })
	dog.Pet(3 * time.Second)
	w.Run(2 * time.Second)
	dog.Pet(3 * time.Second)
	w.Run(20 * time.Second)
	if len(at) != 1 || at[0] != 5*time.Second || dog.Fired() != 1 {
		t.Fatalf("acted at %v", at)
	}
	dog.Pet(time.Second)
	power.Kill()
	w.Run(time.Minute)
	if len(at) != 1 {
		t.Fatalf("a dead computer acted: %v", at)
	}
}
