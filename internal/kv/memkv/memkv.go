// Package memkv is the simulated kv: one linearizable map that lives in the
// world, not on a host, and a handle for every host that calls it through a
// simulated network. Every latency, loss and outcome is drawn from seeded
// streams, so under a simulated clock the same seed gives the same history.
//
// It is meant to be no kinder than etcd: calls made during an outage may fail
// at once, time out, or take effect after their caller gave up; leases are
// extended when the leader changes; watches lag, break and fall behind
// compaction.
package memkv

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// The bounds of the latency of a server in the same room.
const (
	LeastLatency = 100 * time.Microsecond
	MostLatency  = 3 * time.Millisecond
)

// Config says how the server behaves. The zero value of a duration or a
// probability means what its comment says.
type Config struct {
	// Clock is the server's own: the world's in simulation.
	Clock clock.Clock
	// Rand returns the random stream of that name; simclock's World.Rand fits.
	Rand func(name string) *rand.Rand
	// MinLatency and MaxLatency bound each direction of each call; zero means
	// LeastLatency and MostLatency.
	MinLatency, MaxLatency time.Duration
	// WatchLag is added to the delivery of changes, up to this much; zero is none.
	WatchLag time.Duration
	// LoseRequest and LoseReply are the probabilities that a message is lost.
	LoseRequest, LoseReply float64
	// History is how many revisions are kept for watches before the oldest
	// half is compacted; zero means 10000.
	History int
}

// Server is the map. Its methods may be called from any task.
type Server struct {
	cfg Config
	clk clock.Clock
	rng *rand.Rand

	mu        sync.Mutex
	rev       kv.Rev
	items     map[string]*kv.Item
	log       []change // revisions after compacted, ascending
	compacted kv.Rev
	leases    map[kv.LeaseID]*lease
	lastLease kv.LeaseID
	handles   map[string]*Handle
	cuts      map[string]cut // by host, over its lives
	watchers  []*watcher     // in the order they were opened

	down   bool
	stall  time.Duration // no call is served before this time
	parked []func()      // commits of an outage that take effect when it ends
}

// change is what one commit did.
type change struct {
	rev    kv.Rev
	events []kv.Event
	was    []*kv.Item // what stood under their keys before; nil: nothing
}

// NewServer returns an empty map.
func NewServer(cfg Config) *Server {
	if cfg.MaxLatency == 0 {
		cfg.MinLatency, cfg.MaxLatency = LeastLatency, MostLatency
	}
	if cfg.History == 0 {
		cfg.History = 10000
	}
	return &Server{
		cfg: cfg, clk: cfg.Clock, rng: cfg.Rand("memkv"), rev: 1,
		items:   make(map[string]*kv.Item),
		leases:  make(map[kv.LeaseID]*lease),
		handles: make(map[string]*Handle),
		cuts:    make(map[string]cut),
	}
}

// Handle returns the store as the host of that name sees it. A new handle of
// the same name stands for the host's next life: the old one's watches end.
// Cuts belong to the name and outlive the handle.
func (s *Server) Handle(host string, clk clock.Clock) *Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &Handle{s: s, name: host, clk: clk, rng: s.cfg.Rand("memkv/" + host)}
	if old := s.handles[host]; old != nil {
		h.rng = old.rng
		s.dropWatchersLocked(func(w *watcher) bool { return w.h == old })
	}
	s.handles[host] = h
	return h
}

// latency draws how long one message travels.
func (s *Server) latency(r *rand.Rand) time.Duration {
	return between(r, s.cfg.MinLatency, s.cfg.MaxLatency)
}

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// Watches returns how many watches the server serves.
func (s *Server) Watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers)
}
