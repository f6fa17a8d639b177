package simnet

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Endpoint is one host's transport in one life. When its clock is killed it
// falls silent: frames to it vanish, as after a power cut, unless HangUp is
// called too, as the kernel does for a killed process.
type Endpoint struct {
	n        *Net
	id       holdfast.HostID
	rack     string
	h        *simclock.Host
	handlers map[transport.Kind]transport.Handler
	started  bool
	closed   bool
	hungUp   bool
	conns    map[holdfast.HostID]*conn // of its own calls, by the host called
	served   []*conn                   // of others' calls
	loose    map[uint64]*call          // calls that travel without a connection
	readers  map[reader]*worker
	seq      uint64
}

var _ transport.Network = (*Endpoint)(nil)

// Open begins a life of a host: an endpoint on its clock h, in place of the
// one of the life before.
func (n *Net) Open(id holdfast.HostID, rack string, h *simclock.Host) *Endpoint {
	e := &Endpoint{
		n: n, id: id, rack: rack, h: h,
		handlers: make(map[transport.Kind]transport.Handler),
		conns:    make(map[holdfast.HostID]*conn),
		loose:    make(map[uint64]*call),
		readers:  make(map[reader]*worker),
	}
	n.hosts[id] = e
	return e
}

// HangUp ends the connections of a host that was killed: its peers notice at
// once instead of by silence, and new connections are refused.
func (n *Net) HangUp(id holdfast.HostID) {
	e := n.hosts[id]
	if e == nil || e.hungUp {
		return
	}
	e.hungUp = true
	for _, c := range e.served {
		c.reset()
	}
	e.served = nil
}

// Handle implements transport.Network.
func (e *Endpoint) Handle(k transport.Kind, h transport.Handler) {
	if e.started || e.handlers[k] != nil {
		panic("simnet: Handle after Start or twice for one kind")
	}
	e.handlers[k] = h
}

// Start implements transport.Network.
func (e *Endpoint) Start() error {
	if e.closed {
		return errClosed()
	}
	e.started = true
	return nil
}

// Close implements transport.Network. Pending calls end, on tasks of the host,
// with kind Closed.
func (e *Endpoint) Close() error {
	if e.closed {
		return nil
	}
	e.closed = true
	var all []*call
	for _, c := range e.conns {
		c.drop()
		all = append(all, c.takeCalls()...)
	}
	for _, c := range e.loose {
		all = append(all, c)
	}
	clear(e.conns)
	clear(e.loose)
	slices.SortFunc(all, bySeq)
	for _, c := range all {
		c.end(transport.Frame{}, errClosed())
	}
	e.endReaders()
	if e.n.hosts[e.id] == e {
		e.n.HangUp(e.id)
	}
	return nil
}

func errClosed() error {
	return holdfast.Errorf(holdfast.Closed, "this host is closing its connections")
}

// serving reports whether frames reach handlers here.
func (e *Endpoint) serving() bool { return e.started && !e.closed && !e.h.Dead() }

// spawn runs f on a task of the host, if it lives.
func (e *Endpoint) spawn(f func()) {
	if !e.h.Dead() {
		e.h.Go(f)
	}
}

// looseTimeout bounds calls without a timeout where nothing but a reply or
// time ends a call.
const looseTimeout = 30 * time.Second

// Send implements transport.Network.
func (e *Endpoint) Send(to holdfast.HostID, f transport.Frame, timeout time.Duration, done func(transport.Frame, error)) {
	if e.h.Dead() {
		return // a dead host's tasks are unwinding
	}
	err := f.Check()
	if err == nil && e.closed {
		err = errClosed()
	}
	if err != nil {
		e.spawn(func() { done(transport.Frame{}, err) })
		return
	}
	e.seq++
	c := &call{e: e, to: to, seq: e.seq, done: done}
	datagram := to != e.id && e.n.paramsOf(e.n.path(e.id, to)).Datagrams
	if datagram && timeout == clock.Forever {
		timeout = looseTimeout
	}
	if timeout >= 0 {
		c.timer = e.h.AfterFunc(timeout, c.expire)
	}
	if datagram {
		e.loose[c.seq] = c
		e.n.cast(c, f)
		return
	}
	e.conn(to).send(c, f)
}

// conn returns the connection for calls to a host, a new one if there is none
// or the last has broken.
func (e *Endpoint) conn(to holdfast.HostID) *conn {
	before := e.conns[to]
	if before != nil && !before.broken {
		return before
	}
	c := &conn{n: e.n, client: e, to: to, there: e.n.path(e.id, to), here: e.n.path(to, e.id), calls: make(map[uint64]*call)}
	if before != nil { // frames of the old one never overtake those of the new
		c.fwd.last, c.back.last = before.fwd.last, before.back.last
	}
	e.conns[to] = c
	return c
}

// serve hands a frame to its handler on a task of the host. answer carries the
// reply on its way.
func (e *Endpoint) serve(from holdfast.HostID, f transport.Frame, answer func(transport.Frame, error)) {
	e.n.stats.Delivered++
	e.reader(from, true).do(func() { // waits here while the host is paused
		if e.closed {
			return
		}
		handler := e.handlers[f.Kind]
		if handler == nil {
			answer(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "host %s does not know frames of kind %d; it may run another release", e.id.Short(), f.Kind))
			return
		}
		replied := false
		handler(from, f, func(r transport.Frame, err error) {
			if replied {
				panic("simnet: a handler replied twice")
			}
			replied = true
			if e.n.replied != nil {
				e.n.replied(e.id, f, r, err)
			}
			r, err = e.n.packReply(r, err)
			e.n.scribble(f) // was borrowed until now
			if !e.closed && !e.h.Dead() {
				answer(r, err)
			}
		})
	})
}

// call is one call that has not ended.
type call struct {
	e     *Endpoint
	to    holdfast.HostID
	seq   uint64
	conn  *conn // nil for a loose one
	done  func(transport.Frame, error)
	timer clock.Timer
	ended bool
}

func bySeq(a, b *call) int { return int(int64(a.seq) - int64(b.seq)) }

// end runs done on a task of the caller's host.
func (c *call) end(f transport.Frame, err error) {
	c.e.reader(c.to, false).do(func() { c.finish(f, err) })
}

func (c *call) finish(f transport.Frame, err error) {
	if c.ended {
		return
	}
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.conn != nil {
		delete(c.conn.calls, c.seq)
	}
	delete(c.e.loose, c.seq)
	c.done(f, err)
	c.e.n.scribble(f) // done only borrowed it
}

func (c *call) expire() {
	c.finish(transport.Frame{}, holdfast.Errorf(holdfast.Unavailable, "host %s did not reply in time; it may have acted on the call", c.to.Short()))
}

// packReply copies what of a reply crosses the wire: of an error its kind and
// text, and nothing that does not fit.
func (n *Net) packReply(f transport.Frame, err error) (transport.Frame, error) {
	if err == nil {
		err = f.Check()
	}
	if err != nil {
		return transport.Frame{}, holdfast.Errorf(holdfast.KindOf(err), "%s", transport.ErrorText(err))
	}
	return n.pack(f), nil
}

// frameSize is what a frame takes on the wire, in bytes.
func frameSize(f transport.Frame) int { return 64 + len(f.Head) + f.BulkLen() }
