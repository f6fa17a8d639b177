package serve

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
	"github.com/holdfast-cloud/holdfast/internal/transport/tcp"
)

// Bounds of a gate.
const (
	gateConns     = 4096             // connections at once
	gateHandshake = 10 * time.Second // for one to prove who it is
	gateRecheck   = time.Second
)

// gate stands before a port of this host's etcd member, which asks who issued
// a certificate and nothing else, and has no way to cut off who was let in
// once. The gate asks the cluster's records, as the transport does: at every
// handshake, and every second after. What is let in goes on to the member's
// unix socket.
type gate struct {
	ln     net.Listener
	socket string
	conf   *tls.Config
	allow  auth.Allow
	log    *slog.Logger
	tasks  sync.WaitGroup
	done   chan struct{}

	shaking tcp.Handshakes

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]auth.Identity // zero until it has proved who it is
}

// openGate listens on addr for what is let in to socket. protocols are those
// of ALPN.
func openGate(addr, socket string, conf *tls.Config, allow auth.Allow, log *slog.Logger, protocols ...string) (*gate, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "control plane: listen on %s: %w", addr, err)
	}
	conf = conf.Clone()
	conf.NextProtos = protocols
	g := &gate{ln: ln, socket: socket, conf: conf, allow: allow, log: log,
		done: make(chan struct{}), conns: make(map[net.Conn]auth.Identity)}
	g.tasks.Go(g.accept)
	g.tasks.Go(g.recheck)
	return g, nil
}

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	close(g.done)
	g.ln.Close()
	g.tasks.Wait()
}

func (g *gate) accept() {
	for {
		c, err := g.ln.Accept()
		if err != nil {
			select {
			case <-g.done:
				return
			case <-time.After(50 * time.Millisecond): // out of file descriptors, maybe
				continue
			}
		}
		socket.NoticeDeath(c) // the member sees a unix socket, which never goes silent
		shaken, ok := g.add(c)
		if !ok {
			c.Close()
			continue
		}
		g.tasks.Go(func() {
			defer g.remove(c)
			g.serve(c, shaken)
		})
	}
}

// add counts a connection in, until shaken as one that has yet to prove who it
// is; ok is false if there are too many or the gate is closed.
func (g *gate) add(c net.Conn) (shaken func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.conns) >= gateConns {
		return nil, false
	}
	if shaken, ok = g.shaking.Begin(c); ok {
		g.conns[c] = auth.Identity{}
	}
	return shaken, ok
}

func (g *gate) remove(c net.Conn) {
	c.Close()
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
}

func (g *gate) serve(c net.Conn, shaken func()) {
	conn, id, err := g.handshake(c)
	shaken()
	if err != nil {
		g.log.Debug("not let in to the control plane", "from", c.RemoteAddr().String(), "error", err)
		return
	}
	in, err := net.Dial("unix", g.socket)
	if err != nil {
		g.log.Debug("the control plane's member does not listen", "error", err)
		return
	}
	defer in.Close()
	g.mu.Lock()
	g.conns[c] = id
	g.mu.Unlock()
	g.tasks.Go(func() {
		io.Copy(in, conn)
		in.Close()
		c.Close()
	})
	io.Copy(conn, in)
	c.Close()
}

// handshake has a connection prove who it is.
func (g *gate) handshake(c net.Conn) (*tls.Conn, auth.Identity, error) {
	c.SetDeadline(time.Now().Add(gateHandshake))
	conn := tls.Server(c, g.conf)
	if err := conn.Handshake(); err != nil {
		return nil, auth.Identity{}, err
	}
	id, err := auth.PeerIdentity(conn.ConnectionState())
	if err != nil {
		return nil, id, err
	}
	c.SetDeadline(time.Time{})
	return conn, id, nil
}

// recheck cuts off who is not to be let in any more.
func (g *gate) recheck() {
	t := time.NewTicker(gateRecheck)
	defer t.Stop()
	for {
		select {
		case <-g.done:
			return
		case <-t.C:
		}
		g.mu.Lock()
		for c, id := range g.conns {
			if id == (auth.Identity{}) {
				continue
			}
			if err := g.allow(id); err != nil {
				g.log.Warn("cut off from the control plane", "who", id.String(), "error", err)
				c.Close()
			}
		}
		g.mu.Unlock()
	}
}
