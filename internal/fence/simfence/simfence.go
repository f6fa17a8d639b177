// Package simfence is the simulated watchdog: a process of its own on a
// simulated computer, which goes on when the agent hangs or dies and ends only
// with the computer's power.
package simfence

import (
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/fence"
)

// Watchdog implements fence.Watchdog on the computer's clock.
type Watchdog struct {
	clock clock.Clock
	act   func()

	mu    sync.Mutex
	timer clock.Timer
	turn  uint64 // counts Pet and Disarm; a timer of an older turn is void
	fired bool
	times int
}

var _ fence.Watchdog = (*Watchdog)(nil)

// New returns a watchdog that is not armed. act runs on a task of c, which is
// the computer's clock and not the agent's.
func New(c clock.Clock, act func()) *Watchdog { return &Watchdog{clock: c, act: act} }

// Pet implements fence.Watchdog. The first Pet after the watchdog has acted
// arms it again and returns kind Fenced.
func (w *Watchdog) Pet(d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
	turn := w.turn
	w.timer = w.clock.AfterFunc(d, func() { w.fire(turn) })
	if w.fired {
		w.fired = false
		return holdfast.Errorf(holdfast.Fenced, "the watchdog was not petted in time and has acted on this host's machines; decide about each")
	}
	return nil
}

// Disarm implements fence.Watchdog.
func (w *Watchdog) Disarm() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
	return nil
}

// stop is called with mu held.
func (w *Watchdog) stop() {
	w.turn++
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

func (w *Watchdog) fire(turn uint64) {
	w.mu.Lock()
	due := turn == w.turn
	if due {
		w.timer, w.fired = nil, true
		w.times++
	}
	w.mu.Unlock()
	if due {
		w.act()
	}
}

// Fired counts how often the watchdog acted.
func (w *Watchdog) Fired() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.times
}
