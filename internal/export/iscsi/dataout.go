package iscsi

import (
	"errors"
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// dataOut handles a Data-Out PDU (§11.7). What belongs to no task any more, or
// to one that was refused, is passed over.
func (c *connection) dataOut(h *pdu.Header) error {
	s, n := c.s, h.DataLength()
	s.mu.Lock()
	t := s.tasks[h.ITT()]
	if t == nil || t.c != c || t.spoilt != nil {
		s.mu.Unlock()
		return c.r.Skip()
	}
	final, g := h.Flags()&pdu.Final != 0, segment{n: n, wire: true}
	if !t.inOrder(h, n, final) {
		// Data that is missing or misplaced cannot be asked for again at this
		// level of error recovery; the command ends.
		t.spoilt = &spoil{scsi.AbortedCommand, scsi.DataPhaseError}
		if !t.begun {
			t.unasked = false
		}
		if err := c.pass(t, g); err != nil {
			s.mu.Unlock()
			return err
		}
		c.proceed(t, true)
		return nil
	}
	var err error
	switch {
	case n == 0:
	case t.takes():
		err = c.receive(t, g)
	default:
		err = c.pass(t, g)
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	if s.tasks[h.ITT()] != t { // aborted meanwhile
		s.mu.Unlock()
		return nil
	}
	if final {
		t.endBurst()
	}
	c.proceed(t, true)
	return nil
}

// inOrder reports whether a Data-Out is the one that must come next, and
// counts it. The session's lock is held.
func (t *task) inOrder(h *pdu.Header, n int, final bool) bool {
	offset, sn := int64(h.Word(pdu.AtOffset)), h.Word(pdu.AtDataSN)
	if offset != t.got {
		return false
	}
	if h.Word(pdu.AtTTT) == pdu.NoTag {
		most := min(int64(t.s.par.firstBurst), t.Expect)
		if !t.unasked || sn != t.dataSN || t.got+int64(n) > most {
			return false
		}
		t.dataSN++
		return true
	}
	if len(t.bursts) == 0 || t.unasked {
		return false
	}
	b := &t.bursts[0]
	if h.Word(pdu.AtTTT) != b.ttt || sn != b.dataSN || t.got+int64(n) > b.end {
		return false
	}
	b.dataSN++
	return !final || t.got+int64(n) == b.end
}

// endBurst notes the end of a sequence of Data-Outs.
func (t *task) endBurst() {
	if t.unasked {
		t.unasked = false
		return
	}
	if len(t.bursts) > 0 {
		t.bursts = slices.Delete(t.bursts, 0, 1)
	}
}

// errOther is returned for PDUs that cannot be kept for later.
var errOther = errors.New("the PDU cannot wait for its turn")

// keepEarly keeps a PDU that came before its turn, with its data. The window
// bounds how many there are.
func (c *connection) keepEarly(h *pdu.Header) error {
	s := c.s
	e := &earlyPDU{c: c, h: *h}
	if n := h.DataLength(); n > 0 {
		if n > s.par.firstBurst {
			return errOther
		}
		e.data = make([]byte, n)
		if err := c.r.Data(e.data); errors.Is(err, pdu.ErrDataDigest) {
			c.reject(h, pdu.ReasonDigest)
			return nil
		} else if err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.early[h.Word(pdu.AtCmdSN)] == nil {
		s.early[h.Word(pdu.AtCmdSN)] = e
	}
	s.mu.Unlock()
	return c.runEarly() // its turn may have come meanwhile
}

// runEarly goes on with PDUs that were kept, once the ones before them are
// there; they may have come on other connections than c, whose reader this is.
func (c *connection) runEarly() error {
	s := c.s
	for {
		s.mu.Lock()
		e := s.early[s.expCmdSN]
		if e == nil || s.dead != nil {
			s.mu.Unlock()
			return nil
		}
		delete(s.early, s.expCmdSN)
		if e.c.turn(&e.h) != inTurn {
			s.mu.Unlock()
			return nil
		}
		if e.h.Op() != pdu.Command {
			s.mu.Unlock()
			err := e.c.act(&e.h, e.data)
			if err != nil && (e.c == c || !errors.Is(err, errGoodbye)) { // its own reader will end
				return err
			}
			continue
		}
		if err := e.c.start(&e.h, segment{n: len(e.data), kept: e.data}); err != nil {
			return err
		}
	}
}
