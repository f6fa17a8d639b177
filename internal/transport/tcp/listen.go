package tcp

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
)

// accept lets other hosts in until the listener is closed.
func (n *Network) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			n.log.Warn("accepting a connection failed", "err", err)
			if !n.pause(minPause) { // out of file descriptors, most likely
				return
			}
			continue
		}
		shaken, ok := n.shaking.Begin(conn)
		if !ok {
			conn.Close()
			continue
		}
		n.wg.Go(func() { n.welcome(conn, shaken) })
	}
}

// welcome finds out who connected, calls shaken when that is known, and serves
// it if it may come in.
func (n *Network) welcome(conn net.Conn, shaken func()) {
	w, err := secure(n.ctx, conn, func(c net.Conn) *tls.Conn { return tls.Server(c, n.serverTLS) })
	shaken()
	if err != nil {
		conn.Close()
		n.log.Debug("a connection did not get through the handshake", "addr", conn.RemoteAddr().String(), "err", err)
		return
	}
	if err := n.mayCall(w.peer); err != nil {
		n.refuse(w, err)
		return
	}
	n.serve(w, w.peer.Host)
}

func (n *Network) mayCall(id auth.Identity) error {
	switch {
	case id.Kind != auth.Host:
		return holdfast.Errorf(holdfast.Denied, "%s is not a host; this port is for the cluster's hosts only", id)
	case id.Host == n.cfg.Self:
		return holdfast.Errorf(holdfast.Denied, "%s is this host's own identity; was its data directory copied to another computer?", id)
	case !n.cfg.Member(id):
		return notMember(id)
	}
	return nil
}

// refuse says why and hangs up.
func (n *Network) refuse(w *wire, why error) {
	n.log.Warn("a connection was refused", "addr", w.conn.RemoteAddr().String(), "err", why)
	if w.conn.SetWriteDeadline(time.Now().Add(handshakeTimeout)) == nil {
		_ = w.write(appendFrame(nil, typeError, 0, errorFrame(why))) // it hangs up either way
	}
	w.cut(why)
}

func (n *Network) serve(w *wire, from holdfast.HostID) {
	if !n.track(w) {
		w.cut(errClosed())
		return
	}
	defer n.untrack(w)
	newInbound(n, w, from).serve()
}

// supersede makes in its host's connection and returns the one before.
func (n *Network) supersede(in *inbound) (before *inbound) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before = n.inbounds[in.from]
	n.inbounds[in.from] = in
	return before
}

func (n *Network) leave(in *inbound) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inbounds[in.from] == in {
		delete(n.inbounds, in.from)
	}
}

// connectSelf connects this host to itself, so that its calls to itself are
// coded, bounded, ordered and timed like any other.
func (n *Network) connectSelf() (*wire, error) {
	n.mu.Lock()
	ready := n.started && !n.ended
	n.mu.Unlock()
	if !ready {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host has not begun to serve")
	}
	id := auth.Identity{Kind: auth.Host, Host: n.cfg.Self}
	near, far := net.Pipe()
	n.wg.Go(func() { n.serve(newWire(far, nil, id), n.cfg.Self) })
	return newWire(near, nil, id), nil
}
