package iscsi

import (
	"errors"
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// task is one SCSI command of a session. Its fields belong to the session's
// lock; buf is filled by the reader of its connection alone.
type task struct {
	scsi.Task
	s         *session
	c         *connection // that it came on, and is answered on
	bound     func(*scsi.Task)
	next      *task
	itt       uint32
	lun       [8]byte
	edtl      int64 // expected data transfer length; 0 in a direction not expected
	immediate bool  // not of the command window
	writes    bool  // the initiator is to send
	begun     bool  // the unit knows it and will call done

	buf  *buffer.Buffer
	hold *buffer.Buffer // unsolicited data of a command that waits for memory
	cost int64          // of the session's memory

	// Data from the initiator.
	got     int64 // bytes received, in order
	filling bool  // the reader is taking data for it
	handing bool  // it is being given to its unit
	dropped bool  // it ended while filling or handing
	unasked bool  // unsolicited Data-Outs are still to come
	dataSN  uint32
	asked   int64 // up to where R2Ts were sent
	r2tSN   uint32
	bursts  []burst // R2Ts that are not satisfied yet, oldest first
	spoilt  *spoil  // what ends it instead of the command's own result
	// spoiling says that its unit was told to abort it for that.
	spoiling bool
}

// burst is one R2T that was sent.
type burst struct {
	ttt    uint32
	end    int64 // offset after its last byte
	dataSN uint32
}

// spoil is a failure of the transfer itself.
type spoil struct {
	key  scsi.Key
	code scsi.Code
}

// memory returns where data is received into.
func (t *task) memory() *buffer.Buffer {
	if t.buf != nil {
		return t.buf
	}
	return t.hold
}

// segment is the data segment of a PDU: still on the wire, or kept since the
// PDU came too early.
type segment struct {
	n    int
	kept []byte
	wire bool
}

// into fills b, exactly as long as the segment.
func (g segment) into(c *connection, b []byte) error {
	if g.wire {
		return c.r.Data(b)
	}
	copy(b, g.kept)
	return nil
}

func (g segment) skip(c *connection) error {
	if g.wire {
		return c.r.Skip()
	}
	return nil
}

// command handles a SCSI command PDU from the wire.
func (c *connection) command(h *pdu.Header, ahs []byte) error {
	s := c.s
	if _, good := pdu.ExtendedCDB(ahs); !good || s.offer == nil {
		if err := c.r.Skip(); err != nil {
			return err
		}
		c.reject(h, pdu.ReasonProtocol)
		return nil
	}
	s.mu.Lock()
	switch c.turn(h) {
	case ignored:
		s.mu.Unlock()
		return c.r.Skip()
	case tooEarly:
		s.mu.Unlock()
		return c.keepEarly(h)
	case rejected:
		s.mu.Unlock()
		if err := c.r.Skip(); err != nil {
			return err
		}
		c.reject(h, pdu.ReasonTooManyImm)
		return nil
	}
	if err := c.start(h, segment{n: h.DataLength(), wire: true}); err != nil {
		return err
	}
	return c.runEarly()
}

// start begins a command whose turn has come and goes on with it as far as
// possible; s.mu is held, and given up.
func (c *connection) start(h *pdu.Header, g segment) error {
	s := c.s
	t, err := c.begin(h)
	if err == nil && g.n > 0 {
		err = c.immediateData(t, g)
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	c.proceed(t, g.wire)
	return nil
}

// verdict on a PDU's place in the order of commands.
type verdict int

const (
	inTurn verdict = iota
	ignored
	tooEarly
	rejected
)

// turn decides whether a PDU's turn has come (§4.2.2.1) and, if so, counts it.
// s.mu is held.
func (c *connection) turn(h *pdu.Header) verdict {
	s := c.s
	command := h.Op() == pdu.Command
	if h.Immediate() {
		if command {
			if s.immediate >= s.srv.lim.Immediate {
				return rejected
			}
			s.immediate++
		}
		return inTurn
	}
	switch ahead := int32(h.Word(pdu.AtCmdSN) - s.expCmdSN); {
	case ahead < 0 || int(ahead) >= s.room():
		return ignored
	case ahead > 0:
		return tooEarly
	}
	s.expCmdSN++
	if command {
		s.outstanding++
	}
	return inTurn
}

// begin makes the task of a command whose turn has come; s.mu is held.
func (c *connection) begin(h *pdu.Header) (*task, error) {
	s := c.s
	itt := h.ITT()
	if s.tasks[itt] != nil || itt == pdu.NoTag {
		return nil, errGarbage("a command with the tag %#x of another", itt)
	}
	t := s.newTask()
	t.c, t.itt, t.lun, t.immediate = c, itt, h.LUN(), h.Immediate()
	t.Path, t.LUN, t.Done = s.path, t.lun, t.bound
	copy(t.CDB[:], h[pdu.AtCDB:])
	switch h.Flags() & pdu.AttrMask {
	case pdu.Ordered:
		t.Attr = scsi.Ordered
	case pdu.Head:
		t.Attr = scsi.Head
	default:
		t.Attr = scsi.Simple
	}
	t.edtl = int64(h.Word(pdu.AtLength))
	write := h.Flags()&pdu.CommandWrite != 0
	if h.Flags()&(pdu.CommandWrite|pdu.CommandRead) == 0 {
		t.edtl = 0
	}
	t.Expect, t.writes = t.edtl, write
	t.unasked = write && h.Flags()&pdu.Final == 0
	if t.unasked && (s.par.initialR2T || int64(h.DataLength()) >= min(t.edtl, int64(s.par.firstBurst))) {
		t.unasked = false // there is nothing that may come
	}
	s.tasks[itt] = t
	t.begun = s.path.Begin(&t.Task)
	return t, nil
}

// immediateData receives the data that came with a command; s.mu is held, and
// given up meanwhile.
func (c *connection) immediateData(t *task, g segment) error {
	switch takes := t.takes(); {
	case !c.s.par.immediateData || g.n > c.s.par.firstBurst || int64(g.n) > t.Expect:
		return errGarbage("immediate data of %d bytes", g.n)
	case !takes:
		return c.pass(t, g)
	}
	return c.receive(t, g)
}

// pass passes over a data segment that its task has no use for; s.mu is held,
// and given up meanwhile. The task may have ended when it returns.
func (c *connection) pass(t *task, g segment) error {
	s := c.s
	t.filling = true // the value must not be used for another one
	s.mu.Unlock()
	err := g.skip(c)
	s.mu.Lock()
	t.filling = false
	t.got += int64(g.n)
	if t.dropped {
		s.recycle(t)
	}
	return err
}

// takes reports whether the command has a use for data from the initiator; one
// that was refused, or that writes no block, has not.
func (t *task) takes() bool { return t.begun && t.Dir == scsi.Out && t.Need > 0 }

// receive puts a data segment into a task's memory at t.got; s.mu is held, and
// given up meanwhile. The task may have ended when it returns.
func (c *connection) receive(t *task, g segment) error {
	s := c.s
	s.secure(t)
	mem := t.memory().Mem
	wanted := int(min(int64(g.n), max(0, min(int64(t.Need), int64(len(mem)))-t.got)))
	at := t.got
	t.filling = true
	if g.wire && c.r.R.Buffered() < g.n {
		c.flushLocked() // about to wait for the initiator
	}
	s.mu.Unlock()
	var err error
	if wanted == g.n {
		err = g.into(c, mem[at:at+int64(g.n)])
	} else { // more than the command takes
		b := make([]byte, g.n)
		if err = g.into(c, b); err == nil {
			copy(mem[min(at, int64(len(mem))):], b[:wanted])
		}
	}
	s.mu.Lock()
	t.filling = false
	broken := errors.Is(err, pdu.ErrDataDigest)
	if t.dropped {
		s.recycle(t)
		if broken {
			return nil
		}
		return err
	}
	t.got += int64(g.n)
	if broken {
		t.spoilt = &spoil{scsi.AbortedCommand, scsi.CRCError}
		return nil
	}
	return err
}

// secure gives a task that takes data its memory: all of it if the session
// may have that much now, else as much as may come unasked. s.mu is held.
func (s *session) secure(t *task) {
	if t.buf != nil || t.Need == 0 || !t.begun {
		return
	}
	// In the order of arrival: a later task that got memory first could be made
	// to wait, by task attributes, for the one that waits for its memory.
	first := len(s.starved) == 0 || s.starved[0] == t
	if t.Need <= s.par.firstBurst || first && s.grant(int64(t.Need)) {
		t.fit(int64(t.Need))
		return
	}
	if t.hold == nil && t.Dir == scsi.Out {
		t.hold = s.srv.pool.Get(min(t.Need, s.par.firstBurst))
	}
}

// grant reports whether n more bytes may be used; s.mu is held.
func (s *session) grant(n int64) bool { return s.bytes == 0 || s.bytes+n <= s.srv.lim.Bytes }

// fit lends the task its whole buffer; s.mu is held.
func (t *task) fit(n int64) {
	t.cost = n
	t.s.bytes += n
	t.buf = t.s.srv.pool.Get(int(n))
	if t.hold != nil {
		copy(t.buf.Mem[:min(t.got, n)], t.hold.Mem)
		t.s.srv.pool.Put(t.hold)
		t.hold = nil
	}
}

// feedLocked goes on with tasks that waited for memory, as far as there is
// some; s.mu is held, and given up meanwhile.
func (s *session) feedLocked() {
	for len(s.starved) > 0 && s.dead == nil {
		t := s.starved[0]
		if s.tasks[t.itt] != t || !t.begun || t.buf != nil { // ended meanwhile
			s.starved = s.starved[1:]
			continue
		}
		if !s.grant(int64(t.Need)) || t.filling {
			return
		}
		s.starved = s.starved[1:]
		t.fit(int64(t.Need))
		t.c.proceed(t, false)
		s.mu.Lock()
	}
}

// starve puts a task into the line for memory; s.mu is held.
func (s *session) starve(t *task) {
	if !slices.Contains(s.starved, t) {
		s.starved = append(s.starved, t)
	}
}

// proceed takes a task as far as it can go: it waits for data, asks for it,
// runs, or is answered. s.mu is held; proceed gives it up. inline says that
// the caller is the reader of t's connection.
func (c *connection) proceed(t *task, inline bool) {
	s := c.s
	if s.tasks[t.itt] != t || t.filling { // it ended; or its reader goes on with it
		s.mu.Unlock()
		return
	}
	switch {
	case !t.begun && t.unasked, t.begun && t.spoilt == nil && t.unasked && t.Dir == scsi.Out && t.got < int64(t.Need):
		s.mu.Unlock() // more comes by itself
		return
	case !t.begun:
		c.respond(t)
		s.mu.Unlock()
		return
	case t.spoilt != nil:
		t.spoiling = true
		unit, seq := t.TaskUnit(), t.Seq()
		s.mu.Unlock()
		unit.Abort(&t.Task, seq, func() {})
		return
	}
	if s.secure(t); t.Need > 0 && t.buf == nil {
		s.starve(t)
		s.mu.Unlock()
		return
	}
	if t.Dir == scsi.Out && t.got < int64(t.Need) {
		c.ask(t)
		s.mu.Unlock()
		return
	}
	if t.unasked { // all it takes is here, and more than that is still to come
		s.mu.Unlock()
		return
	}
	if t.buf != nil {
		t.Buf = t.buf.Mem[:t.Need]
	}
	// An abort may end the task before its unit gets it; the value must not
	// be used for another one until Run has returned.
	t.handing = true
	s.mu.Unlock()
	if inline {
		c.inline.Store(t)
	}
	s.path.Run(&t.Task)
	if inline {
		c.inline.Store(nil)
	}
	s.mu.Lock()
	if t.handing = false; t.dropped {
		s.recycle(t)
	}
	s.mu.Unlock()
}

// ask sends as many R2Ts as may be outstanding; s.mu is held.
func (c *connection) ask(t *task) {
	s := c.s
	t.asked = max(t.asked, t.got)
	for len(t.bursts) < s.par.outstandingR2T && t.asked < int64(t.Need) {
		n := min(int64(s.par.maxBurst), int64(t.Need)-t.asked)
		ttt := s.newTag()
		var h pdu.Header
		h.SetOp(pdu.Ready)
		h[1] = pdu.Final
		h.SetLUN(t.lun)
		h.SetWord(pdu.AtITT, t.itt)
		h.SetWord(pdu.AtTTT, ttt)
		h.SetWord(pdu.AtStatSN, c.statSN) // told, not used up
		h.SetWord(pdu.AtDataSN, t.r2tSN)
		h.SetWord(pdu.AtOffset, uint32(t.asked))
		h.SetWord(pdu.AtDesired, uint32(n))
		t.r2tSN++
		t.asked += n
		t.bursts = append(t.bursts, burst{ttt: ttt, end: t.asked})
		c.queue(&h, nil)
		c.wake(nil)
	}
}
