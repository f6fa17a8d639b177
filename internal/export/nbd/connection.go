package nbd

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// connection is one accepted client, from accept to close. Its offer is set
// under the server's lock: at once for a volume's own socket, when a volume
// is chosen on TCP.
type connection struct {
	srv    *Server
	raw    net.Conn
	offer  *offer
	own    bool // the socket belongs to the offer
	writes bool // a writing session is open, or has just ended; under the server's lock
	done   chan struct{}
}

// acceptPause is how long an accept loop rests when the process is out of
// file descriptors.
const acceptPause = 50 * time.Millisecond

// ListenTLS offers every volume on a TCP address, to clients that start TLS
// and show a certificate that cfg verifies. It returns the address bound.
// Errors: Invalid if cfg would let anyone in without a certificate, IO.
func (s *Server) ListenTLS(addr string, cfg *tls.Config) (net.Addr, error) {
	if cfg == nil || cfg.ClientAuth != tls.RequireAndVerifyClientCert || cfg.ClientCAs == nil {
		return nil, holdfast.Errorf(holdfast.Invalid,
			"nbd over TCP needs TLS with a required client certificate and the authority that signs them")
	}
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "listen for nbd: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		ln.Close()
		return nil, errClosed()
	}
	s.tcp = append(s.tcp, ln)
	s.serving.Add(1)
	go s.accept(ln, nil, cfg)
	return ln.Addr(), nil
}

// accept serves one listener until it is closed.
func (s *Server) accept(ln net.Listener, o *offer, cfg *tls.Config) {
	defer s.serving.Done()
	for {
		raw, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors and the like: connections must end first
			time.Sleep(acceptPause)
			continue
		}
		keepAlive(raw)
		roomy(raw)
		c := &connection{srv: s, raw: raw, offer: o, own: o != nil, done: make(chan struct{})}
		if !s.admit(c) {
			raw.Close()
			continue
		}
		go c.serve(cfg)
	}
}

// keepAlive makes a TCP client that has vanished noticed in half a minute, so
// that it does not keep a volume open.
func keepAlive(raw net.Conn) {
	if t, isTCP := raw.(*net.TCPConn); isTCP {
		t.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
		})
	}
}

// socketRoom is what a unix socket should take at once, in bytes: a long reply
// then needs no waiting for the client in between.
const socketRoom = 2 << 20

// roomy enlarges a unix socket's send buffer, as far as the kernel lets this
// process; where it does not, replies leave in more pieces.
func roomy(raw net.Conn) {
	u, isUnix := raw.(*net.UnixConn)
	if !isUnix {
		return
	}
	rc, err := u.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketRoom) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, socketRoom)
		}
	})
}

func (s *Server) admit(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := c.own && s.byID[c.offer.id] != c.offer
	if s.closed || gone || len(s.conns) >= s.lim.Connections {
		return false
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	return true
}

// serve runs the connection through its phases.
func (c *connection) serve(cfg *tls.Config) {
	s := c.srv
	defer s.serving.Done()
	defer func() {
		c.raw.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		close(c.done)
	}()
	c.raw.SetDeadline(time.Now().Add(s.lim.Handshake))
	h := &handshake{house: c, tls: cfg, needTLS: cfg != nil, options: s.lim.Options, nc: c.raw}
	if plain, ok := socket.New(c.raw); ok {
		plain.Tell(s.awake)
		h.nc = plain
	}
	a, err := h.run()
	if err != nil {
		if !quiet(err) {
			s.log.Warn("nbd handshake failed", "client", c.client(), "err", err)
		}
		return
	}
	c.raw.SetDeadline(time.Time{})
	t := newSession(a.nc, c.raw, a.br, a.disk, s.pool, s.lim)
	t.readOnly, t.structured, t.extended, t.contexts = a.readOnly, a.structured, a.extended, a.contexts
	err = t.run()
	a.disk.Close() // first: a client that sees the end may come back at once
	a.nc.Close()
	if !quiet(err) {
		s.log.Warn("nbd connection ended", "volume", a.name, "client", c.client(), "err", err)
	}
}

func (c *connection) client() string {
	if c.own {
		return "unix socket"
	}
	return c.raw.RemoteAddr().String()
}

// find implements house.
func (c *connection) find(name string) (string, export.Target, bool) {
	bare := strings.TrimSuffix(name, viewSuffix)
	if c.own {
		canonical, target := c.offer.seenAs(name)
		return canonical, target, bare == "" || bare == c.offer.name
	}
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	o := c.srv.byName[bare]
	if o == nil {
		return "", nil, false
	}
	canonical, target := o.seenAs(name)
	return canonical, target, true
}

// list implements house.
func (c *connection) list() []string {
	if c.own {
		return []string{c.offer.name}
	}
	return c.srv.names()
}
