package iscsi

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// connection is one TCP connection: in login, then in a session.
type connection struct {
	srv    *Server
	portal *portal
	nc     net.Conn
	from   string // the initiator's address, for people
	r      pdu.Reader
	cid    uint16
	par    params // digests and segment length of this connection
	s      *session
	cmdSN  uint32 // login: the initiator's

	// Of the session's lock.
	statSN   uint32
	out      *batch
	spare    *batch
	text     []byte // what is still to be told of a long text response
	textTag  uint32
	asked    []byte // a text request in several PDUs
	wanted   bool   // the flusher has been asked
	stopped  bool   // the flusher shall end
	writing  bool
	ready    bool      // the last answer of the login is out; others may write now
	closing  bool      // logged out: what is queued is sent, then it closes
	work     sync.Cond // the flusher waits for something to write
	drained  sync.Cond // the reader waits for output to go away
	inline   atomic.Pointer[task]
	finished bool // its reader has ended
}

func newConnection(s *Server, nc net.Conn, p *portal) *connection {
	return &connection{srv: s, portal: p, nc: nc, out: &batch{}, spare: &batch{}, par: defaultParams(),
		r: pdu.Reader{R: bufio.NewReaderSize(nc, 64<<10), MaxData: loginRecv}}
}

func errGarbage(format string, args ...any) error {
	return holdfast.Errorf(holdfast.Invalid, "the initiator broke the protocol: "+format, args...)
}

// run serves the connection until it ends.
func (c *connection) run() {
	defer c.nc.Close()
	c.nc.SetDeadline(time.Now().Add(c.srv.lim.Login))
	s, err := c.enter()
	if err != nil {
		c.log(err, "an iSCSI login ended")
		return
	}
	c.nc.SetDeadline(time.Time{})
	c.r.HeaderDigest, c.r.DataDigest, c.r.MaxData = c.par.headerDigest, c.par.dataDigest, maxRecv
	s.mu.Lock()
	for _, b := range []*batch{c.out, c.spare} {
		b.headerDigest, b.dataDigest = c.par.headerDigest, c.par.dataDigest
	}
	c.ready = true
	if c.closing { // the session logged out meanwhile
		c.nc.SetReadDeadline(time.Now())
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.flusher()
		close(done)
	}()
	err = c.readAll()
	err = c.settle(err)
	<-done
	c.log(err, "an iSCSI connection ended")
	s.leave(c)
}

func (c *connection) log(err error, what string) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, errGoodbye) || errors.Is(err, errCarried) {
		return
	}
	name, target := "", ""
	if c.s != nil {
		name = c.s.initiator
		if c.s.offer != nil {
			target = c.s.offer.Name
		}
	}
	c.srv.log.Warn(what, "from", c.from, "initiator", name, "target", target, "err", err)
}

// settle ends the connection's part in the session: after a logout what is
// queued is still sent; any other end is the end of the session (error
// recovery level 0). It returns why the connection ended.
func (c *connection) settle(err error) error {
	s := c.s
	c.nc.SetWriteDeadline(time.Now().Add(drainTimeout))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.closing {
		if err == nil {
			err = holdfast.Errorf(holdfast.Unavailable, "the initiator left without logging out")
		}
		s.endLocked(err)
	}
	for c.writing {
		c.drained.Wait()
	}
	if c.closing {
		c.flushLocked()
		err = errGoodbye
	}
	c.out.Reset(c.srv.pool)
	c.stopped, c.finished = true, true
	c.work.Signal()
	return err
}

// errGoodbye ends readAll after a logout.
var errGoodbye = errors.New("the initiator logged out")

func (c *connection) readAll() error {
	for {
		if err := c.readOne(); err != nil {
			return err
		}
	}
}

// readOne takes one PDU and does what it asks. An error ends the connection.
func (c *connection) readOne() error {
	if !c.r.Buffered() {
		if err := c.flushAndWait(); err != nil {
			return err
		}
	}
	var h pdu.Header
	ahs, err := c.r.Next(&h)
	if err != nil {
		return err
	}
	switch h.Op() {
	case pdu.DataOut:
		return c.dataOut(&h)
	case pdu.Command:
		return c.command(&h, ahs)
	case pdu.NopOut, pdu.TaskRequest, pdu.TextRequest, pdu.LogoutReq:
		return c.other(&h)
	case pdu.SnackRequest:
		if err := c.r.Skip(); err != nil {
			return err
		}
		c.reject(&h, pdu.ReasonSNACK)
		return nil
	case pdu.LoginRequest:
		return errGarbage("a login in full feature phase")
	}
	if err := c.r.Skip(); err != nil {
		return err
	}
	c.reject(&h, pdu.ReasonUnsupported)
	return nil
}

// flushAndWait writes what has been completed, before the reader waits for the
// initiator; and waits itself while too much output is queued.
func (c *connection) flushAndWait() error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	c.flushLocked()
	for c.out.Size() > backlog && s.dead == nil {
		c.drained.Wait()
	}
	return s.dead
}

// flushLocked writes batches until there is nothing to write. It gives up the
// lock while it writes; if another goroutine is writing, that one goes on.
func (c *connection) flushLocked() {
	s := c.s
	if c.writing || !c.ready {
		return
	}
	c.writing = true
	for !c.out.Empty() && s.dead == nil {
		b := c.out
		c.out, c.spare = c.spare, nil
		s.mu.Unlock()
		err := b.Send(c.nc)
		cost := b.Cost
		b.Reset(c.srv.pool)
		s.mu.Lock()
		c.spare = b
		if err != nil {
			s.endLocked(holdfast.Errorf(holdfast.Unavailable, "write to the initiator: %w", err))
		}
		c.drained.Broadcast()
		s.bytes -= cost
		s.feedLocked()
	}
	c.writing = false
	c.drained.Broadcast()
}

// flusher writes what completes while the reader is elsewhere.
func (c *connection) flusher() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for !c.stopped {
		if c.wanted {
			c.wanted = false
			c.flushLocked()
			s.feedLocked()
			continue
		}
		c.work.Wait()
	}
}

// wake asks for the queue to be written, by the flusher unless the reader is
// about to do it; s.mu is held.
func (c *connection) wake(t *task) {
	if t != nil && c.inline.Load() == t || c.wanted {
		return
	}
	c.wanted = true
	c.work.Signal()
}
