// Package simclock is the simulated clock and the scheduler beneath the
// simulator: a World runs the tasks of any number of hosts one at a time, in
// an order that follows from its seed alone.
//
// Tasks are coroutines (iter.Pull): exactly one runs at any moment, on the
// goroutine that calls Run, and it runs until it waits on an Event. What it
// makes ready is queued by (time, sequence). Nothing depends on Go's
// scheduler, so the same seed gives the same history, also under -race.
//
// A World and everything that lives in it belong to one goroutine.
package simclock

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// World is one simulated universe: its time, its hosts' clocks and tasks.
type World struct {
	seed  uint64
	now   time.Duration
	seq   uint64
	queue eventHeap
	cur   *task
	tasks int
	idle  []*coroutine
	root  *Host
}

// NewWorld returns a world at time zero.
func NewWorld(seed uint64) *World {
	w := &World{seed: seed}
	w.root = w.Host("world", Skew{})
	return w
}

// Rand returns a random stream that depends only on the seed and the name, so
// that one consumer's draws never shift another's.
func (w *World) Rand(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// Now is the world's own time, which no host sees.
func (w *World) Now() time.Duration { return w.now }

// Clock is the world's own clock: for tasks of the test itself (clients,
// fault scripts), which nothing kills, pauses or skews.
func (w *World) Clock() clock.Clock { return w.root }

// Run executes events until none is left or the world's time would pass
// until; it then sets the time to until. A task's panic is re-raised here.
func (w *World) Run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until {
		w.step()
	}
	if w.now < until {
		w.now = until
	}
}

// RunUntil executes events until done reports true, which it checks after
// every event, or limit is reached. It returns whether done was reached.
func (w *World) RunUntil(done func() bool, limit time.Duration) bool {
	for !done() {
		if len(w.queue) == 0 || w.queue[0].at > limit {
			return false
		}
		w.step()
	}
	return true
}

func (w *World) step() {
	e := w.queue.pop()
	if e.at > w.now {
		w.now = e.at
	}
	if h := e.host; h != nil {
		h.deliver(e)
	} else {
		e.run()
	}
}

// After runs f at d from now on no host and no task, so f must not wait. It is
// for what is not a computer: links, devices, fault scripts.
func (w *World) After(d time.Duration, f func()) { w.at(w.now+d, nil, f) }

// at queues run at time t, for a host or for nobody; the returned event can be
// cancelled.
func (w *World) at(t time.Duration, h *Host, run func()) *event {
	if t < w.now {
		t = w.now
	}
	e := &event{host: h, run: run}
	if h != nil {
		e.stood = h.stood()
	}
	w.push(t, e)
	return e
}

func (w *World) push(t time.Duration, e *event) {
	w.seq++
	w.queue.push(max(t, w.now), w.seq, e)
}

// Close unwinds every task of every host, so that a finished world leaves no
// goroutine behind. The world is of no use afterwards.
func (w *World) Close(hosts ...*Host) {
	for _, h := range hosts {
		h.Kill()
	}
	w.root.Kill()
	w.queue = nil
	for _, c := range w.idle {
		c.stop()
	}
	w.idle = nil
}

// Skew makes a host's clock differ from the world's.
type Skew struct {
	Offset time.Duration // added to the monotonic and the wall clock
	Drift  float64       // rate error: 0.0001 gains 100 µs in a second
	Wall   time.Time     // what the host believes the world's time zero to be; zero means 2026-01-01
}

// Host is one host's clock in one life: after Kill it is dead for ever, and
// the host's next life gets a new one from World.Host.
type Host struct {
	w      *World
	name   string
	skew   Skew
	dead   bool
	paused bool
	held   []entry // what became due while paused
	live   map[*task]struct{}

	stands bool          // its clock stands still
	since  time.Duration // the world's time at which it began to
	lost   time.Duration // for which it stood still before
}

// Host returns a new clock, whose tasks live until it is killed.
func (w *World) Host(name string, skew Skew) *Host {
	if skew.Wall.IsZero() {
		skew.Wall = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return &Host{w: w, name: name, skew: skew, live: make(map[*task]struct{})}
}

// Now implements clock.Clock.
func (h *Host) Now() time.Duration {
	t := h.w.now - h.stood()
	return h.skew.Offset + t + time.Duration(float64(t)*h.skew.Drift)
}

// stood is for how much of the world's time the clock has stood still.
func (h *Host) stood() time.Duration {
	if h.stands {
		return h.lost + h.w.now - h.since
	}
	return h.lost
}

// Wall implements clock.Clock.
func (h *Host) Wall() time.Time { return h.skew.Wall.Add(h.Now()) }

// JumpWall sets the wall clock by d forward, or back.
func (h *Host) JumpWall(d time.Duration) { h.skew.Wall = h.skew.Wall.Add(d) }

// worldTime converts a duration on this host's clock to the world's, rounded
// up so that a timer never runs early by the host's own clock.
func (h *Host) worldTime(d time.Duration) time.Duration {
	if h.skew.Drift == 0 || d <= 0 {
		return d
	}
	return 2 + time.Duration(float64(d)/(1+h.skew.Drift))
}

// post queues run for this host after d of its time. Dead hosts drop it,
// paused ones keep it until they resume.
func (h *Host) post(d time.Duration, run func()) *event {
	return h.w.at(h.w.now+h.worldTime(d), h, run)
}

func (h *Host) deliver(e entry) {
	switch {
	case h.dead:
	case h.paused:
		h.held = append(h.held, e)
	case e.stood != h.lost:
		h.postpone(e)
	default:
		e.run()
	}
}

// postpone lets what is due wait as much longer as the clock has stood still since
// it was posted.
func (h *Host) postpone(e entry) {
	at := e.at + h.lost - e.stood
	e.stood = h.lost
	h.w.push(at, e.event)
}

// Dead reports whether the host was killed.
func (h *Host) Dead() bool { return h.dead }

// Pause stops the host's tasks and timers, as SIGSTOP does a process's, or a
// kernel that hangs. Its clock goes on.
func (h *Host) Pause() { h.paused = true }

// Suspend stops the host with its clocks, as a hypervisor suspends a virtual
// machine: time stands still for it alone. Whatever it waits for takes as much
// longer. It ends with Resume.
func (h *Host) Suspend() {
	if !h.stands {
		h.paused, h.stands, h.since = true, true, h.w.now
	}
}

// Resume ends a Pause or Suspend: what became due while the clock went on runs
// now, in order.
func (h *Host) Resume() {
	if !h.paused {
		return
	}
	if h.stands {
		h.lost, h.stands = h.stood(), false
	}
	h.paused = false
	held := h.held
	h.held = nil
	for _, e := range held {
		h.postpone(e)
	}
}

// Kill ends every task of the host where it waits, as a power cut or SIGKILL
// does. Deferred calls run, but whatever they wait for ends at once. It must
// be called from the world's goroutine or another host's task, never from a
// task of h.
func (h *Host) Kill() {
	if h.dead {
		return
	}
	if h.w.cur != nil && h.w.cur.host == h {
		panic("simclock: a host cannot kill itself from its own task; use World.Clock().Go")
	}
	h.dead = true
	// Unwinding runs deferred calls of product code, which may touch each
	// other's state: keep the order of creation.
	for len(h.live) > 0 {
		var first *task
		for t := range h.live {
			if first == nil || t.id < first.id {
				first = t
			}
		}
		delete(h.live, first)
		first.unwind()
	}
}

// Go implements clock.Clock.
func (h *Host) Go(f func()) {
	t := h.newTask(f)
	h.post(0, t.run)
}

// AfterFunc implements clock.Clock.
func (h *Host) AfterFunc(d time.Duration, f func()) clock.Timer {
	tm := &timer{w: h.w}
	tm.e = h.post(d, func() {
		if tm.over {
			return // stopped while the host stood still
		}
		tm.over = true
		h.newTask(f).resume()
	})
	return tm
}

type timer struct {
	w    *World
	e    *event
	over bool // fired or stopped
}

func (t *timer) Stop() bool {
	if t.over {
		return false
	}
	t.over = true
	t.w.queue.remove(t.e)
	return true
}

// NewEvent implements clock.Clock.
func (h *Host) NewEvent() clock.Event { return &simEvent{h: h} }

type simEvent struct {
	h      *Host
	set    bool
	waiter *task
	timer  *event
	turn   uint64
}

func (e *simEvent) Set() {
	e.set = true
	if e.waiter == nil {
		return
	}
	t := e.waiter
	e.waiter = nil
	if e.timer != nil {
		t.host.w.queue.remove(e.timer)
		e.timer = nil
	}
	t.host.post(0, t.run)
}

func (e *simEvent) Wait(timeout time.Duration) bool {
	t := e.h.w.cur
	if t == nil {
		panic("simclock: Wait outside a task of the world")
	}
	if t.host.dead {
		panic(killed{})
	}
	if e.set {
		e.set = false
		return true
	}
	if timeout == 0 {
		return false
	}
	if e.waiter != nil {
		panic("simclock: two tasks wait for one event")
	}
	e.waiter = t
	if timeout > 0 {
		e.arm(t, timeout)
	}
	t.co.park()
	ok := e.set
	e.set = false
	return ok
}

// arm wakes t after timeout unless the event is set before. What was due while
// a host stood still cannot be cancelled any more, so each waiting has its turn.
func (e *simEvent) arm(t *task, timeout time.Duration) {
	e.turn++
	turn := e.turn
	e.timer = t.host.post(timeout, func() {
		if e.waiter == t && e.turn == turn {
			e.waiter, e.timer = nil, nil
			t.resume()
		}
	})
}

// String describes the world for failure messages.
func (w *World) String() string {
	return fmt.Sprintf("world of seed %d at %v, %d events queued", w.seed, w.now, len(w.queue))
}
