package volume

import (
	"encoding/binary"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
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

// served is a forwarded session at the writer's side.
type served struct {
	disk export.Disk
	from holdfast.HostID
	seen time.Duration
}

func (s *Service) handleSessions() {
	s.Net.Handle(KindSessionOpen, s.serveSessionOpen)
	s.Net.Handle(KindSessionIO, s.serveSessionIO)
	s.Net.Handle(KindSessionClose, s.serveSessionClose)
	s.Net.Handle(KindSessionPing, s.serveSessionPing)
	s.Net.Handle(KindSessionMap, s.serveSessionMap)
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
		if ifUsed && s.letGo(id) {
			reply(transport.Frame{}, nil)
			return
		}
		v := s.Opened(id)
		if v == nil {
			var err error
			if v, err = s.openHere(id); err != nil {
				reply(transport.Frame{}, err)
				return
			}
		}
		disk, err := v.startSession(readOnly)
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		u, err := holdfast.NewUUID(s.Rand)
		if err != nil {
			disk.Close()
			reply(transport.Frame{}, err)
			return
		}
		sid := holdfast.SessionID{UUID: u}
		s.mu.Lock()
		s.remote[sid] = &served{disk: disk, from: from, seen: s.Clock.Now()}
		s.mu.Unlock()
		head := binary.LittleEndian.AppendUint64(append([]byte(nil), u[:]...), uint64(disk.Size()))
		reply(transport.Frame{Head: binary.LittleEndian.AppendUint64(head, uint64(v.Record().Generation))}, nil)
	})
}

// expireSessions closes the sessions whose hosts went silent. It blocks.
func (s *Service) expireSessions() {
	now := s.Clock.Now()
	var dead []holdfast.SessionID
	disks := make(map[holdfast.SessionID]export.Disk)
	s.mu.Lock()
	for id, sv := range s.remote {
		if now-sv.seen > sessionIdle {
			dead = append(dead, id)
			disks[id] = sv.disk
			delete(s.remote, id)
		}
	}
	s.mu.Unlock()
	sort.Slice(dead, func(i, j int) bool { return string(dead[i].UUID[:]) < string(dead[j].UUID[:]) })
	for _, id := range dead {
		disks[id].Close()
	}
}

func (s *Service) sessionOf(from holdfast.HostID, head []byte) (*served, []byte, error) {
	if len(head) < 16 {
		return nil, nil, holdfast.Errorf(holdfast.Invalid, "session request: %d bytes, need 16", len(head))
	}
	var id holdfast.SessionID
	copy(id.UUID[:], head)
	s.mu.Lock()
	defer s.mu.Unlock()
	sv := s.remote[id]
	if sv == nil || sv.from != from {
		return nil, nil, holdfast.Errorf(holdfast.Closed, "session %s is over", id.Short())
	}
	sv.seen = s.Clock.Now()
	return sv, head[16:], nil
}

func (s *Service) serveSessionIO(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	sv, rest, err := s.sessionOf(from, f.Head)
	if err == nil && len(rest) != 18 {
		err = holdfast.Errorf(holdfast.Invalid, "session i/o: %d bytes, need 18", len(rest))
	}
	if err != nil {
		reply(transport.Frame{}, err)
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
		reply(out, err)
	}
	if r.Op == export.Read {
		s.tasks.Go(func() { sv.disk.Submit(r) }) // may go to the disk
		return
	}
	sv.disk.Submit(r)
}

func (s *Service) serveSessionClose(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	sv, _, err := s.sessionOf(from, f.Head)
	if err != nil {
		reply(transport.Frame{}, nil)
		return
	}
	var id holdfast.SessionID
	copy(id.UUID[:], f.Head)
	s.mu.Lock()
	delete(s.remote, id)
	s.mu.Unlock()
	s.tasks.Go(func() { sv.disk.Close(); reply(transport.Frame{}, nil) })
}

func (s *Service) serveSessionPing(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	sv, _, err := s.sessionOf(from, f.Head)
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	reply(transport.Frame{Head: binary.LittleEndian.AppendUint64(nil, uint64(sv.disk.Size()))}, nil)
}

// forwarded is a session at the side of a host that is not the writer.
type forwarded struct {
	s          *Service
	to         holdfast.HostID
	id         holdfast.SessionID
	generation uint64
	size       atomic.Int64 // as last told

	mu   sync.Mutex
	over error
	stop clock.Event
	done *clock.Group
}

// forward opens a session at the volume's writer, or at the host that is to
// become it. With ifUsed another host is to, unless the volume is used there:
// then nil is returned, and it is not open there any more.
func (s *Service) forward(rec cluster.Volume, to holdfast.HostID, readOnly, ifUsed bool) (export.Disk, error) {
	head := append(append([]byte(nil), rec.ID.UUID[:]...), 0)
	if readOnly {
		head[16] |= openReadOnly
	}
	if ifUsed {
		head[16] |= openIfUsed
	}
	f, err := transport.Call(s.Clock, s.Net, to, transport.Frame{Kind: KindSessionOpen, Head: head}, openTimeout)
	if err != nil {
		return nil, err
	}
	if ifUsed && len(f.Head) == 0 {
		return nil, nil
	}
	if len(f.Head) != 32 {
		return nil, holdfast.Errorf(holdfast.Invalid, "session open: the writer answered %d bytes instead of 32", len(f.Head))
	}
	d := &forwarded{s: s, to: to, generation: binary.LittleEndian.Uint64(f.Head[24:]), stop: s.Clock.NewEvent(), done: clock.NewGroup(s.Clock)}
	copy(d.id.UUID[:], f.Head)
	d.size.Store(int64(binary.LittleEndian.Uint64(f.Head[16:])))
	d.done.Go(d.ping)
	return d, nil
}

// ping keeps the session alive and notices when the writer is gone.
func (d *forwarded) ping() {
	last := d.s.Clock.Now()
	for !d.stop.Wait(sessionPing) {
		f, err := transport.Call(d.s.Clock, d.s.Net, d.to, transport.Frame{Kind: KindSessionPing, Head: d.id.UUID[:]}, sessionPing)
		now := d.s.Clock.Now()
		switch {
		case err == nil:
			last = now
			if len(f.Head) == 8 {
				d.grow(int64(binary.LittleEndian.Uint64(f.Head)))
			}
		case holdfast.IsKind(err, holdfast.Closed) || now-last > sessionIdle/2:
			d.end(holdfast.Errorf(holdfast.Closed, "the volume's writer is gone: %w", err))
			return
		}
	}
}

// grow notes the size that the writer told.
func (d *forwarded) grow(size int64) {
	if size > d.size.Load() {
		d.size.Store(size)
	}
}

func (d *forwarded) end(err error) {
	d.mu.Lock()
	if d.over == nil {
		d.over = err
	}
	d.mu.Unlock()
}

// Size implements export.Disk; growth is known with the next ping.
func (d *forwarded) Size() int64 { return d.size.Load() }

// CacheGeneration implements export.Cached.
func (d *forwarded) CacheGeneration() uint64 { return d.generation }

// Submit implements export.Disk. Requests larger than a frame are carried in
// pieces.
func (d *forwarded) Submit(r *export.Request) {
	d.mu.Lock()
	over := d.over
	d.mu.Unlock()
	if over != nil {
		r.Done(r, over)
		return
	}
	if r.Op != export.Read && r.Op != export.Write || len(r.Data) <= maxForwarded {
		d.send(r, r.Off, r.Length, r.Data, func(err error) { r.Done(r, err) })
		return
	}
	var mu sync.Mutex
	left := (len(r.Data) + maxForwarded - 1) / maxForwarded
	var first error
	for at := 0; at < len(r.Data); at += maxForwarded {
		piece := r.Data[at:min(len(r.Data), at+maxForwarded)]
		d.send(r, r.Off+int64(at), int64(len(piece)), piece, func(err error) {
			mu.Lock()
			if first == nil {
				first = err
			}
			left--
			last, err := left == 0, first
			mu.Unlock()
			if last {
				r.Done(r, err)
			}
		})
	}
}

func (d *forwarded) send(r *export.Request, off, n int64, data []byte, done func(error)) {
	head := append(make([]byte, 0, 34), d.id.UUID[:]...)
	var fua byte
	if r.FUA {
		fua = 1
	}
	head = append(head, byte(r.Op), fua)
	head = binary.LittleEndian.AppendUint64(head, uint64(off))
	head = binary.LittleEndian.AppendUint64(head, uint64(n))
	f := transport.Frame{Kind: KindSessionIO, Head: head}
	if r.Op == export.Write {
		f.Bulk = [][]byte{data}
	}
	d.s.Net.Send(d.to, f, sessionCall, func(out transport.Frame, err error) {
		if err == nil && r.Op == export.Read {
			if len(out.Bulk) != 1 || len(out.Bulk[0]) != len(data) {
				err = holdfast.Errorf(holdfast.IO, "the volume's writer answered a read with the wrong length")
			} else {
				copy(data, out.Bulk[0])
			}
		}
		if holdfast.IsKind(err, holdfast.Unavailable) {
			// The operation may or may not have happened; the session cannot vouch for its order any more.
			err = holdfast.Errorf(holdfast.Closed, "the volume's writer went away during the operation: %w", err)
			d.end(err)
		}
		done(err)
	})
}

// Close implements export.Disk.
func (d *forwarded) Close() {
	d.end(holdfast.Errorf(holdfast.Closed, "the session was closed"))
	d.stop.Set()
	d.done.Wait()
	transport.Call(d.s.Clock, d.s.Net, d.to, transport.Frame{Kind: KindSessionClose, Head: d.id.UUID[:]}, sessionCall)
}
