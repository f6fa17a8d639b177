package iscsi

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// A target is served by one host, so that its reservations, unit attentions
// and atomic commands are in one place; the portals of the others carry
// connections there. What is carried is the bytes of the connection, from its
// first login request on: nobody between knows SCSI.

// errCarried ends a connection that was carried elsewhere.
var errCarried = errors.New("the connection was carried to another host")

// ServeConn serves a connection that came in by another host's portal, as one
// of the given portal group, from the address that this one saw. It returns at
// once.
func (s *Server) ServeConn(nc net.Conn, group uint16, from string) {
	s.serve(nc, &portal{group: group}, from)
}

// carriage is a connection that is carried to the host that serves its target.
type carriage struct {
	target, initiator string
	group             uint16
	nc                net.Conn      // the initiator's
	over              chan struct{} // closed once the other host has ended its side
}

// carry connects the initiator with the host that serves the target, replays
// the login request that named it, and copies both ways until one side ends.
func (c *connection) carry(l *login, h *pdu.Header, ahs, data []byte) error {
	if c.srv.cfg.Forward == nil {
		return refuse(pdu.LoginUnavailable, "the target is served by no host")
	}
	k := &carriage{l.targetName, l.initiator, c.portal.group, c.nc, make(chan struct{})}
	defer c.srv.carrying(k)()
	to, err := c.srv.cfg.Forward(k.target, k.group, c.from)
	if err != nil {
		return refuse(pdu.LoginUnavailable, "the host that serves the target cannot be reached: "+err.Error())
	}
	defer to.Close()
	b := append(append(h[:len(h):len(h)], ahs...), data...)
	b = append(b, make([]byte, pdu.Padding(len(data)))...)
	to.SetWriteDeadline(time.Now().Add(drainTimeout))
	if _, err := to.Write(b); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "carry a login to the host that serves %s: %w", k.target, err)
	}
	to.SetWriteDeadline(time.Time{})
	c.nc.SetDeadline(time.Time{})
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(c.nc, to)
		c.nc.Close()
		io.Copy(io.Discard, to) // its end tells that the other host has seen ours
	}()
	io.Copy(to, c.r.R) // what is buffered comes first
	c.srv.endCarried(to)
	<-back
	return errCarried
}

// carrying notes a connection that is about to be carried, after those that the
// same initiator has left behind here have ended: else the host that serves the
// target might hear of the new one first (hungup.go). What it returns is to be
// called at the end.
func (s *Server) carrying(k *carriage) (end func()) {
	var left []*carriage
	s.mu.Lock()
	for x := range s.carried {
		if x.target == k.target && x.initiator == k.initiator && x.group == k.group && hungUp(x.nc) {
			left = append(left, x)
		}
	}
	s.carried[k] = struct{}{}
	s.mu.Unlock()
	for _, x := range left {
		<-x.over
	}
	return func() {
		s.mu.Lock()
		delete(s.carried, k)
		s.mu.Unlock()
		close(k.over)
	}
}

// endCarried tells the other host that the initiator has ended its side, and
// gives it some time to do likewise.
func (s *Server) endCarried(to net.Conn) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if half, ok := to.(interface{ CloseWrite() error }); ok && !closed {
		to.SetReadDeadline(time.Now().Add(drainTimeout))
		if half.CloseWrite() == nil {
			return
		}
	}
	to.Close()
}
