package initiator

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// send writes one PDU.
func (c *conn) send(h *pdu.Header, data []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	h.SetDataLength(len(data))
	b := append(c.buf[:0], h[:]...)
	if c.r.HeaderDigest {
		b = pdu.AppendDigest(b, h[:])
	}
	if len(data) > 0 {
		start := len(b)
		b = append(b, data...)
		b = append(b, make([]byte, pdu.Padding(len(data)))...)
		if c.r.DataDigest {
			b = pdu.AppendDigest(b, b[start:])
		}
	}
	c.buf = b
	_, err := c.nc.Write(b)
	return err
}

// dataOut sends a sequence of Data-Outs with the bytes [from, to).
func (c *conn) dataOut(k *call, itt, ttt uint32, from, to int) {
	for sn := uint32(0); from < to; sn++ {
		n := min(c.sendMax, to-from)
		var h pdu.Header
		h.SetOp(pdu.DataOut)
		if from+n == to {
			h[1] = pdu.Final
		}
		h.SetLUN(k.cmd.LUN)
		h.SetWord(pdu.AtITT, itt)
		h.SetWord(pdu.AtTTT, ttt)
		h.SetWord(pdu.AtDataSN, sn)
		h.SetWord(pdu.AtOffset, uint32(from))
		if k.cmd.Data != nil {
			k.cmd.Data(&h)
		}
		if err := c.send(&h, k.cmd.Out[from:from+n]); err != nil {
			return
		}
		from += n
	}
}

// read takes PDUs until the connection ends.
func (c *conn) read() {
	defer c.s.readers.Done()
	for {
		if err := c.one(); err != nil {
			c.s.mu.Lock()
			leaving := c.leaving
			c.s.mu.Unlock()
			if leaving {
				c.nc.Close()
				return
			}
			c.s.fail(holdfast.Errorf(holdfast.Unavailable, "the connection to the target ended: %w", err))
			return
		}
	}
}

func (c *conn) one() error {
	s := c.s
	var h pdu.Header
	if _, err := c.r.Next(&h); err != nil {
		return err
	}
	n := h.DataLength()
	s.mu.Lock()
	k := s.pending[h.ITT()]
	s.mu.Unlock()
	var data []byte
	if h.Op() == pdu.DataIn && k != nil && k.cmd != nil {
		off := int(h.Word(pdu.AtOffset))
		if off != k.reply.Got || off+n > len(k.cmd.In) {
			return holdfast.Errorf(holdfast.Invalid, "Data-In of %d bytes at %d; %d have come of %d", n, off, k.reply.Got, len(k.cmd.In))
		}
		data = k.cmd.In[off : off+n]
	} else {
		data = make([]byte, n)
	}
	if err := c.r.Data(data); err != nil {
		return err
	}
	c.count(&h)
	return c.take(&h, data, k)
}

// count keeps the numbers.
func (c *conn) count(h *pdu.Header) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := h.Word(pdu.AtMaxCmdSN); int32(m-s.maxCmdSN) > 0 {
		s.maxCmdSN = m
		s.settled.Broadcast()
	}
	switch h.Op() {
	case pdu.Ready:
	case pdu.DataIn:
		if h.Flags()&pdu.HasStatus != 0 {
			c.expStatSN = h.Word(pdu.AtStatSN) + 1
		}
	default:
		c.expStatSN = h.Word(pdu.AtStatSN) + 1
	}
}

func (c *conn) take(h *pdu.Header, data []byte, k *call) error {
	s := c.s
	switch h.Op() {
	case pdu.AsyncMessage:
		s.mu.Lock()
		s.Events[h[pdu.AtEvent]]++
		s.mu.Unlock()
		return nil
	case pdu.Reject:
		if len(data) < pdu.HeaderSize {
			return holdfast.Errorf(holdfast.Invalid, "a reject without the PDU it rejects")
		}
		itt := (*pdu.Header)(data[:pdu.HeaderSize]).ITT()
		s.mu.Lock()
		k = s.pending[itt]
		s.mu.Unlock()
		if k != nil {
			k.err = holdfast.Errorf(holdfast.Denied, "rejected with reason %#x", h[2])
			s.finish(itt, k)
		}
		return nil
	}
	if k == nil {
		return nil // of a command that was given up
	}
	r := &k.reply
	switch h.Op() {
	case pdu.DataIn:
		r.Got += len(data)
		if h.Flags()&pdu.HasStatus == 0 {
			return nil
		}
		r.Status, r.Flags, r.Residual = h[3], h.Flags()&(pdu.Overflow|pdu.Underflow), h.Word(pdu.AtResidual)
	case pdu.Ready:
		if !k.cmd.Hold {
			from := int(h.Word(pdu.AtOffset))
			c.dataOut(k, h.ITT(), h.Word(pdu.AtTTT), from, from+int(h.Word(pdu.AtDesired)))
		}
		return nil
	case pdu.Response:
		r.Status, r.Flags, r.Residual = h[3], h.Flags()&(pdu.Overflow|pdu.Underflow), h.Word(pdu.AtResidual)
		if len(data) >= 2 {
			r.Sense = data[2:min(len(data), 2+int(data[0])<<8+int(data[1]))]
		}
	case pdu.TextResponse:
		r.Text, r.Flags, r.Residual = data, h.Flags(), h.Word(pdu.AtTTT)
	case pdu.NopIn:
		r.Text = data
	case pdu.TaskResponse, pdu.LogoutResp:
		r.Response = h[2]
	}
	s.finish(h.ITT(), k)
	return nil
}

func (s *Session) finish(itt uint32, k *call) {
	s.mu.Lock()
	delete(s.pending, itt)
	s.mu.Unlock()
	k.done(k.reply, k.err)
}
