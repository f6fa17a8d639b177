package simnet

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// conn carries the calls of one endpoint to one host, and their replies.
type conn struct {
	n        *Net
	client   *Endpoint
	to       holdfast.HostID
	server   *Endpoint // the life that took the first frame; nil before
	there    *path     // to the host called
	here     *path     // back
	fwd      stream
	back     stream
	broken   bool // as the client sees it
	calls    map[uint64]*call
	watching bool
}

// stream is one direction of a connection: in order, or not at all.
type stream struct {
	last  time.Duration // world time of the last arrival
	stuck bool          // a frame was lost; nothing behind it arrives
}

// send sends a call's frame.
func (c *conn) send(k *call, f transport.Frame) {
	k.conn = c
	c.calls[k.seq] = k
	c.watch()
	f = c.n.pack(f)
	c.carry(&c.fwd, c.there, f, func() { c.arrive(k.seq, f) })
}

// carry brings a frame to the other end of a stream, at an instant of its own
// but after those before it, and then runs arrive.
func (c *conn) carry(s *stream, p *path, f transport.Frame, arrive func()) {
	d, lost := c.n.travel(p, frameSize(f))
	s.last = max(s.last+1, c.n.w.Now()+d)
	c.n.w.After(s.last-c.n.w.Now(), func() {
		if s.stuck {
			c.n.stats.Lost++
			c.n.scribble(f)
			return
		}
		if lost || !c.n.open(p) {
			c.n.stats.Lost++
			c.n.scribble(f)
			s.stuck = true
			c.breakLater()
			return
		}
		arrive()
	})
}

// arrive is a call's frame at the server's door. What was sent before the
// client gave the connection up is still served, as from a socket's buffer.
func (c *conn) arrive(seq uint64, f transport.Frame) {
	e := c.n.hosts[c.to]
	switch {
	case e == nil || e.hungUp:
		c.reset() // nobody listens: refused
		c.n.scribble(f)
		return
	case e.h.Dead():
		c.n.stats.Lost++ // no power: silence
		c.n.scribble(f)
		return
	case !e.started || c.server != nil && c.server != e:
		c.reset() // a new life knows nothing of the old one's connections
		c.n.scribble(f)
		return
	}
	if c.server == nil {
		c.server = e
		e.served = append(e.served, c)
	}
	e.serve(c.client.id, f, func(r transport.Frame, err error) { c.answer(seq, r, err) })
}

// answer sends a reply back.
func (c *conn) answer(seq uint64, r transport.Frame, err error) {
	if c.broken {
		return
	}
	c.carry(&c.back, c.here, r, func() {
		if k := c.calls[seq]; k != nil && !c.broken {
			c.n.stats.Delivered++
			k.end(r, err)
		}
	})
}

// reset tells the client that the other end is gone, unless that gets lost.
func (c *conn) reset() {
	d, lost := c.n.travel(c.here, 64)
	if lost {
		return // watch will notice
	}
	c.n.w.After(d, func() { c.breakNow("it refused or closed the connection") })
}

func (c *conn) breakLater() {
	d := c.n.params.Detect
	if d > 0 {
		d = time.Duration(c.there.rand.Int64N(int64(d)))
	}
	c.n.w.After(d, func() { c.breakNow("the connection was lost") })
}

// breakNow ends the connection at the client: whatever waits on it fails.
func (c *conn) breakNow(why string) {
	if c.broken {
		return
	}
	c.n.stats.Broken++
	c.drop()
	err := holdfast.Errorf(holdfast.Unavailable, "host %s cannot be reached: %s", c.to.Short(), why)
	for _, k := range c.takeCalls() {
		k.end(transport.Frame{}, err)
	}
}

// drop makes the client forget the connection.
func (c *conn) drop() {
	c.broken = true
	if c.server != nil {
		c.server.served = slices.DeleteFunc(c.server.served, func(x *conn) bool { return x == c })
	}
}

// takeCalls returns the pending calls in the order they were made.
func (c *conn) takeCalls() []*call {
	all := make([]*call, 0, len(c.calls))
	for _, k := range c.calls {
		all = append(all, k)
	}
	clear(c.calls)
	slices.SortFunc(all, bySeq)
	return all
}

// watch stands for the kernel's probes: while calls wait, a peer that is dead
// or cut off is noticed even if nothing more is sent.
func (c *conn) watch() {
	if c.watching || c.n.params.Detect <= 0 {
		return
	}
	c.watching = true
	c.n.w.After(c.n.params.Detect, func() {
		c.watching = false
		e := c.n.hosts[c.to]
		switch {
		case c.broken || len(c.calls) == 0 || c.client.h.Dead():
		case e == nil || e.hungUp || e.h.Dead() || c.server != nil && e != c.server || c.fwd.stuck || c.back.stuck ||
			!c.n.open(c.there) || !c.n.open(c.here):
			c.breakNow("it shows no sign of life")
		default:
			c.watch()
		}
	})
}

// cast sends a call's frame without a connection: it arrives once, twice or
// never, whenever it likes, and so does each reply.
func (n *Net) cast(k *call, f transport.Frame) {
	from, to, seq, e := k.e.id, k.to, k.seq, k.e
	n.toss(from, to, f, func(f transport.Frame) {
		dest := n.hosts[to]
		if dest == nil || !dest.serving() {
			n.stats.Lost++
			return
		}
		dest.serve(from, f, func(r transport.Frame, err error) {
			n.toss(to, from, r, func(r transport.Frame) {
				if k := e.loose[seq]; k != nil {
					n.stats.Delivered++
					k.end(r, err)
				}
			})
		})
	})
}

// toss brings copies of a frame to another host.
func (n *Net) toss(from, to holdfast.HostID, f transport.Frame, arrive func(transport.Frame)) {
	copies := 1
	p := n.path(from, to)
	if p.rand.Float64() < n.paramsOf(p).Duplicate {
		copies = 2
		n.stats.Duplicated++
	}
	for range copies {
		g := n.pack(f)
		d, lost := n.travel(p, frameSize(g))
		n.w.After(d, func() {
			if lost || !n.open(p) {
				n.stats.Lost++
				n.scribble(g)
				return
			}
			arrive(g)
		})
	}
}
