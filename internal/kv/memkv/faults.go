package memkv

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// SetDown begins or ends an outage of the whole server, as when its members
// have lost their quorum. While it lasts no lease ends; when it ends every
// lease has its whole time again, and some of the commits that were made
// during the outage take effect, whether or not their callers still wait.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == down {
		return
	}
	s.down = down
	if down {
		for _, w := range s.watchers {
			if w.h.rng.IntN(2) == 0 {
				w.breakLocked()
			}
		}
		return
	}
	parked := s.parked
	s.parked = nil
	for _, f := range parked {
		f()
	}
	s.extendLocked()
}

// Cut breaks or mends a host's path to the server, each direction by itself.
// What is under way in a broken direction is lost, and watches break.
func (s *Server) Cut(host string, requests, replies bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !requests && !replies {
		delete(s.cuts, host)
		return
	}
	s.cuts[host] = cut{requests, replies}
	for _, w := range s.watchers {
		if w.h.name == host {
			w.breakLocked()
		}
	}
}

// SetLoss sets the probabilities that a request, or its answer, is lost.
func (s *Server) SetLoss(request, reply float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.LoseRequest, s.cfg.LoseReply = request, reply
}

// SetLatency bounds each direction of each call from now on.
func (s *Server) SetLatency(least, most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.MinLatency, s.cfg.MaxLatency = least, most
}

// ChangeLeader elects another leader: calls wait until stall has passed, then
// every lease has its whole time again.
func (s *Server) ChangeLeader(stall time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stall = max(s.stall, s.clk.Now()+stall)
	s.clk.AfterFunc(stall, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.down {
			s.extendLocked()
		}
	})
}

// Compact forgets the history up to now: a watch from an older revision gets
// kind Gap.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compactLocked(s.rev)
}

// BreakWatches breaks every watch of every host.
func (s *Server) BreakWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watchers {
		w.breakLocked()
	}
}

// Peek returns what the map holds at this instant, for checks that stand
// outside the world they check.
func (s *Server) Peek(prefix string) ([]kv.Item, kv.Rev) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rangeLocked(prefix)
}
