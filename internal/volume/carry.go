package volume

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// forwarded is a session at the side of a host that carries it to the volume's
// writer. It follows the volume when another host becomes the writer by a
// hand-over, which may be this one.
type forwarded struct {
	s          *Service
	volume     holdfast.VolumeID
	id         holdfast.SessionID
	readOnly   bool
	generation uint64
	size       atomic.Int64 // as last told

	mu    sync.Mutex
	to    holdfast.HostID // the writer
	local *session        // if that is this host
	over  error
	stop  clock.Event
	done  *clock.Group
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
	d := &forwarded{s: s, volume: rec.ID, readOnly: readOnly, generation: binary.LittleEndian.Uint64(f.Head[24:]), to: to}
	copy(d.id.UUID[:], f.Head)
	d.size.Store(int64(binary.LittleEndian.Uint64(f.Head[16:])))
	d.begin()
	return d, nil
}

// begin counts the session and keeps it alive.
func (d *forwarded) begin() {
	d.stop, d.done = d.s.Clock.NewEvent(), clock.NewGroup(d.s.Clock)
	d.s.mu.Lock()
	d.s.carries[d.id] = d
	if !d.readOnly {
		d.s.carried[d.volume]++
	}
	d.s.mu.Unlock()
	d.done.Go(d.ping)
}

// follows makes a session at this host, the writer, one that follows its volume.
func (v *Volume) follows(readOnly bool) (export.Disk, error) {
	id, ss, err := v.startCarried(readOnly, v.s.Self)
	if err != nil {
		return nil, err
	}
	d := &forwarded{s: v.s, volume: v.id, id: id, readOnly: readOnly, generation: ss.CacheGeneration(), to: v.s.Self, local: ss}
	d.begin()
	return d, nil
}

// where is the writer now; local is the session if it is this host.
func (d *forwarded) where() (to holdfast.HostID, local *session, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to, d.local, d.over
}

// follow notes that the session went from one host to another.
func (d *forwarded) follow(from, to holdfast.HostID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.to != from {
		return
	}
	d.to, d.local = to, nil
	if to != d.s.Self {
		return
	}
	if d.local = d.s.sessionHere(d.id); d.local == nil && d.over == nil {
		d.over = holdfast.Errorf(holdfast.Closed, "the session did not come with its volume")
	}
}

// sessionHere finds a session of this host's own volume.
func (s *Service) sessionHere(id holdfast.SessionID) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sv := s.remote[id]; sv != nil && sv.from == s.Self {
		return sv.disk
	}
	return nil
}

// ping keeps the session alive and notices when the writer is gone, or another.
func (d *forwarded) ping() {
	last := d.s.Clock.Now()
	for !d.stop.Wait(sessionPing) {
		to, local, err := d.where()
		if err != nil {
			return
		}
		if local != nil {
			last = d.s.Clock.Now()
			continue
		}
		f, err := transport.Call(d.s.Clock, d.s.Net, to, transport.Frame{Kind: KindSessionPing, Head: d.id.UUID[:]}, sessionPing)
		now := d.s.Clock.Now()
		next, went := wentWhere(f)
		switch {
		case err == nil && went:
			d.follow(to, next)
			last = now
		case err == nil:
			last = now
			if len(f.Head) == 8 {
				d.grow(int64(binary.LittleEndian.Uint64(f.Head)))
			}
		case d.isAt(to) && (holdfast.IsKind(err, holdfast.Closed) || now-last > sessionIdle/2):
			d.end(holdfast.Errorf(holdfast.Closed, "the volume's writer is gone: %w", err))
			return
		}
	}
}

func (d *forwarded) isAt(to holdfast.HostID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to == to
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
func (d *forwarded) Size() int64 {
	if _, local, _ := d.where(); local != nil {
		d.grow(local.Size())
	}
	return d.size.Load()
}

// CacheGeneration implements export.Cached. It stays what it was: a volume that
// cannot be handed over with its cache ends its sessions.
func (d *forwarded) CacheGeneration() uint64 { return d.generation }

// Space implements export.Thin; of a volume that is written elsewhere nothing is
// known.
func (d *forwarded) Space() (used, left int64) {
	if _, local, _ := d.where(); local != nil {
		return local.Space()
	}
	return 0, 1 << 62
}

// Submit implements export.Disk. Requests larger than a frame are carried in
// pieces.
func (d *forwarded) Submit(r *export.Request) {
	to, local, over := d.where()
	switch {
	case over != nil:
		r.Done(r, over)
		return
	case local != nil:
		d.direct(local, r)
		return
	}
	if r.Op != export.Read && r.Op != export.Write || len(r.Data) <= maxForwarded {
		d.send(to, piece{r.Op, r.FUA, r.Off, r.Length, r.Data, func(err error) { r.Done(r, err) }})
		return
	}
	var mu sync.Mutex
	left := (len(r.Data) + maxForwarded - 1) / maxForwarded
	var first error
	for at := 0; at < len(r.Data); at += maxForwarded {
		part := r.Data[at:min(len(r.Data), at+maxForwarded)]
		d.send(to, piece{r.Op, r.FUA, r.Off + int64(at), int64(len(part)), part, func(err error) {
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
		}})
	}
}

// piece is a request, or a part of one, that fits a frame.
type piece struct {
	op     export.Op
	fua    bool
	off, n int64
	data   []byte
	done   func(error)
}

// again submits a piece that was not begun where it went first.
func (d *forwarded) again(p piece) {
	to, local, over := d.where()
	switch {
	case over != nil:
		p.done(over)
	case local != nil:
		d.direct(local, &export.Request{Op: p.op, FUA: p.fua, Off: p.off, Length: p.n, Data: p.data,
			Done: func(_ *export.Request, err error) { p.done(err) }})
	default:
		d.send(to, p)
	}
}

func (d *forwarded) send(to holdfast.HostID, p piece) {
	head := append(make([]byte, 0, 34), d.id.UUID[:]...)
	var fua byte
	if p.fua {
		fua = 1
	}
	head = append(head, byte(p.op), fua)
	head = binary.LittleEndian.AppendUint64(head, uint64(p.off))
	head = binary.LittleEndian.AppendUint64(head, uint64(p.n))
	f := transport.Frame{Kind: KindSessionIO, Head: head}
	if p.op == export.Write {
		f.Bulk = [][]byte{p.data}
	}
	d.s.Net.Send(to, f, sessionCall, func(out transport.Frame, err error) {
		if next, went := wentWhere(out); err == nil && went {
			d.follow(to, next)
			d.again(p)
			return
		}
		if err == nil && p.op == export.Read {
			if len(out.Bulk) != 1 || len(out.Bulk[0]) != len(p.data) {
				err = holdfast.Errorf(holdfast.IO, "the volume's writer answered a read with the wrong length")
			} else {
				copy(p.data, out.Bulk[0])
			}
		}
		if holdfast.IsKind(err, holdfast.Unavailable) {
			// The operation may or may not have happened; the session cannot vouch for its order any more.
			err = holdfast.Errorf(holdfast.Closed, "the volume's writer went away during the operation: %w", err)
			d.end(err)
		}
		p.done(err)
	})
}

// own is a request on its way through this host's own session.
type own struct {
	d    *forwarded
	done func(*export.Request, error) // of who submitted it
	back func(*export.Request, error) // o.ended, made once
}

// owns holds no state between uses.
var owns sync.Pool

// direct submits to this host's own session.
func (d *forwarded) direct(ss *session, r *export.Request) {
	o, ok := owns.Get().(*own)
	if !ok {
		o = &own{}
		o.back = o.ended
	}
	o.d, o.done = d, r.Done
	r.Done = o.back
	ss.Submit(r)
}

// ended tells who submitted a request of its end; one that was not begun before
// its volume was handed over is submitted there.
func (o *own) ended(r *export.Request, err error) {
	d := o.d
	r.Done = o.done
	o.d, o.done = nil, nil
	owns.Put(o)
	h := handedOver(err)
	if h == nil {
		r.Done(r, err)
		return
	}
	d.s.whenHanded(h, func(to holdfast.HostID, err error) {
		if err != nil {
			d.end(err)
			r.Done(r, err)
			return
		}
		d.follow(d.s.Self, to)
		r.Next, r.More, r.Later = false, false, false
		d.Submit(r)
	})
}

// awaitHanded waits until a hand-over has ended, and follows it. It reports
// whether the session goes on. It blocks.
func (d *forwarded) awaitHanded(h *handing) bool {
	over := clock.NewFuture[error](d.s.Clock)
	d.s.whenHanded(h, func(to holdfast.HostID, err error) {
		if err == nil {
			d.follow(d.s.Self, to)
		}
		over.Resolve(err)
	})
	err, _ := over.Wait(clock.Forever)
	return err == nil
}

// Close implements export.Disk.
func (d *forwarded) Close() {
	d.end(holdfast.Errorf(holdfast.Closed, "the session was closed"))
	d.stop.Set()
	d.done.Wait()
	d.leave()
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	delete(d.s.carries, d.id)
	if d.readOnly {
		return
	}
	if d.s.carried[d.volume]--; d.s.carried[d.volume] <= 0 {
		delete(d.s.carried, d.volume)
	}
}

// leave closes the session where it is.
func (d *forwarded) leave() {
	to, local, _ := d.where()
	for local != nil {
		ss, h := d.s.drop(d.id)
		if h == nil {
			if ss != nil {
				ss.Close()
			}
			break
		}
		if !d.awaitHanded(h) {
			break
		}
		to, local, _ = d.where()
	}
	for local == nil {
		f, err := transport.Call(d.s.Clock, d.s.Net, to, transport.Frame{Kind: KindSessionClose, Head: d.id.UUID[:]}, sessionCall)
		next, went := wentWhere(f)
		if err != nil || !went {
			break
		}
		d.follow(to, next)
		if to, local, _ = d.where(); local != nil {
			if ss, _ := d.s.drop(d.id); ss != nil {
				ss.Close()
			}
		}
	}
}
