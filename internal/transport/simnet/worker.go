package simnet

import (
	"maps"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
)

// reader names one of an endpoint's tasks: as over TCP, one per host and
// direction runs the handlers of that host's calls, and one the endings of
// calls to it. A handler that blocks holds up what is behind it here too.
type reader struct {
	peer    holdfast.HostID
	serving bool
}

// worker is a task of a host that runs what it is given, in order.
type worker struct {
	n     *Net
	h     *simclock.Host
	queue []func()
	ev    clock.Event
	over  bool
}

func (e *Endpoint) reader(peer holdfast.HostID, serving bool) *worker {
	k := reader{peer, serving}
	w := e.readers[k]
	if w == nil {
		w = &worker{n: e.n, h: e.h, ev: e.h.NewEvent(), over: e.closed}
		e.readers[k] = w
		e.spawn(w.run)
	}
	return w
}

// endReaders lets the tasks end when they have done what they were given.
func (e *Endpoint) endReaders() {
	keys := slices.SortedFunc(maps.Keys(e.readers), func(a, b reader) int {
		switch c := slices.Compare(a.peer.UUID[:], b.peer.UUID[:]); {
		case c != 0 || a.serving == b.serving:
			return c
		case a.serving:
			return -1
		default:
			return 1
		}
	})
	for _, k := range keys { // waking order is history
		w := e.readers[k]
		w.over = true
		w.ev.Set()
	}
}

func (w *worker) do(f func()) {
	if w.h.Dead() {
		return
	}
	w.queue = append(w.queue, f)
	w.ev.Set()
}

func (w *worker) run() {
	for {
		for len(w.queue) > 0 {
			f := w.queue[0]
			w.queue = w.queue[1:]
			began := w.n.w.Now()
			f()
			if w.n.w.Now() != began {
				w.n.stats.Blocked++
			}
		}
		if w.over {
			return
		}
		w.ev.Wait(clock.Forever)
	}
}
