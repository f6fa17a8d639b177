package memkv

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Handle is one host's way to the server; it implements kv.Store.
type Handle struct {
	s    *Server
	name string
	clk  clock.Clock
	// Below: under s.mu.
	rng    *rand.Rand
	closed bool
}

var _ kv.Store = (*Handle)(nil)

// cut says which direction of a host's path is broken.
type cut struct{ requests, replies bool }

// request is a call under way.
type request struct {
	h      *Handle
	commit bool // its outcome matters when no answer comes
	apply  func() answer
	reply  *clock.Future[answer]
}

// answer is what any call may return.
type answer struct {
	items []kv.Item
	rev   kv.Rev
	lease kv.LeaseID
	err   error
}

// Range implements kv.Store.
func (h *Handle) Range(prefix string) ([]kv.Item, kv.Rev, error) {
	a := h.call(false, func() (a answer) {
		a.items, a.rev = h.s.rangeLocked(prefix)
		return a
	})
	return a.items, a.rev, a.err
}

// RangeAt implements kv.Store.
func (h *Handle) RangeAt(prefix string, at kv.Rev) ([]kv.Item, error) {
	a := h.call(false, func() (a answer) {
		a.items, a.err = h.s.rangeAtLocked(prefix, at)
		return a
	})
	return a.items, a.err
}

// Commit implements kv.Store.
func (h *Handle) Commit(conds []kv.Cond, ops []kv.Op) (kv.Rev, error) {
	if err := kv.CheckCommit(conds, ops); err != nil {
		return 0, err
	}
	conds, ops = slices.Clone(conds), slices.Clone(ops)
	for i := range ops {
		ops[i].Value = bytes.Clone(ops[i].Value)
	}
	a := h.call(true, func() (a answer) {
		a.rev, a.err = h.s.commitLocked(conds, ops)
		return a
	})
	return a.rev, a.err
}

// Grant implements kv.Store.
func (h *Handle) Grant(ttl time.Duration) (kv.LeaseID, error) {
	if err := kv.CheckTTL(ttl); err != nil {
		return 0, err
	}
	a := h.call(false, func() answer { return answer{lease: h.s.grantLocked(ttl)} })
	return a.lease, a.err
}

// Renew implements kv.Store.
func (h *Handle) Renew(id kv.LeaseID) error {
	return h.call(false, func() answer { return answer{err: h.s.renewLocked(id)} }).err
}

// Revoke implements kv.Store.
func (h *Handle) Revoke(id kv.LeaseID) error {
	return h.call(true, func() answer { return answer{err: h.s.revokeLocked(id)} }).err
}

// Close implements kv.Store: later calls are refused and the watches end.
func (h *Handle) Close() error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.closed = true
	for _, w := range h.s.dropWatchersLocked(func(w *watcher) bool { return w.h == h }) {
		w.put(delivery{err: errClosed()})
	}
	return nil
}

// call carries a request to the server and waits for the answer.
func (h *Handle) call(commit bool, apply func() answer) answer {
	req := &request{h: h, commit: commit, apply: apply, reply: clock.NewFuture[answer](h.clk)}
	if err := h.send(req); err != nil {
		return answer{err: err}
	}
	if a, ok := req.reply.Wait(kv.CallTimeout); ok {
		return a
	}
	if commit {
		return answer{err: holdfast.Errorf(holdfast.Unknown,
			"the control plane did not answer within %v; the change may or may not have been made", kv.CallTimeout)}
	}
	return answer{err: errUnavailable("no answer within " + kv.CallTimeout.String())}
}

func (h *Handle) send(req *request) error {
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.closed {
		return errClosed()
	}
	lat := s.latency(h.rng)
	if h.path().requests && h.rng.IntN(2) == 0 {
		// The host's own network layer knows that it cannot send.
		s.clk.AfterFunc(lat, func() {
			req.reply.Resolve(answer{err: errUnavailable("it cannot be reached from this host")})
		})
		return nil
	}
	s.clk.AfterFunc(lat, func() { s.arrive(req) })
	return nil
}

// path returns what is broken between the host and the server.
func (h *Handle) path() cut { return h.s.cuts[h.name] }

// arrive is the request reaching the server.
func (s *Server) arrive(req *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.h.path().requests || s.lose(req.h, s.cfg.LoseRequest) {
		return
	}
	s.serveLocked(req)
}

func (s *Server) serveLocked(req *request) {
	if s.down {
		s.refuseLocked(req)
		return
	}
	if wait := s.stall - s.clk.Now(); wait > 0 {
		s.clk.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.serveLocked(req)
		})
		return
	}
	s.answerLocked(req, req.apply())
}

// refuseLocked is a request that meets an outage: refused, swallowed, or, a
// commit, kept in a log that will be committed when the outage ends.
func (s *Server) refuseLocked(req *request) {
	switch n := req.h.rng.IntN(4); {
	case n < 2:
		s.answerLocked(req, answer{err: errUnavailable("it has no leader")})
	case n == 2 && req.commit:
		s.parked = append(s.parked, func() { s.answerLocked(req, req.apply()) })
	}
}

func (s *Server) answerLocked(req *request, a answer) {
	s.clk.AfterFunc(s.latency(req.h.rng), func() {
		s.mu.Lock()
		lost := req.h.path().replies || s.lose(req.h, s.cfg.LoseReply)
		s.mu.Unlock()
		if !lost {
			req.reply.Resolve(a)
		}
	})
}

func (s *Server) lose(h *Handle, p float64) bool { return p > 0 && h.rng.Float64() < p }

func errUnavailable(why string) error {
	return holdfast.Errorf(holdfast.Unavailable, "the control plane is not available: %s; nothing was changed, retry later", why)
}

func errClosed() error {
	return holdfast.Errorf(holdfast.Closed, "the connection to the control plane is closed")
}
