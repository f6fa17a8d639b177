// Package simnet is the simulated transport: hosts in one simclock.World that
// call each other over links with seeded latency, loss and cuts. Everything
// that happens follows from the world's seed and the order of the calls.
//
// By default a link behaves as TCP does: frames arrive in order or not at all.
// Nothing gets through behind a lost frame; some time later the connection
// breaks, the calls that wait on it end with kind Unavailable, and what is
// sent afterwards travels over a new one. With Params.Datagrams frames are
// lost, doubled and reordered one by one, which is harsher than any network
// the product will meet, and calls end by reply or timeout alone.
//
// Borrowing is enforced: a frame's bytes are overwritten as soon as the
// contract says that its borrower must be done with it.
//
// A Net belongs to its world's goroutine, like everything in the world.
package simnet

import (
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Params is how a path from one host to another behaves.
type Params struct {
	Latency   time.Duration // least time a frame takes, one way
	Jitter    time.Duration // up to so much is added, at random
	Bandwidth int64         // bytes per second; 0: without bound
	Loss      float64       // probability that a frame is lost
	// Detect is the longest time until a sender notices that its connection
	// is broken; the real network's is tcp's acknowledgement timeout.
	Detect time.Duration
	// Datagrams loses, doubles and reorders single frames.
	Datagrams bool
	Duplicate float64 // Datagrams: probability that a frame arrives twice
}

// LAN is a sound network within one room.
func LAN() Params {
	return Params{Latency: 50 * time.Microsecond, Jitter: 100 * time.Microsecond, Bandwidth: 1 << 30, Detect: 3 * time.Second}
}

// Storm is a network on which nothing can be relied upon, frame by frame.
func Storm() Params {
	p := LAN()
	p.Jitter, p.Loss, p.Duplicate, p.Datagrams = 20*time.Millisecond, 0.02, 0.02, true
	return p
}

// Stats counts frames, calls and replies alike.
type Stats struct {
	Sent, Delivered, Lost, Duplicated int64
	Broken                            int64 // connections
	Blocked                           int64 // handlers and endings of calls that waited, which they must not
}

// Net is the network of one world.
type Net struct {
	w       *simclock.World
	params  Params
	hosts   map[holdfast.HostID]*Endpoint // the current life of each
	paths   map[pair]*path
	cutIn   map[holdfast.HostID]bool // nothing gets in to it
	cutOut  map[holdfast.HostID]bool // nor out of it
	rackIn  map[string]bool          // the same of racks, from and to others
	rackOut map[string]bool
	stats   Stats
	replied func(by holdfast.HostID, f, r transport.Frame, err error)
	spare   [maxClass + 1][][]byte // buffers for reuse, by the logarithm of their size
}

// maxClass is the class of the longest bulk.
const maxClass = 22

type pair struct{ from, to holdfast.HostID }

// path is one direction between two hosts.
type path struct {
	pair
	rand  *rand.Rand
	cut   bool
	extra time.Duration // of Slow
	own   *Params       // of SetPath
	free  time.Duration // world time at which the bandwidth is free again
}

// New returns a network without hosts.
func New(w *simclock.World, p Params) *Net {
	return &Net{
		w: w, params: p,
		hosts: make(map[holdfast.HostID]*Endpoint), paths: make(map[pair]*path),
		cutIn: make(map[holdfast.HostID]bool), cutOut: make(map[holdfast.HostID]bool),
		rackIn: make(map[string]bool), rackOut: make(map[string]bool),
	}
}

// Stats returns what has happened so far.
func (n *Net) Stats() Stats { return n.stats }

// OnReply has f called whenever a host answers a call, whether or not the reply
// arrives: with the call's frame, and the reply or the error. It must not keep their
// bytes.
func (n *Net) OnReply(f func(by holdfast.HostID, call, reply transport.Frame, err error)) {
	n.replied = f
}

// SetParams changes how every path behaves that has no parameters of its own.
func (n *Net) SetParams(p Params) { n.params = p }

// SetPath gives one direction between two hosts its own parameters.
func (n *Net) SetPath(from, to holdfast.HostID, p Params) { n.path(from, to).own = &p }

// Slow adds to the latency of one direction; zero ends that.
func (n *Net) Slow(from, to holdfast.HostID, extra time.Duration) { n.path(from, to).extra = extra }

// Cut stops one direction between two hosts, frames under way included.
func (n *Net) Cut(from, to holdfast.HostID) { n.path(from, to).cut = true }

// Mend ends a Cut.
func (n *Net) Mend(from, to holdfast.HostID) { n.path(from, to).cut = false }

// CutHost cuts a host off from all others, in one direction or in both.
func (n *Net) CutHost(id holdfast.HostID, in, out bool) {
	n.cutIn[id], n.cutOut[id] = in, out
}

// CutRack cuts a rack off from all others; within it, all goes on.
func (n *Net) CutRack(rack string, in, out bool) {
	n.rackIn[rack], n.rackOut[rack] = in, out
}

// Heal ends every cut, slowness and parameter of single paths.
func (n *Net) Heal() {
	clear(n.cutIn)
	clear(n.cutOut)
	clear(n.rackIn)
	clear(n.rackOut)
	for _, p := range n.paths {
		p.cut, p.extra, p.own = false, 0, nil
	}
}

// Reachable reports whether frames get from one host to another now, loss
// aside.
func (n *Net) Reachable(from, to holdfast.HostID) bool { return n.open(n.path(from, to)) }

func (n *Net) open(p *path) bool {
	if p.from == p.to {
		return true
	}
	if p.cut || n.cutOut[p.from] || n.cutIn[p.to] {
		return false
	}
	if len(n.rackIn)+len(n.rackOut) == 0 {
		return true
	}
	a, b := n.rack(p.from), n.rack(p.to)
	return a == b || !n.rackOut[a] && !n.rackIn[b]
}

func (n *Net) rack(id holdfast.HostID) string {
	if e := n.hosts[id]; e != nil {
		return e.rack
	}
	return ""
}

func (n *Net) path(from, to holdfast.HostID) *path {
	k := pair{from, to}
	p := n.paths[k]
	if p == nil {
		p = &path{pair: k, rand: n.w.Rand("simnet " + from.String() + " > " + to.String())}
		n.paths[k] = p
	}
	return p
}

// paramsOf returns how a path behaves now. A host reaches itself at once.
func (n *Net) paramsOf(p *path) Params {
	if p.from == p.to {
		return Params{Latency: time.Microsecond, Jitter: 5 * time.Microsecond, Detect: n.params.Detect}
	}
	if p.own != nil {
		return *p.own
	}
	return n.params
}

// travel draws how long size bytes take, and whether they get lost.
func (n *Net) travel(p *path, size int) (d time.Duration, lost bool) {
	q := n.paramsOf(p)
	d = q.Latency + p.extra
	if q.Jitter > 0 {
		d += time.Duration(p.rand.Int64N(int64(q.Jitter)))
	}
	if q.Bandwidth > 0 {
		now := n.w.Now()
		p.free = max(p.free, now) + time.Duration(int64(size)*int64(time.Second)/q.Bandwidth)
		d += p.free - now
	}
	lost = p.rand.Float64() < q.Loss
	n.stats.Sent++
	return d, lost || !n.open(p)
}
