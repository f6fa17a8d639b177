package volume

import (
	"encoding/binary"
	"sort"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Frames by which a host that is not the writer carries a session to it
// (docs/protocol/session.md).
const (
	KindSessionOpen  transport.Kind = 0x40 + iota // volume, flags → session, size, cache generation; or nothing
	KindSessionIO                                 // session, op, flags, off, length + data → data
	KindSessionClose                              // session
	KindSessionPing                               // session → size
	KindSessionMap                                // session, snapshot, off, length, most → runs
	KindSessionTake                               // volume, epoch, generation, sessions
)

// Flags of KindSessionOpen.
const (
	openReadOnly = 1 << iota
	openIfUsed   // somebody else should write the volume, unless it is used
)

// A forwarded session whose host was not heard of for sessionIdle is closed,
// so that a dead path does not keep the next one out; the other side gives up
// before that.
const (
	sessionIdle  = 6 * time.Second
	sessionPing  = time.Second
	openTimeout  = 20 * time.Second // the other side may have to take the volume over first
	sessionCall  = 60 * time.Second // an operation may wait for an ejection or a full disk
	maxForwarded = transport.MaxBulk
)

// served is a session that may follow its volume to another writer, at the
// writer's side.
type served struct {
	disk   *session
	from   holdfast.HostID // this host: a session of its own
	seen   time.Duration
	leaves *handing // with its volume; nil: it does not
}

func (s *Service) handleSessions() {
	s.Net.Handle(KindSessionOpen, s.serveSessionOpen)
	s.Net.Handle(KindSessionIO, s.serveSessionIO)
	s.Net.Handle(KindSessionClose, s.serveSessionClose)
	s.Net.Handle(KindSessionPing, s.serveSessionPing)
	s.Net.Handle(KindSessionMap, s.serveSessionMap)
	s.Net.Handle(KindSessionTake, s.serveSessionTake)
}

func (s *Service) serveSessionOpen(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	if len(f.Head) != 17 {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "session open: %d bytes, need 17", len(f.Head)))
		return
	}
	var id holdfast.VolumeID
	copy(id.UUID[:], f.Head)
	readOnly, ifUsed := f.Head[16]&openReadOnly != 0, f.Head[16]&openIfUsed != 0
	if !readOnly && s.Belongs != nil && s.Belongs(id) {
		// The VM's machine runs here and needs no other host's help: whoever
		// asks is a machine of it that was left behind elsewhere (invariant 4).
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Denied, "volume %s is the disk of a VM that runs on this host", id.Short()))
		return
	}
	s.tasks.Go(func() {
		s.expireSessions()
		err := s.awaitHandOver(id)
		if err == nil && ifUsed && s.letGo(id) {
			reply(transport.Frame{}, nil)
			return
		}
		v := s.Opened(id)
		if v == nil && err == nil {
			if err = s.writtenElsewhere(id); err == nil {
				v, err = s.openHere(id)
			}
		}
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		sid, ss, err := v.startCarried(readOnly, from)
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		head := binary.LittleEndian.AppendUint64(append([]byte(nil), sid.UUID[:]...), uint64(ss.Size()))
		reply(transport.Frame{Head: binary.LittleEndian.AppendUint64(head, uint64(v.Record().Generation))}, nil)
	})
}

// writtenElsewhere refuses to take a volume from another host that writes it: who
// asks has not heard of that one yet.
func (s *Service) writtenElsewhere(id holdfast.VolumeID) error {
	if s.Belongs != nil && s.Belongs(id) {
		return nil
	}
	rec, _, err := s.Records.ReadVolume(id)
	if err != nil {
		return err
	}
	if w := rec.Writer; !w.IsZero() && w != s.Self && s.Records.Alive(w) && !(s.Drained != nil && s.Drained(w)) {
		return holdfast.Errorf(holdfast.Unavailable, "volume %s is written by another host now; try again", rec.Name)
	}
	return nil
}

// startCarried starts a session that may follow the volume to another writer.
func (v *Volume) startCarried(readOnly bool, from holdfast.HostID) (id holdfast.SessionID, ss *session, err error) {
	u, err := holdfast.NewUUID(v.s.Rand)
	if err != nil {
		return id, nil, err
	}
	id = holdfast.SessionID{UUID: u}
	ss, err = v.beginSession(start{readOnly: readOnly, moves: true})
	if err == nil {
		v.s.register(id, ss, from)
	}
	return id, ss, err
}

// register makes a session known that may follow its volume.
func (s *Service) register(id holdfast.SessionID, ss *session, from holdfast.HostID) {
	s.mu.Lock()
	s.remote[id] = &served{disk: ss, from: from, seen: s.Clock.Now()}
	delete(s.gone, id)
	s.mu.Unlock()
}

// expireSessions closes the sessions whose hosts went silent, and forgets where
// others went that nobody asks for any more. It blocks.
func (s *Service) expireSessions() {
	now := s.Clock.Now()
	var dead []holdfast.SessionID
	disks := make(map[holdfast.SessionID]export.Disk)
	s.mu.Lock()
	for id, sv := range s.remote {
		if (sv.from != s.Self || s.carries[id] == nil) && sv.leaves == nil && now-sv.seen > sessionIdle {
			dead = append(dead, id)
			disks[id] = sv.disk
			delete(s.remote, id)
		}
	}
	for id, g := range s.gone {
		if now-g.since > goneFor {
			delete(s.gone, id)
		}
	}
	s.mu.Unlock()
	sort.Slice(dead, func(i, j int) bool { return string(dead[i].UUID[:]) < string(dead[j].UUID[:]) })
	for _, id := range dead {
		disks[id].Close()
	}
}

// sessionOf finds the session that a frame is for. If it is not here it answers
// where it went, or that it is over, and returns nil.
func (s *Service) sessionOf(from holdfast.HostID, head []byte, reply func(transport.Frame, error)) (*served, []byte) {
	if len(head) < 16 {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "session request: %d bytes, need 16", len(head)))
		return nil, nil
	}
	var id holdfast.SessionID
	copy(id.UUID[:], head)
	s.mu.Lock()
	sv, g := s.remote[id], s.gone[id]
	if sv != nil && sv.from == from {
		sv.seen = s.Clock.Now()
		s.mu.Unlock()
		return sv, head[16:]
	}
	s.mu.Unlock()
	if sv == nil && g.from == from && !from.IsZero() {
		reply(wentTo(g.to), nil)
	} else {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Closed, "session %s is over", id.Short()))
	}
	return nil, nil
}

// answer replies to a request of a session, or, if its volume is handed over
// meanwhile, who it is to ask once that is known.
func (s *Service) answer(reply func(transport.Frame, error), f transport.Frame, err error) {
	h := handedOver(err)
	if h == nil {
		reply(f, err)
		return
	}
	s.whenHanded(h, func(to holdfast.HostID, err error) {
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		reply(wentTo(to), nil)
	})
}

func (s *Service) serveSessionIO(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	sv, rest := s.sessionOf(from, f.Head, reply)
	if sv == nil {
		return
	}
	if len(rest) != 18 {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "session i/o: %d bytes, need 18", len(rest)))
		return
	}
	le := binary.LittleEndian
	r := &export.Request{Op: export.Op(rest[0]), FUA: rest[1]&1 != 0, Off: int64(le.Uint64(rest[2:])), Length: int64(le.Uint64(rest[10:]))}
	size := sv.disk.Size()
	if r.Op > export.Zero || r.Off < 0 || r.Length < 0 || r.Off > size || r.Length > size-r.Off {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "session i/o: operation %d of %d bytes at %d does not fit the volume", r.Op, r.Length, r.Off))
		return
	}
	switch {
	case r.Op == export.Write && (len(f.Bulk) != 1 || int64(len(f.Bulk[0])) != r.Length):
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "session write: the data is not %d bytes", r.Length))
		return
	case r.Op == export.Write:
		r.Data = f.Bulk[0]
	case r.Op == export.Read && r.Length > maxForwarded:
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "session read: %d bytes, at most %d are allowed", r.Length, maxForwarded))
		return
	case r.Op == export.Read:
		r.Data = make([]byte, r.Length)
	}
	r.Done = func(r *export.Request, err error) {
		out := transport.Frame{}
		if err == nil && r.Op == export.Read && len(r.Data) > 0 {
			out.Bulk = [][]byte{r.Data}
		}
		s.answer(reply, out, err)
	}
	if r.Op == export.Read {
		s.tasks.Go(func() { sv.disk.Submit(r) }) // may go to the disk
		return
	}
	sv.disk.Submit(r)
}

func (s *Service) serveSessionClose(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	over := func(f transport.Frame, err error) {
		if err != nil { // what is over need not be closed
			f, err = transport.Frame{}, nil
		}
		reply(f, err)
	}
	sv, _ := s.sessionOf(from, f.Head, over)
	if sv == nil {
		return
	}
	var id holdfast.SessionID
	copy(id.UUID[:], f.Head)
	ss, h := s.drop(id)
	switch {
	case h != nil:
		s.answer(over, transport.Frame{}, h.why)
	case ss == nil:
		over(transport.Frame{}, errSessionClosed())
	default:
		s.tasks.Go(func() { ss.Close(); reply(transport.Frame{}, nil) })
	}
}

// drop forgets a session, which is to be closed: nil if it is over. One that is
// just handed over has to be closed where it goes. It may have come back since it
// was last looked at, and be another one than it was.
func (s *Service) drop(id holdfast.SessionID) (*session, *handing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sv := s.remote[id]
	if sv == nil {
		return nil, nil
	}
	if sv.leaves != nil {
		return nil, sv.leaves
	}
	delete(s.remote, id)
	return sv.disk, nil
}

func (s *Service) serveSessionPing(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	if sv, _ := s.sessionOf(from, f.Head, reply); sv != nil {
		reply(transport.Frame{Head: binary.LittleEndian.AppendUint64(nil, uint64(sv.disk.Size()))}, nil)
	}
}
