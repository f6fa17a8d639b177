package iscsi

import (
	"slices"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// session is one I_T nexus, or one discovery session, with its connections.
//
// Everything below mu belongs to it, the output of the session's connections
// too: a session has nearly always one connection, and one lock is cheaper
// than two. It is never held across a wait, a write to a socket, a Run of a
// task or an abort. scsi's Begin is called with it, so that commands enter
// their unit in the order of their numbers.
type session struct {
	srv       *Server
	offer     *offer // nil for discovery
	initiator string
	isid      [6]byte
	tsih      uint16
	group     uint16
	par       params // of the leading connection
	path      *scsi.Path
	entries   []Initiator // discovery: what the initiator proved
	entry     Initiator   // of the target's list, that let it in
	ended     chan struct{}

	mu          sync.Mutex
	idle        sync.Cond // no task and no connection is left
	conns       map[uint16]*connection
	entered     int // connections that have not left
	expCmdSN    uint32
	outstanding int // commands in the window without an answer
	immediate   int // tasks beside the window
	early       map[uint32]*earlyPDU
	tasks       map[uint32]*task
	starved     []*task // begun; wait for memory
	bytes       int64
	nextTTT     uint32
	free        *task
	managing    int // task management requests without an answer
	dead        error
	logout      bool
}

// earlyPDU came before its turn: its CmdSN is not the next one.
type earlyPDU struct {
	c    *connection
	h    pdu.Header
	data []byte
}

// room is how many more commands the initiator may send; s.mu is held.
func (s *session) room() int { return max(0, s.srv.lim.Commands-s.outstanding) }

// join gives the connection of a finished login its session: a new one, in
// place of an older one of the same initiator port, or the one it names.
func (srv *Server) join(l *login) (*session, error) {
	if l.tsih != 0 {
		return srv.joinExisting(l)
	}
	s := &session{srv: srv, offer: l.target, initiator: l.initiator, isid: l.isid, group: l.c.portal.group, par: l.n.settle(),
		ended: make(chan struct{}), conns: map[uint16]*connection{}, expCmdSN: l.c.cmdSN,
		early: map[uint32]*earlyPDU{}, tasks: map[uint32]*task{}}
	s.idle.L = &s.mu
	if l.n.discovery {
		s.entries = l.auth.proved()
	} else {
		s.entry = l.auth.entry()
	}
	srv.endLeft(s)
	for {
		old, err := srv.register(s)
		if err != nil {
			return nil, err
		}
		if old == nil {
			break
		}
		// Session reinstatement (§6.3.5): the old one ends first.
		old.end(holdfast.Errorf(holdfast.Closed, "the initiator logged in again"))
		<-old.ended
	}
	if s.offer != nil {
		p, err := s.offer.Device.Attach(scsi.Nexus{Initiator: s.initiator, ISID: s.isid, Port: s.group})
		if err != nil {
			srv.unregister(s)
			close(s.ended)
			return nil, refuse(pdu.LoginNoResources, err.Error())
		}
		s.path = p
	}
	s.mu.Lock()
	s.adopt(l.c)
	s.mu.Unlock()
	return s, nil
}

// register puts s into the tables, or returns the session that is in its place.
func (srv *Server) register(s *session) (old *session, err error) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.closed || s.offer != nil && s.offer.gone {
		return nil, refuse(pdu.LoginRemoved, "the target is no longer offered")
	}
	if s.offer != nil {
		if !slices.Contains(s.offer.Access.of(s.initiator), s.entry) {
			return nil, refuse(pdu.LoginForbidden, "the target's list changed during the login")
		}
		for x := range s.offer.sessions {
			if x.initiator == s.initiator && x.isid == s.isid && x.group == s.group {
				return x, nil
			}
		}
	}
	if len(srv.sessions) >= srv.lim.Connections {
		return nil, refuse(pdu.LoginNoResources, "there are too many sessions")
	}
	for srv.lastTSIH++; srv.lastTSIH == 0 || srv.sessions[srv.lastTSIH] != nil; srv.lastTSIH++ {
	}
	s.tsih = srv.lastTSIH
	srv.sessions[s.tsih] = s
	if s.offer != nil {
		s.offer.sessions[s] = struct{}{}
	}
	return nil, nil
}

func (srv *Server) unregister(s *session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(srv.sessions, s.tsih)
	if s.offer != nil {
		delete(s.offer.sessions, s)
	}
}

// joinExisting adds a connection to a session (§6.3.4).
func (srv *Server) joinExisting(l *login) (*session, error) {
	srv.mu.Lock()
	s := srv.sessions[l.tsih]
	srv.mu.Unlock()
	if s == nil || s.initiator != l.initiator || s.isid != l.isid || s.offer == nil || s.offer != l.target || s.group != l.c.portal.group {
		return nil, refuse(pdu.LoginNoSession, "there is no such session")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead != nil:
		return nil, refuse(pdu.LoginNoSession, "the session is ending")
	case s.conns[l.c.cid] != nil:
		// Reinstating one connection would need to take up its commands,
		// which this error recovery level does not know.
		return nil, refuse(pdu.LoginCannotInclude, "the session has a connection with that CID")
	case len(s.conns) >= s.par.maxConnections:
		return nil, refuse(pdu.LoginTooMany, "the session has as many connections as were agreed on")
	}
	s.adopt(l.c)
	return s, nil
}

// adopt makes c one of the session's connections; s.mu is held.
func (s *session) adopt(c *connection) {
	c.s = s
	s.conns[c.cid] = c
	s.entered++
	c.work.L, c.drained.L = &s.mu, &s.mu
}

// end makes the session stop at once: nothing more is sent, all connections
// close. The last of them clears up.
func (s *session) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(why)
}

func (s *session) endLocked(why error) {
	if s.dead != nil {
		return
	}
	s.dead = why
	for _, c := range s.conns {
		c.nc.Close()
		c.drained.Broadcast()
	}
}

// leave takes a connection out of the session when its goroutines have ended.
// The last one ends the session's tasks and its nexus.
func (s *session) leave(c *connection) {
	s.mu.Lock()
	if s.conns[c.cid] == c {
		delete(s.conns, c.cid)
	}
	s.entered--
	last := s.entered == 0
	if last && s.dead == nil {
		s.dead = holdfast.Errorf(holdfast.Closed, "the session has no connection")
	}
	s.mu.Unlock()
	if !last {
		s.abortAll(func(t *task) bool { return t.c == c })
		return
	}
	s.abortAll(func(*task) bool { return true })
	s.mu.Lock()
	for len(s.tasks) > 0 || s.managing > 0 {
		s.idle.Wait()
	}
	s.early = nil
	logout := s.logout
	s.mu.Unlock()
	if s.path != nil {
		s.path.Detach(logout)
	}
	s.srv.unregister(s)
	close(s.ended)
}

// abortAll aborts the tasks that which chooses, without waiting for them.
func (s *session) abortAll(which func(*task) bool) {
	type victim struct {
		unit *scsi.Unit
		t    *task
		seq  uint64
	}
	var begun []victim
	s.mu.Lock()
	for _, t := range s.tasks {
		switch {
		case !which(t):
		case t.begun:
			begun = append(begun, victim{t.TaskUnit(), t, t.Seq()})
		default: // waits for the end of data that nobody wants
			s.forget(t)
		}
	}
	s.mu.Unlock()
	for _, v := range begun {
		v.unit.Abort(&v.t.Task, v.seq, func() {})
	}
}

// forget takes a task out of the session; s.mu is held.
func (s *session) forget(t *task) {
	s.strike(t)
	s.drop(t)
}

// strike takes a task off the session's tables; s.mu is held. Its memory is
// still its own.
func (s *session) strike(t *task) {
	delete(s.tasks, t.itt)
	if t.immediate {
		s.immediate--
	} else {
		s.outstanding--
	}
	t.begun = false
	if len(s.tasks) == 0 {
		s.idle.Broadcast()
	}
}

// drop gives up a task that was struck off, as soon as nobody has it in hand;
// s.mu is held.
func (s *session) drop(t *task) {
	if len(s.starved) > 0 { // its memory may let another one go on
		for _, c := range s.conns {
			c.wake(nil)
		}
	}
	if t.filling || t.handing {
		t.dropped = true // whoever has it in hand puts it back
	} else {
		s.recycle(t)
	}
}

// recycle gives a task's memory back; s.mu is held.
func (s *session) recycle(t *task) {
	s.srv.pool.Put(t.buf)
	s.srv.pool.Put(t.hold)
	s.bytes -= t.cost
	t.Clear()
	*t = task{s: s, Task: t.Task, bound: t.bound, bursts: t.bursts[:0]}
	t.next, s.free = s.free, t
}

// newTask returns an empty task; s.mu is held.
func (s *session) newTask() *task {
	t := s.free
	if t == nil {
		t = &task{s: s}
		t.bound = t.done
	} else {
		s.free, t.next = t.next, nil
	}
	return t
}
