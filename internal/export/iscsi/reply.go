package iscsi

import (
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// queue appends a PDU to the connection's output with the command numbers of
// now; s.mu is held.
func (c *connection) queue(h *pdu.Header, data []byte) (refers bool) {
	s := c.s
	h.SetWord(pdu.AtExpCmdSN, s.expCmdSN)
	h.SetWord(pdu.AtMaxCmdSN, s.expCmdSN+uint32(s.room())-1)
	return c.out.add(h, data)
}

// status appends a PDU that uses up a status number; s.mu is held.
func (c *connection) status(h *pdu.Header, data []byte) (refers bool) {
	h.SetWord(pdu.AtStatSN, c.statSN)
	c.statSN++
	return c.queue(h, data)
}

// done is what a unit calls when a task has ended.
func (t *task) done(*scsi.Task) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	c := t.c
	switch {
	case t.Aborted && t.spoiling && t.spoilt != nil:
		t.Fail(t.spoilt.key, t.spoilt.code)
		c.respond(t)
	case t.Aborted && t.Status != scsi.TaskAborted:
		s.forget(t)
	default:
		c.respond(t)
	}
}

// respond answers a command and forgets it; s.mu is held.
func (c *connection) respond(t *task) {
	s := c.s
	if s.dead != nil || c.finished {
		s.forget(t)
		return
	}
	s.strike(t) // before the answer, which tells of the room
	if t.Dir == scsi.In && t.writes {
		t.edtl = 0 // nothing of what the command sends was expected
	}
	flags, residual := t.residual()
	dataSN := uint32(0)
	told := false
	if t.Dir == scsi.In && len(t.Data) > 0 && t.edtl > 0 {
		dataSN, told = c.sendData(t, t.Data[:min(int64(len(t.Data)), t.edtl)], flags, residual)
	}
	if !told {
		var h pdu.Header
		h.SetOp(pdu.Response)
		h[1], h[3] = pdu.Final|flags, byte(t.Status)
		h.SetWord(pdu.AtITT, t.itt)
		h.SetWord(pdu.AtExpDataSN, dataSN+t.r2tSN)
		h.SetWord(pdu.AtResidual, residual)
		var data []byte
		if len(t.Sense) > 0 {
			data = append([]byte{byte(len(t.Sense) >> 8), byte(len(t.Sense))}, t.Sense...)
		}
		c.status(&h, data)
	}
	c.wake(t)
	s.drop(t)
}

// residual compares what the command moves with what the initiator expected
// (§11.4.5).
func (t *task) residual() (flags byte, n uint32) {
	moved := t.Total
	if t.Dir == scsi.Out {
		moved = t.Want
	}
	switch {
	case moved > t.edtl:
		return pdu.Overflow, uint32(min(moved-t.edtl, 0xffffffff))
	case moved < t.edtl:
		return pdu.Underflow, uint32(t.edtl - moved)
	}
	return 0, 0
}

// sendData appends the Data-In PDUs of a task, the status in the last one if
// it is GOOD. It returns how many there are and whether the status was told.
// s.mu is held.
func (c *connection) sendData(t *task, data []byte, flags byte, residual uint32) (n uint32, told bool) {
	s := c.s
	refers := false
	inBurst := 0
	for off := 0; off < len(data); {
		step := min(len(data)-off, c.par.sendData, s.par.maxBurst-inBurst)
		last := off+step == len(data)
		var h pdu.Header
		h.SetOp(pdu.DataIn)
		if inBurst += step; last || inBurst == s.par.maxBurst {
			h[1] = pdu.Final
			inBurst = 0
		}
		h.SetWord(pdu.AtITT, t.itt)
		h.SetWord(pdu.AtTTT, pdu.NoTag)
		h.SetWord(pdu.AtDataSN, n)
		h.SetWord(pdu.AtOffset, uint32(off))
		n++
		piece := data[off : off+step]
		if told = last && t.Status == scsi.Good; told {
			h[1] |= pdu.HasStatus | flags
			h.SetWord(pdu.AtResidual, residual)
			refers = c.status(&h, piece) || refers
		} else {
			refers = c.queue(&h, piece) || refers
		}
		off += step
	}
	if refers && t.buf != nil { // the batch owns the memory now
		c.out.Hold(t.buf)
		c.out.Cost += t.cost
		t.buf, t.cost = nil, 0
	}
	return n, told
}

// reject answers a PDU that cannot be taken (§11.17).
func (c *connection) reject(bad *pdu.Header, reason byte) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var h pdu.Header
	h.SetOp(pdu.Reject)
	h[1], h[2] = pdu.Final, reason
	h.SetWord(pdu.AtITT, pdu.NoTag)
	c.status(&h, bad[:])
	c.wake(nil)
}
