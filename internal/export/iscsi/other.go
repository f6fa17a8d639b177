package iscsi

import (
	"errors"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// other handles the PDUs that have a command number and are no commands.
func (c *connection) other(h *pdu.Header) error {
	s := c.s
	s.mu.Lock()
	v := c.turn(h)
	s.mu.Unlock()
	switch v {
	case ignored:
		return c.r.Skip()
	case tooEarly:
		return c.keepEarly(h)
	}
	var data []byte
	if n := h.DataLength(); n > 0 {
		data = make([]byte, n)
		if err := c.r.Data(data); errors.Is(err, pdu.ErrDataDigest) {
			c.reject(h, pdu.ReasonDigest)
			return c.runEarly()
		} else if err != nil {
			return err
		}
	}
	if err := c.act(h, data); err != nil {
		return err
	}
	return c.runEarly()
}

// act does what a PDU asks whose turn has come.
func (c *connection) act(h *pdu.Header, data []byte) error {
	switch h.Op() {
	case pdu.NopOut:
		c.nop(h, data)
		return nil
	case pdu.TaskRequest:
		c.manage(h)
		return nil
	case pdu.TextRequest:
		return c.textRequest(h, data)
	}
	return c.logout(h)
}

// nop sends a ping's data back (§11.18).
func (c *connection) nop(h *pdu.Header, data []byte) {
	if h.ITT() == pdu.NoTag {
		return // an answer, and nothing was asked
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var r pdu.Header
	r.SetOp(pdu.NopIn)
	r[1] = pdu.Final
	r.SetLUN(h.LUN())
	r.SetWord(pdu.AtITT, h.ITT())
	r.SetWord(pdu.AtTTT, pdu.NoTag)
	c.status(&r, data[:min(len(data), c.par.sendData)])
	c.wake(nil)
}

// Logout reasons and responses (§11.14.1 and §11.15.1).
const (
	closeSession    = 0
	closeConnection = 1
	logoutDone      = 0
	noSuchCID       = 1
	noRecovery      = 2
)

// logout ends the session, or one of its connections. It returns errGoodbye if
// c is among them.
func (c *connection) logout(h *pdu.Header) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	response, gone := byte(logoutDone), c
	switch h.Flags() & 0x7f {
	case closeSession:
		s.logout = true
	case closeConnection:
		// One that has logged out is none, though its goroutines may not have
		// ended yet.
		left := 0
		for _, x := range s.conns {
			if !x.closing {
				left++
			}
		}
		if gone = s.conns[h.Half(pdu.AtCID)]; gone == nil || gone.closing {
			response, gone = noSuchCID, nil
		} else if left == 1 {
			s.logout = true
		}
	default:
		response, gone = noRecovery, nil
	}
	var r pdu.Header
	r.SetOp(pdu.LogoutResp)
	r[1], r[2] = pdu.Final, response
	r.SetWord(pdu.AtITT, h.ITT())
	c.status(&r, nil)
	c.wake(nil)
	for _, x := range s.conns {
		if gone != nil && (s.logout || x == gone) {
			x.closing = true
			x.nc.SetReadDeadline(time.Now()) // its reader ends
		}
	}
	if c.closing {
		return errGoodbye
	}
	return nil
}

// announce tells the initiator of the session's end (§11.9), if its connection
// takes it at once.
func (s *session) announce(event byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if !c.ready {
			continue
		}
		var h pdu.Header
		h.SetOp(pdu.AsyncMessage)
		h[1] = pdu.Final
		h.SetWord(pdu.AtITT, pdu.NoTag)
		h[pdu.AtEvent] = event
		c.status(&h, nil)
		c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		c.flushLocked()
		return // one is enough, and the lock was given up
	}
}

// reset ends every session of a target, as TARGET COLD RESET does.
func (s *Server) reset(o *offer) {
	s.mu.Lock()
	var all []*session
	for x := range o.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	for _, x := range all {
		x.end(holdfast.Errorf(holdfast.Closed, "an initiator reset the target"))
	}
}
