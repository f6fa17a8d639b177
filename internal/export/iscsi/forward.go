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

// carry connects the initiator with the host that serves the target, replays
// the login request that named it, and copies both ways until one side ends.
func (c *connection) carry(target string, h *pdu.Header, ahs, data []byte) error {
	if c.srv.cfg.Forward == nil {
		return refuse(pdu.LoginUnavailable, "the target is served by no host")
	}
	to, err := c.srv.cfg.Forward(target, c.portal.group, c.from)
	if err != nil {
		return refuse(pdu.LoginUnavailable, "the host that serves the target cannot be reached: "+err.Error())
	}
	defer to.Close()
	b := append(append(h[:len(h):len(h)], ahs...), data...)
	b = append(b, make([]byte, pdu.Padding(len(data)))...)
	to.SetWriteDeadline(time.Now().Add(drainTimeout))
	if _, err := to.Write(b); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "carry a login to the host that serves %s: %w", target, err)
	}
	to.SetWriteDeadline(time.Time{})
	c.nc.SetDeadline(time.Time{})
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(c.nc, to)
		c.nc.Close()
	}()
	io.Copy(to, c.r.R) // what is buffered comes first
	to.Close()
	<-back
	return errCarried
}
