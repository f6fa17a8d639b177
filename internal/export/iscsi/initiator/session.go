package initiator

import (
	"net"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// Session is a login with its connections. Its methods may be called from any
// goroutine.
type Session struct {
	// Answers are what the target negotiated on the first connection.
	Answers map[string]string
	// Events counts asynchronous messages by their event.
	Events [256]int

	cfg        Config
	tsih       uint16
	firstBurst int
	immediate  bool
	initialR2T bool
	readers    sync.WaitGroup

	mu       sync.Mutex
	settled  sync.Cond // the command window has opened
	conns    []*conn
	cmdSN    uint32
	maxCmdSN uint32
	nextITT  uint32
	pending  map[uint32]*call
	err      error
}

type conn struct {
	s         *Session
	nc        net.Conn
	r         pdu.Reader
	sendMax   int
	expStatSN uint32 // of the session's lock, as
	leaving   bool   // its end is no failure

	wmu sync.Mutex
	buf []byte
}

// Command is one SCSI command.
type Command struct {
	LUN  [8]byte
	CDB  []byte
	Out  []byte
	In   []byte // where data is received
	Attr byte
	// Expect is the expected data transfer length if it shall differ from
	// the length of Out or In; -1 for zero.
	Expect int
	// Data, if set, may alter the header of every Data-Out.
	Data func(*pdu.Header)
	// Hold keeps Data-Outs that R2Ts ask for back.
	Hold bool
}

// Reply is how a command ended.
type Reply struct {
	Status   byte
	Sense    []byte
	Got      int    // bytes received into In
	Flags    byte   // pdu.Overflow, pdu.Underflow
	Residual uint32 // in bytes
	Text     []byte // of text, NOP and reject PDUs
	Response byte   // of task management and logout
}

// SenseKey returns the sense key and the additional code of a fixed-format
// reply.
func (r Reply) SenseKey() (key byte, code uint16) {
	if len(r.Sense) < 14 || r.Sense[0]&0x7f != 0x70 {
		return 0, 0
	}
	return r.Sense[2] & 0xf, uint16(r.Sense[12])<<8 | uint16(r.Sense[13])
}

type call struct {
	cmd   *Command
	c     *conn
	reply Reply
	err   error
	done  func(Reply, error)
}

// Close closes the connections without logging out.
func (s *Session) Close() {
	s.fail(holdfast.Errorf(holdfast.Closed, "the session was closed"))
	s.readers.Wait()
}

func (s *Session) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	for _, c := range s.conns {
		c.nc.Close()
	}
	calls := s.pending
	s.pending = map[uint32]*call{}
	s.settled.Broadcast()
	s.mu.Unlock()
	for _, k := range calls {
		k.done(k.reply, err)
	}
}

// Do runs a command on the first connection and waits for it.
func (s *Session) Do(cmd Command) (Reply, error) { return s.DoOn(0, cmd) }

// DoOn is Do on a given connection.
func (s *Session) DoOn(conn int, cmd Command) (Reply, error) {
	return wait(func(done func(Reply, error)) { s.Start(conn, cmd, done) })
}

func wait(start func(func(Reply, error))) (Reply, error) {
	type result struct {
		r   Reply
		err error
	}
	ch := make(chan result, 1)
	start(func(r Reply, err error) { ch <- result{r, err} })
	x := <-ch
	return x.r, x.err
}

// Start begins a command; done is called with its end, on a goroutine of the
// session. It waits while the command window is closed.
func (s *Session) Start(conn int, cmd Command, done func(Reply, error)) {
	var h pdu.Header
	h[0] = byte(pdu.Command)
	h[1] = pdu.Final | cmd.Attr&pdu.AttrMask
	if cmd.Attr == 0 {
		h[1] |= pdu.Simple
	}
	expect := max(len(cmd.Out), len(cmd.In))
	if cmd.Expect != 0 {
		expect = max(cmd.Expect, 0)
	}
	now := 0
	if cmd.Out != nil {
		h[1] |= pdu.CommandWrite
	} else if cmd.In != nil {
		h[1] |= pdu.CommandRead
	}
	h.SetLUN(cmd.LUN)
	h.SetWord(pdu.AtLength, uint32(expect))
	copy(h[pdu.AtCDB:], cmd.CDB)
	k := &call{cmd: &cmd, done: done}
	c, err := s.begin(conn, &h, k)
	if err != nil {
		done(Reply{}, err)
		return
	}
	if s.immediate {
		now = min(len(cmd.Out), s.firstBurst, c.sendMax)
	}
	rest := min(len(cmd.Out), s.firstBurst)
	if !s.initialR2T && rest > now {
		h[1] &^= pdu.Final
	}
	if err := c.send(&h, cmd.Out[:now]); err != nil {
		s.fail(err)
		return
	}
	if !s.initialR2T && rest > now {
		c.dataOut(k, h.ITT(), pdu.NoTag, now, rest)
	}
}

// begin gives a PDU its tag and number and notes who waits for its answer.
func (s *Session) begin(at int, h *pdu.Header, k *call) (*conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && !h.Immediate() && int32(s.maxCmdSN-s.cmdSN) < 0 {
		s.settled.Wait()
	}
	if s.err != nil {
		return nil, s.err
	}
	c := s.conns[at]
	s.nextITT++
	h.SetWord(pdu.AtITT, s.nextITT)
	h.SetWord(pdu.AtCmdSN, s.cmdSN)
	h.SetWord(pdu.AtExpStatSN, c.expStatSN)
	if !h.Immediate() {
		s.cmdSN++
	}
	k.c = c
	s.pending[s.nextITT] = k
	return c, nil
}

// Tag returns the tag and number that the next command will have.
func (s *Session) Tag() (itt, cmdSN uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextITT + 1, s.cmdSN
}

// Manage runs a task management function and waits for its answer.
func (s *Session) Manage(function byte, lun [8]byte, itt, cmdSN uint32) (Reply, error) {
	return wait(func(done func(Reply, error)) { s.StartManage(function, lun, itt, cmdSN, done) })
}

// StartManage sends a task management function; done is called with its answer.
func (s *Session) StartManage(function byte, lun [8]byte, itt, cmdSN uint32, done func(Reply, error)) {
	var h pdu.Header
	h[0] = byte(pdu.TaskRequest) | pdu.Immediate
	h[1] = pdu.Final | function
	h.SetLUN(lun)
	h.SetWord(pdu.AtTTT, itt)
	h.SetWord(pdu.AtRefCmdSN, cmdSN)
	s.post(0, &h, nil, done)
}

// Ping sends a NOP and returns its answer.
func (s *Session) Ping(data []byte) (Reply, error) {
	var h pdu.Header
	h[0], h[1] = byte(pdu.NopOut), pdu.Final
	h.SetWord(pdu.AtTTT, pdu.NoTag)
	return s.simple(0, &h, data)
}

// Text sends a text request of one PDU and collects the answer's pieces.
func (s *Session) Text(key, value string) ([]pdu.Pair, error) {
	var all []byte
	data, ttt := pdu.AppendPair(nil, key, value), uint32(pdu.NoTag)
	for {
		var h pdu.Header
		h[0], h[1] = byte(pdu.TextRequest)|pdu.Immediate, pdu.Final
		h.SetWord(pdu.AtTTT, ttt)
		r, err := s.simple(0, &h, data)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Text...)
		if r.Flags&pdu.Final != 0 {
			return pdu.ParseText(all)
		}
		data, ttt = nil, r.Residual
	}
}

// Logout ends the session (reason 0) or its connection cid (reason 1).
func (s *Session) Logout(reason byte, cid uint16) (Reply, error) {
	var h pdu.Header
	h[0], h[1] = byte(pdu.LogoutReq)|pdu.Immediate, pdu.Final|reason
	h.SetHalf(pdu.AtCID, cid)
	if s.mu.Lock(); reason == 1 && int(cid) < len(s.conns) {
		s.conns[cid].leaving = true
	}
	s.mu.Unlock()
	r, err := s.simple(0, &h, nil)
	if err == nil && reason == 0 {
		s.Close()
	}
	return r, err
}

// LogoutOvertaking logs out over connection cid, like Logout, by a request that
// arrives before the one of the number before it, a NOP on the first connection.
func (s *Session) LogoutOvertaking(reason byte, cid uint16) (Reply, error) {
	nop, out := pdu.Header{byte(pdu.NopOut), pdu.Final}, pdu.Header{byte(pdu.LogoutReq), pdu.Final | reason}
	nop.SetWord(pdu.AtTTT, pdu.NoTag)
	out.SetHalf(pdu.AtCID, cid)
	immediate := pdu.Header{byte(pdu.NopOut) | pdu.Immediate, pdu.Final}
	immediate.SetWord(pdu.AtTTT, pdu.NoTag)
	s.mu.Lock()
	s.conns[cid].leaving = true
	s.mu.Unlock()
	first, err := s.begin(0, &nop, &call{done: func(Reply, error) {}})
	if err != nil {
		return Reply{}, err
	}
	return wait(func(done func(Reply, error)) {
		s.post(int(cid), &out, nil, done)
		// The answer tells that what came before it has been taken.
		if _, err := s.simple(int(cid), &immediate, nil); err != nil {
			return // and so has done been told
		}
		if err := first.send(&nop, nil); err != nil {
			s.fail(err)
		}
	})
}

func (s *Session) simple(conn int, h *pdu.Header, data []byte) (Reply, error) {
	return wait(func(done func(Reply, error)) { s.post(conn, h, data, done) })
}

// post sends a PDU that is answered by one.
func (s *Session) post(conn int, h *pdu.Header, data []byte, done func(Reply, error)) {
	c, err := s.begin(conn, h, &call{done: done})
	if err != nil {
		done(Reply{}, err)
		return
	}
	if err := c.send(h, data); err != nil {
		s.fail(err)
	}
}
