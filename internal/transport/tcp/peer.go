package tcp

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Pauses between attempts to connect: they start at minPause and double up to
// maxPause; a connection that lasted steadyAfter is not paused after.
const (
	minPause    = 20 * time.Millisecond
	maxPause    = 500 * time.Millisecond
	steadyAfter = time.Second
	dialTimeout = 2 * time.Second
)

// peer sends this host's calls to one other host (or to itself): it owns the
// calls, what is queued for sending, and one goroutine that connects when
// there is something to send and stays connected. When a connection cannot be
// made or breaks, everything that waits ends at once with kind Unavailable;
// what is sent afterwards waits for the next attempt or its own timeout, which
// also paces callers that try again in a loop.
//
// Lock order: mu, then out's.
type peer struct {
	n   *Network
	id  holdfast.HostID
	out *outbox

	mu     sync.Mutex
	calls  calls
	timer  clock.Timer // runs expire at or before calls.earliest
	closed bool
}

func newPeer(n *Network, id holdfast.HostID) *peer {
	return &peer{n: n, id: id, out: newOutbox(), calls: calls{earliest: never}}
}

func (p *peer) send(f transport.Frame, timeout time.Duration, done doneFunc) {
	deadline := never
	if timeout >= 0 {
		if d := p.n.cfg.Clock.Now() + timeout; d > 0 {
			deadline = d
		}
	}
	first, err := p.enqueue(f, timeout, deadline, done)
	if err != nil {
		go done(transport.Frame{}, err) // rare; done must not run inside Send
	}
	if first {
		p.out.push()
	}
}

func (p *peer) enqueue(f transport.Frame, timeout, deadline time.Duration, done doneFunc) (first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false, errClosed()
	}
	id, ok := p.calls.add(done, deadline)
	if ok {
		if ok, first = p.out.put(typeCall, id, f); !ok {
			p.calls.take(id)
		}
	}
	if !ok {
		return false, holdfast.Errorf(holdfast.Unavailable, "too much waits to be sent to host %s; it takes calls more slowly than they are made", p.id.Short())
	}
	if deadline < p.calls.earliest {
		p.calls.earliest = deadline
		p.arm(timeout)
	}
	return first, nil
}

// arm sets the timer to d from now; mu is held.
func (p *peer) arm(d time.Duration) {
	p.disarm()
	p.n.wg.Add(1)
	p.timer = p.n.cfg.Clock.AfterFunc(d, func() {
		defer p.n.wg.Done()
		p.expire()
	})
}

func (p *peer) disarm() {
	if p.timer != nil && p.timer.Stop() {
		p.n.wg.Done()
	}
	p.timer = nil
}

// expire ends the calls whose time is over.
func (p *peer) expire() {
	p.mu.Lock()
	now := p.n.cfg.Clock.Now()
	due := p.calls.takeDue(now)
	if e := p.calls.earliest; e != never && !p.closed {
		p.arm(e - now)
	}
	p.mu.Unlock()
	for _, done := range due {
		done(transport.Frame{}, holdfast.Errorf(holdfast.Unavailable, "host %s did not reply in time; it may have acted on the call", p.id.Short()))
	}
}

// fail ends every call with err and forgets what was not sent.
func (p *peer) fail(err error, forever bool) {
	p.mu.Lock()
	p.closed = p.closed || forever
	if forever {
		p.disarm()
	}
	all := p.calls.takeAll()
	p.out.drop()
	p.mu.Unlock()
	for _, done := range all {
		done(transport.Frame{}, err)
	}
}

// run connects and serves until the network is closed.
func (p *peer) run() {
	defer func() { p.fail(errClosed(), true) }()
	var pause time.Duration
	var told string
	for p.awaitWork() {
		began := time.Now()
		w, err := p.dial()
		if err == nil {
			if told != "" {
				p.n.log.Info("host reached again", "host", p.id.String())
			}
			told = ""
			err = p.serve(w)
		}
		if p.n.ctx.Err() != nil {
			return
		}
		if err.Error() != told { // say it once, not at every attempt
			told = err.Error()
			p.n.log.Warn("no connection to host", "host", p.id.String(), "err", err)
		}
		p.fail(holdfast.Errorf(holdfast.Unavailable, "host %s cannot be reached: %w", p.id.Short(), err), false)
		if time.Since(began) >= steadyAfter && w != nil {
			pause = 0
		} else if pause = min(2*pause, maxPause); pause == 0 {
			pause = minPause
		}
		if !p.n.pause(pause) {
			return
		}
	}
}

// awaitWork waits until there is something to send; false when closing.
func (p *peer) awaitWork() bool {
	for p.out.empty() {
		select {
		case <-p.n.ctx.Done():
			return false
		case <-p.out.wake:
		}
	}
	return p.n.ctx.Err() == nil
}

// dial connects, proves who both ends are and waits to be let in.
func (p *peer) dial() (*wire, error) {
	w, err := p.connect()
	if err != nil {
		return nil, err
	}
	err = w.conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if err == nil {
		err = p.awaitWelcome(w)
	}
	if err == nil {
		err = w.conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		w.cut(err)
		return nil, err
	}
	return w, nil
}

func (p *peer) connect() (*wire, error) {
	if p.id == p.n.cfg.Self {
		return p.n.connectSelf()
	}
	addr, ok := p.n.cfg.Directory(p.id)
	if !ok {
		return nil, holdfast.Errorf(holdfast.NotFound, "no member of that identity is known here")
	}
	ctx, cancel := context.WithTimeout(p.n.ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w, err := secure(p.n.ctx, conn, func(c net.Conn) *tls.Conn { return tls.Client(c, p.n.clientTLS) })
	if err == nil {
		err = p.check(w.peer, addr)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return w, nil
}

// check refuses a server that is not the host we mean to talk to.
func (p *peer) check(who auth.Identity, addr string) error {
	if who.Kind != auth.Host || who.Host != p.id {
		return holdfast.Errorf(holdfast.Denied, "at %s answers %s, not host %s; correct the address or wait until it is published", addr, who, p.id)
	}
	if !p.n.cfg.Member(who) {
		return holdfast.Errorf(holdfast.Denied, "%s at %s is not a member with the key it shows", who, addr)
	}
	return nil
}

func (p *peer) awaitWelcome(w *wire) error {
	_, h, err := w.readHeader()
	if err != nil {
		return err
	}
	if h.typ != typeWelcome && h.typ != typeError || h.size() > transport.MaxErrorText {
		return holdfast.Errorf(holdfast.Invalid, "bad frame: type %d where a welcome was expected", h.typ)
	}
	raw, err := w.r.Peek(headerLen + h.size())
	if err != nil {
		return err
	}
	f, err := h.body(raw, raw[headerLen:], new([1][]byte))
	if err == nil && h.typ == typeError {
		err = frameError(f)
	}
	if err != nil {
		return err
	}
	_, err = w.r.Discard(headerLen + h.size())
	return err
}

// serve sends what is queued and ends calls as replies come, until the
// connection breaks; it returns why.
func (p *peer) serve(w *wire) error {
	if !p.n.track(w) {
		w.cut(errClosed())
		return errClosed()
	}
	defer p.n.untrack(w)
	p.n.log.Debug("connected to host", "host", p.id.String())
	var writer sync.WaitGroup
	w.out = p.out
	p.out.serves(w)
	writer.Go(w.drain)
	w.cut(p.read(w))
	writer.Wait()
	return w.reason()
}

// read dispatches replies, many per read of the socket. A reply that fits the
// reader's buffer is handed over where it lies.
func (p *peer) read(w *wire) error {
	bulk := new([1][]byte)
	for {
		_, h, err := w.readHeader()
		if err != nil {
			return err
		}
		if n := headerLen + h.size(); n <= frameBuffer {
			if err := w.await(n); err != nil {
				return err
			}
			b, _ := w.r.Peek(n)
			if err := p.receive(h, b[:headerLen], b[headerLen:], bulk); err != nil {
				return err
			}
			if _, err := w.r.Discard(n); err != nil {
				return err
			}
		} else if err := p.readLarge(w, h, bulk); err != nil {
			return err
		}
	}
}

func (p *peer) readLarge(w *wire, h header, bulk *[1][]byte) error {
	buf := p.n.pool.get(headerLen + h.size())
	defer p.n.pool.put(buf)
	if err := w.readFull(buf.b); err != nil {
		return err
	}
	return p.receive(h, buf.b[:headerLen], buf.b[headerLen:], bulk)
}

func (p *peer) receive(h header, raw, body []byte, bulk *[1][]byte) error {
	f, err := h.body(raw, body, bulk)
	if err != nil {
		return err
	}
	if h.typ != typeReply && h.typ != typeError {
		return holdfast.Errorf(holdfast.Invalid, "bad frame: type %d where a reply was expected", h.typ)
	}
	if h.id == 0 {
		return holdfast.Errorf(holdfast.Unavailable, "it ended the connection: %w", frameError(f))
	}
	p.mu.Lock()
	done := p.calls.take(h.id)
	p.mu.Unlock()
	switch {
	case done == nil: // its call has timed out
	case h.typ == typeError:
		done(transport.Frame{}, frameError(f))
	default:
		done(f, nil)
	}
	return nil
}
