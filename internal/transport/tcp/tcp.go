// Package tcp is the real transport: framed calls between hosts over TCP with
// mutual TLS 1.3. Hosts are known by the identity in their certificate, never
// by address.
//
// A host dials each host it calls, once, and its calls and their replies share
// that connection; calls the other way come over the other host's own. One
// goroutine writes a connection and one reads it; nothing is started per call.
// The wire protocol is docs/protocol/transport.md.
package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// protocol is the version of the wire protocol, agreed on by ALPN (RFC 7301):
// hosts that share none do not connect.
const protocol = "holdfast-transport/1"

// recheckEvery is how often connected hosts are checked for membership.
const recheckEvery = time.Second

// Config is what a Network needs to know.
type Config struct {
	Self   holdfast.HostID
	Listen string      // address to listen on, host:port; empty: do not listen
	Server *tls.Config // of auth.ServerTLS
	Client *tls.Config // of auth.ClientTLS
	// Directory returns the address of a member, host:port. It must not block.
	Directory func(holdfast.HostID) (addr string, ok bool)
	// Member reports whether a proved identity is a member with that key. It
	// is asked at every connection and every second after. It must not block.
	// nil: whoever the TLS settings let in.
	Member func(auth.Identity) bool
	Log    *slog.Logger
	Clock  clock.Clock // for timeouts; nil: clock.System
}

// Network implements transport.Network over TCP.
type Network struct {
	cfg       Config
	log       *slog.Logger
	serverTLS *tls.Config
	clientTLS *tls.Config
	handlers  map[transport.Kind]transport.Handler // not changed after Start
	pool      pool

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the network

	peersMu sync.RWMutex // guards peers and closed
	peers   map[holdfast.HostID]*peer
	closed  bool

	shaking Handshakes

	mu       sync.Mutex // guards what follows
	started  bool
	ended    bool
	listener net.Listener
	inbounds map[holdfast.HostID]*inbound
	wires    map[*wire]struct{}
}

var _ transport.Network = (*Network)(nil)

// New returns a network that neither listens nor connects yet.
func New(cfg Config) *Network {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.Member == nil {
		cfg.Member = func(auth.Identity) bool { return true }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Network{
		cfg: cfg, log: cfg.Log, ctx: ctx, cancel: cancel,
		serverTLS: ourTLS(cfg.Server), clientTLS: ourTLS(cfg.Client),
		handlers: make(map[transport.Kind]transport.Handler),
		peers:    make(map[holdfast.HostID]*peer),
		inbounds: make(map[holdfast.HostID]*inbound),
		wires:    make(map[*wire]struct{}),
	}
}

func ourTLS(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.NextProtos = []string{protocol}
	c.DynamicRecordSizingDisabled = true // we write in bulk
	return c
}

// Handle implements transport.Network. Installing a handler twice or after
// Start is a mistake in the program and panics.
func (n *Network) Handle(k transport.Kind, h transport.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.started || n.handlers[k] != nil {
		panic("tcp: Handle after Start or twice for one kind")
	}
	n.handlers[k] = h
}

// Start implements transport.Network.
func (n *Network) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return errClosed()
	}
	if n.cfg.Listen != "" {
		l, err := net.Listen("tcp", n.cfg.Listen)
		if err != nil {
			return holdfast.Errorf(holdfast.Unavailable, "listen for other hosts: %w", err)
		}
		n.listener = l
		n.wg.Go(func() { n.accept(l) })
	}
	n.started = true
	n.wg.Go(n.recheck)
	return nil
}

// Addr returns the address the network listens on, nil if it does not.
func (n *Network) Addr() net.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listener == nil {
		return nil
	}
	return n.listener.Addr()
}

// Send implements transport.Network. The frame is copied: it may be changed as
// soon as Send has returned.
func (n *Network) Send(to holdfast.HostID, f transport.Frame, timeout time.Duration, done func(transport.Frame, error)) {
	if err := f.Check(); err != nil {
		go done(transport.Frame{}, err)
		return
	}
	p := n.peer(to)
	if p == nil {
		go done(transport.Frame{}, errClosed())
		return
	}
	p.send(f, timeout, done)
}

// peer returns the sender to a host, or nil once the network is closed.
func (n *Network) peer(to holdfast.HostID) *peer {
	n.peersMu.RLock()
	p := n.peers[to]
	n.peersMu.RUnlock()
	if p != nil {
		return p
	}
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	if p := n.peers[to]; p != nil || n.closed {
		return p
	}
	p = newPeer(n, to)
	n.peers[to] = p
	n.wg.Go(p.run)
	return p
}

// Close implements transport.Network. It returns when every call has ended and
// no handler runs any more; it must not be called from one.
func (n *Network) Close() error {
	n.peersMu.Lock()
	n.closed = true
	n.peersMu.Unlock()
	n.cancel()
	n.mu.Lock()
	n.ended = true
	l := n.listener
	for w := range n.wires {
		w.cut(errClosed())
	}
	n.mu.Unlock()
	var err error
	if l != nil {
		if err = l.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	n.wg.Wait()
	return err
}

func errClosed() error {
	return holdfast.Errorf(holdfast.Closed, "this host is closing its connections")
}

// pause waits for d; false when closing.
func (n *Network) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-n.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// track makes w known to Close and recheck; false when closing.
func (n *Network) track(w *wire) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return false
	}
	n.wires[w] = struct{}{}
	return true
}

func (n *Network) untrack(w *wire) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.wires, w)
}

// recheck cuts off hosts that have ceased to be members.
func (n *Network) recheck() {
	for n.pause(recheckEvery) {
		for _, w := range n.connected() {
			if !n.cfg.Member(w.peer) {
				w.cut(notMember(w.peer))
			}
		}
	}
}

// connected returns the connections to and from other hosts.
func (n *Network) connected() []*wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*wire, 0, len(n.wires))
	for w := range n.wires {
		if w.tcp != nil {
			all = append(all, w)
		}
	}
	return all
}

func notMember(id auth.Identity) error {
	return holdfast.Errorf(holdfast.Denied, "%s is not a member of this cluster with the key it shows", id)
}
