package nbd

import (
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// How a connection comes to have its volume opened while others have it.

// open implements house. The handshake's deadline does not count while the
// volume opens, which may take a take-over.
func (c *connection) open(name string, readOnly bool) (export.Disk, bool, error) {
	s := c.srv
	s.mu.Lock()
	o := s.byName[strings.TrimSuffix(name, viewSuffix)]
	if o == nil || c.offer != nil && c.offer != o {
		s.mu.Unlock()
		return nil, false, holdfast.Errorf(holdfast.NotFound, "volume %q is no longer offered here", name)
	}
	c.offer = o // from here on Withdraw waits for this connection
	s.mu.Unlock()
	disk, shared, err := c.enter(o, readOnly)
	c.raw.SetDeadline(time.Now().Add(s.lim.Handshake))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		c.writes = !readOnly
	case !c.own:
		c.offer = nil // it may choose another volume
	}
	return disk, shared, err
}

// enter opens a volume once those who have hung up have left it, so that nothing
// that they asked for is done after what this client does.
func (c *connection) enter(o *offer, readOnly bool) (disk export.Disk, shared bool, err error) {
	end := time.Now().Add(busyGrace)
	for {
		switch sharer, can := o.target.(export.Sharer); {
		case readOnly || !can:
			disk, err = o.target.Open(readOnly)
		case !c.srv.awaitHungUp(c, o, end):
			err = holdfast.Errorf(holdfast.Busy, "a former connection to volume %s still ends", o.name)
		default:
			disk, shared, err = sharer.OpenShared()
		}
		if !holdfast.IsKind(err, holdfast.Busy) || !c.srv.awaitOther(c, o, end) {
			return disk, shared, err
		}
	}
}

// busyGrace is how long a client waits for another connection to the same
// volume to end before it is refused: a client that hangs up and comes back
// may be faster than the end of its former session.
const busyGrace = 500 * time.Millisecond

// awaitOther waits for another connection that writes to o and reports whether one
// ended.
func (s *Server) awaitOther(c *connection, o *offer, end time.Time) bool {
	s.mu.Lock()
	var other *connection
	for x := range s.conns {
		if x != c && x.offer == o && x.writes {
			other = x
		}
	}
	s.mu.Unlock()
	return other != nil && other.endsBefore(end)
}

// awaitHungUp waits for the connections to o whose clients have closed them, and
// reports whether all have ended.
func (s *Server) awaitHungUp(c *connection, o *offer, end time.Time) bool {
	s.mu.Lock()
	var left []*connection
	for x := range s.conns {
		if x != c && x.offer == o && x.writes && socket.HungUp(x.raw) {
			left = append(left, x)
		}
	}
	s.mu.Unlock()
	for _, x := range left {
		if !x.endsBefore(end) {
			return false
		}
	}
	return true
}

func (c *connection) endsBefore(end time.Time) bool {
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		return false
	}
}
