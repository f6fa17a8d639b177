package memkv

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// breakNotice bounds how long a host takes to notice that its watch is broken.
const breakNotice = 4 * time.Second

// maxBacklog is how many undelivered batches a watch may have before the
// server drops it: nobody is reading (the host may be dead).
const maxBacklog = 10000

// watcher is one stream; it implements kv.Watcher.
type watcher struct {
	h      *Handle
	prefix string
	from   kv.Rev
	q      *clock.Queue[delivery]
	buf    []delivery // taken from q, the reader's own
	// Below: under the server's mu.
	open    bool
	pending []delivery    // travelling, in order
	last    time.Duration // when the last of them arrives
}

// delivery is a batch of changes, or the end of the stream.
type delivery struct {
	events []kv.Event
	err    error
}

// Watch implements kv.Store.
func (h *Handle) Watch(prefix string, from kv.Rev) kv.Watcher {
	s := h.s
	w := &watcher{h: h, prefix: prefix, from: from, q: clock.NewQueue[delivery](h.clk)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.closed {
		w.put(delivery{err: errClosed()})
		return w
	}
	w.open = true
	s.watchers = append(s.watchers, w)
	s.clk.AfterFunc(s.latency(h.rng), w.register)
	return w
}

// register is the watch reaching the server: it hands over the backlog. A
// commit that happens while the watch travels is in the log by then.
func (w *watcher) register() {
	s := w.h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !w.open:
	case w.h.path() != cut{} || s.down:
		w.breakLocked()
	case w.from < s.compacted:
		w.endLocked(holdfast.Errorf(holdfast.Gap,
			"the changes after revision %d are forgotten (compacted to %d); read again and watch from there", w.from, s.compacted), 0)
	default:
		backlog := s.log
		w.last = max(w.last, 1) // registered: from now on it sees changes
		for _, c := range backlog {
			w.seeLocked(c)
		}
	}
}

// seeLocked sends a change to a registered watch.
func (w *watcher) seeLocked(c change) {
	if w.last == 0 || c.rev <= w.from {
		return
	}
	w.from = c.rev
	var evs []kv.Event
	for _, e := range c.events {
		if strings.HasPrefix(e.Key, w.prefix) {
			evs = append(evs, e)
		}
	}
	if len(evs) == 0 {
		return
	}
	if len(w.pending) >= maxBacklog {
		w.endLocked(errUnavailable("nobody reads this watch"), 0)
		return
	}
	w.sendLocked(delivery{events: evs})
}

// sendLocked lets d travel, never overtaking what was sent before.
func (w *watcher) sendLocked(d delivery) {
	s := w.h.s
	now := s.clk.Now()
	w.last = max(w.last, now+s.latency(w.h.rng)+between(w.h.rng, 0, s.cfg.WatchLag))
	w.pending = append(w.pending, d)
	s.clk.AfterFunc(w.last-now, w.deliver)
}

func (w *watcher) deliver() {
	s := w.h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.open || len(w.pending) == 0 {
		return
	}
	if w.h.path().replies {
		w.breakLocked()
		return
	}
	d := w.pending[0]
	w.pending = w.pending[1:]
	w.put(d)
}

// breakLocked loses the stream; the host notices after a while.
func (w *watcher) breakLocked() {
	w.endLocked(errUnavailable("the watch broke"), between(w.h.rng, 0, breakNotice))
}

// endLocked ends the stream with err, which the reader sees after notice.
func (w *watcher) endLocked(err error, notice time.Duration) {
	s := w.h.s
	w.open, w.pending = false, nil
	s.clk.AfterFunc(notice, func() { w.put(delivery{err: err}) })
	s.forgetLocked(w)
}

// put hands d to the reader; Queue has its own lock and put never waits.
func (w *watcher) put(d delivery) { w.q.Put(d) }

// Next implements kv.Watcher.
func (w *watcher) Next(timeout time.Duration) ([]kv.Event, error) {
	end := w.h.clk.Now() + timeout
	for len(w.buf) == 0 {
		left := timeout
		if timeout >= 0 {
			left = max(0, end-w.h.clk.Now())
		}
		if w.buf, _ = w.q.Take(left); len(w.buf) == 0 && left == 0 {
			return nil, nil
		}
	}
	d := w.buf[0]
	if d.err != nil {
		return nil, d.err // and again at every further call
	}
	w.buf = w.buf[1:]
	return d.events, nil
}

// Close implements kv.Watcher.
func (w *watcher) Close() {
	s := w.h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	w.open, w.pending = false, nil
	s.forgetLocked(w)
}

func (s *Server) forgetLocked(w *watcher) {
	if i := slices.Index(s.watchers, w); i >= 0 {
		s.watchers = slices.Delete(slices.Clone(s.watchers), i, i+1)
	}
}

// dropWatchersLocked forgets the watches that drop chooses and returns them.
func (s *Server) dropWatchersLocked(drop func(*watcher) bool) (dropped []*watcher) {
	var keep []*watcher
	for _, w := range s.watchers {
		if drop(w) {
			w.open, w.pending = false, nil
			dropped = append(dropped, w)
		} else {
			keep = append(keep, w)
		}
	}
	s.watchers = keep
	return dropped
}
