package iscsi

import (
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// manage handles a task management request (§11.5). It is answered when what
// it asked for is certain: a task that stands before the disk is waited for,
// without holding up anything else.
func (c *connection) manage(h *pdu.Header) {
	s := c.s
	s.mu.Lock()
	if s.managing >= s.srv.lim.Immediate {
		s.mu.Unlock()
		c.reject(h, pdu.ReasonTooManyImm)
		return
	}
	s.managing++
	s.mu.Unlock()
	itt := h.ITT()
	answer := func(response byte) { c.managed(itt, response) }
	if s.offer == nil {
		answer(pdu.FunctionNotSupported)
		return
	}
	complete := func() { answer(pdu.FunctionComplete) }
	function := h.Flags() & 0x7f
	switch function {
	case pdu.AbortTask:
		c.abortTask(h, answer)
		return
	case pdu.WarmReset, pdu.ColdReset:
		c.resetTarget(function == pdu.ColdReset, complete)
		return
	case pdu.Reassign:
		answer(pdu.NoReassignment)
		return
	case pdu.AbortTaskSet, pdu.ClearTaskSet, pdu.UnitReset:
	default: // CLEAR ACA: there is no ACA
		answer(pdu.FunctionNotSupported)
		return
	}
	u := s.path.Unit(h.LUN())
	if u == nil {
		answer(pdu.NoSuchUnit)
		return
	}
	s.dropRefused(h.LUN())
	switch function {
	case pdu.AbortTaskSet:
		u.AbortSet(s.path, complete)
	case pdu.ClearTaskSet:
		u.ClearSet(s.path, complete)
	default:
		u.Reset(s.path, scsi.DeviceReset, complete)
	}
}

// managed answers a task management request.
func (c *connection) managed(itt uint32, response byte) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.managing--; s.managing == 0 {
		s.idle.Broadcast()
	}
	if s.dead != nil || c.finished {
		return
	}
	var h pdu.Header
	h.SetOp(pdu.TaskResponse)
	h[1], h[2] = pdu.Final, response
	h.SetWord(pdu.AtITT, itt)
	c.status(&h, nil)
	c.wake(nil)
}

// abortTask is ABORT TASK. A task that is not there has been answered; or its
// command has not arrived, and then it counts as received and aborted (§11.5.1).
func (c *connection) abortTask(h *pdu.Header, answer func(byte)) {
	s := c.s
	s.mu.Lock()
	t := s.tasks[h.Word(pdu.AtTTT)]
	switch {
	case t != nil && t.begun:
		unit, seq := t.TaskUnit(), t.Seq()
		t.spoilt = nil
		s.mu.Unlock()
		if !unit.Abort(&t.Task, seq, func() { answer(pdu.FunctionComplete) }) {
			answer(pdu.NoSuchTask)
		}
		return
	case t != nil:
		s.forget(t)
		s.mu.Unlock()
		answer(pdu.FunctionComplete)
		return
	}
	sn := h.Word(pdu.AtRefCmdSN)
	missing := int32(sn-s.expCmdSN) >= 0 && int32(h.Word(pdu.AtCmdSN)-sn) > 0 && int(sn-s.expCmdSN) < s.room()
	if missing {
		// A NOP in its place keeps the order going.
		nop := &earlyPDU{c: c}
		nop.h.SetOp(pdu.NopOut)
		nop.h.SetWord(pdu.AtITT, pdu.NoTag)
		nop.h.SetWord(pdu.AtCmdSN, sn)
		s.early[sn] = nop
	}
	s.mu.Unlock()
	if missing {
		answer(pdu.FunctionComplete)
		return
	}
	answer(pdu.NoSuchTask)
}

// dropRefused forgets refused commands on a unit whose data is still coming.
func (s *session) dropRefused(lun [8]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tasks {
		if !t.begun && t.lun == lun {
			s.forget(t)
		}
	}
}

// resetTarget resets all units; a cold reset then drops every session.
func (c *connection) resetTarget(cold bool, complete func()) {
	s := c.s
	units := s.offer.Device.Units()
	var left atomic.Int32
	left.Store(int32(len(units)))
	for _, u := range units {
		u.Reset(s.path, scsi.BusReset, func() {
			if left.Add(-1) > 0 {
				return
			}
			complete()
			if cold {
				go func() {
					s.announce(pdu.EventDropSession)
					s.srv.reset(s.offer)
				}()
			}
		})
	}
}
