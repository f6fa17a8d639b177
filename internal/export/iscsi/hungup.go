package iscsi

import (
	"net"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// An initiator that drops its connection and logs in again, as another port,
// may come back before the end of the old connection has been noticed. What it
// had under way must not happen after what it does next, and what its old
// nexus held (a medium locked in, say) must not stand in its way: so a login
// asks the sockets themselves.

// hungUp reports whether the far side of a connection has ended it, as far as
// is known here.
func hungUp(nc net.Conn) bool {
	if h, ok := nc.(interface{ HungUp() bool }); ok {
		return h.HungUp()
	}
	return socket.HungUp(nc)
}

// left reports whether the initiator is gone: the session is ending, or all
// its connections have hung up.
func (s *session) left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return true
	}
	for _, c := range s.conns {
		if !hungUp(c.nc) {
			return false
		}
	}
	return len(s.conns) > 0 // else its login is not finished
}

// endLeft ends the sessions that the initiator of s left behind at the same
// target and portal group, and waits until they have ended.
func (srv *Server) endLeft(s *session) {
	if s.offer == nil {
		return
	}
	var same []*session
	srv.mu.Lock()
	for x := range s.offer.sessions {
		if x.initiator == s.initiator && x.group == s.group {
			same = append(same, x)
		}
	}
	srv.mu.Unlock()
	for _, x := range same {
		if x.left() {
			x.end(holdfast.Errorf(holdfast.Closed, "the initiator left and logged in again"))
			<-x.ended
		}
	}
}
