package volume

import (
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// op is one request on its way: a whole request, or a read that waits for
// what it has read to be acknowledged.
type op struct {
	req *export.Request
	ss  *session // that submitted req, nil: not a session, or its turn ends in after
	// after, if set, runs instead of req.Done when the op's LSN is acknowledged.
	after  func(error)
	packed *packed       // of a write: its blocks, compressed; nil: as they are
	began  time.Duration // by the host's clock; 0: nobody asks how long it takes
}

// finish completes the operation; more says that another of its session
// follows at once.
func (o *op) finish(err error, more bool) {
	if o.after != nil {
		after := o.after
		putOp(o)
		after(err)
		return
	}
	req := o.req
	putOp(o)
	req.More = more
	req.Done(req, err)
}

// The pools hold no state between uses.
var (
	ops         = sync.Pool{New: func() any { return new(op) }}
	opSlices    slicePool[*op]
	doneSlices  slicePool[finished]
	recSlices   slicePool[record.Record]
	wordSlices  slicePool[uint64]
	framesReady sync.Pool
)

func newOp(r *export.Request) *op {
	o := ops.Get().(*op)
	o.req = r
	return o
}

func putOp(o *op) {
	o.packed.release()
	*o = op{}
	ops.Put(o)
}

// slicePool lends empty scratch slices.
type slicePool[T any] struct{ p sync.Pool }

func (s *slicePool[T]) get() *[]T {
	if v, ok := s.p.Get().(*[]T); ok {
		return v
	}
	return new([]T)
}

// keptSlice bounds the elements of a scratch slice that is kept: one rare long
// frame does not hold on to its memory.
const keptSlice = 4096

// put takes a slice back with all that was appended to it.
func (s *slicePool[T]) put(v *[]T) {
	if cap(*v) > keptSlice {
		return
	}
	clear(*v)
	*v = (*v)[:0]
	s.p.Put(v)
}

// submit starts a request of this host's own.
func (v *Volume) submit(r *export.Request) { v.submitFor(nil, r) }

// submitFor starts a request; it does not block: what has to wait for another
// host or for a medium does so on a task of its own.
func (v *Volume) submitFor(ss *session, r *export.Request) {
	began := v.s.Clock.Now()
	switch r.Op {
	case export.Read:
		v.read(r, began)
		return
	case export.Flush:
		v.flush(ss, r, began)
		return
	}
	if r.Length == 0 {
		r.Done(r, nil)
		return
	}
	switch {
	case r.Op != export.Write || !v.sealing.own.Compresses() || !aligned(r):
		v.admit(ss, r, nil, began)
	case r.Length < packAside*holdfast.BlockSize:
		v.admit(ss, r, v.sealing.packAll(r.Data), began)
	default:
		r.Next = false
		v.packApart(r.Data, func(p *packed) { v.admit(ss, r, p, began) })
	}
}

// admit starts a write, trim or zero, or lets it wait for its turn. Of a write
// whose blocks were compressed, p is what came of it.
func (v *Volume) admit(ss *session, r *export.Request, p *packed, began time.Duration) {
	o := newOp(r)
	o.packed, o.began = p, began
	alone := r.Alone
	v.mu.Lock()
	switch {
	case v.failed != nil:
		v.finishLocked(o, v.failed)
	case v.parks(ss, o):
	case !ss.enter(o):
		v.finishLocked(o, errSessionClosed())
	case len(v.waiting) > 0 || !v.admissible(r):
		r.Next = false // by the time it starts nobody will push it
		v.waiting = append(v.waiting, o)
	default:
		v.start(o)
	}
	done := v.takeDone()
	done.sync.here = alone
	v.mu.Unlock()
	tell(done)
}

// Push implements export.Pusher.
func (ss *session) Push(alone bool) {
	v := ss.v
	v.mu.Lock()
	v.pushed = true
	v.pump()
	v.pushed = false
	done := v.takeDone()
	done.sync.here = alone
	v.mu.Unlock()
	tell(done)
}

// admissible reports whether a write may start now; v.mu is held. One that is
// admitted while a barrier stands would break the order of a group snapshot, and one
// with fewer copies than the volume is to have at least would be on too few.
func (v *Volume) admissible(r *export.Request) bool {
	if v.barrier != nil || v.bytes > window || len(v.rec.InSync) < v.rec.Min {
		return false
	}
	if r.Op == export.Write && !v.room() {
		return false
	}
	if len(v.edges) > 0 {
		sp := blocksOf(r)
		for _, e := range v.edges {
			if e.overlaps(sp) {
				return false
			}
		}
	}
	return v.local == nil || v.local.r.MayWrite(v.turn)
}

// admitWaiting starts waiting writes, in order, as far as possible.
func (v *Volume) admitWaiting() {
	v.mu.Lock()
	v.admitLocked()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

func (v *Volume) admitLocked() {
	for len(v.waiting) > 0 && v.failed == nil && v.admissible(v.waiting[0].req) {
		o := v.waiting[0]
		v.waiting[0] = nil
		v.waiting = v.waiting[1:]
		v.start(o)
	}
	if len(v.waiting) == 0 {
		v.waiting = nil
	}
}

// blocksOf returns the blocks a request touches.
func blocksOf(r *export.Request) span {
	first := uint64(r.Off) / holdfast.BlockSize
	end := (uint64(r.Off+r.Length) + holdfast.BlockSize - 1) / holdfast.BlockSize
	return span{first, end - first}
}

func aligned(r *export.Request) bool {
	return (r.Off|r.Length)&(holdfast.BlockSize-1) == 0
}

// start issues an admitted write, trim or zero; v.mu is held.
func (v *Volume) start(o *op) {
	r := o.req
	if r.Off < 0 || r.Length < 0 || r.Off+r.Length > int64(v.rec.Blocks)*holdfast.BlockSize {
		v.finishLocked(o, holdfast.Errorf(holdfast.Invalid, "volume %s: %d bytes at %d are beyond its end", v.rec.Name, r.Length, r.Off))
		return
	}
	if v.noRoom && r.Op == export.Write {
		v.finishLocked(o, holdfast.Errorf(holdfast.NoSpace, "volume %s: a disk that holds it is full; delete something or add a disk, then write again", v.rec.Name))
		return
	}
	if !aligned(r) {
		v.startUnaligned(o)
		return
	}
	v.stats.Writes++
	v.stats.WrittenBytes += int64(len(r.Data))
	var err error
	sp := blocksOf(r)
	if r.Op == export.Write {
		err = v.issueWrite(sp.addr, r.Data, o.packed)
		o.packed.release()
		o.packed = nil
		v.habit.wrote(v.m.Issued())
	} else {
		err = v.issueZero(sp)
	}
	v.pend(o, err, r.FUA)
}

// pend registers a request whose records were issued; v.mu is held.
func (v *Volume) pend(o *op, err error, fua bool) {
	if err != nil {
		v.finishLocked(o, err)
		return
	}
	v.m.Pend(v.m.Issued(), fua || v.rec.Durability == "always", o)
	if !o.req.Next || v.bytes >= worthwhile*holdfast.BlockSize || v.m.Acked() == v.m.Issued() {
		v.pump()
		o.req.Later = v.habit.upto != 0 && v.m.Acked() == v.m.Issued()
	}
}

// fullWait is how long writes wait for the cleaners of full disks to make room
// before they fail.
const fullWait = 10 * time.Second

// room reports whether a write may go ahead: there is room for it, or there
// has been none for so long that it is to fail. v.mu is held.
func (v *Volume) room() bool {
	full := v.othersFull() || v.local != nil && v.local.st.Full()
	if !full {
		v.fullSince, v.noRoom = -1, false
		return true
	}
	now := v.s.Clock.Now()
	if v.fullSince < 0 {
		v.fullSince = now
	}
	v.noRoom = now-v.fullSince >= fullWait
	return v.noRoom
}

// issueWrite issues a write of whole blocks; p is what was made of them by
// compression, or nil.
func (v *Volume) issueWrite(addr uint64, data []byte, p *packed) error {
	for at := 0; len(data) > 0; {
		n := min(len(data), record.MaxBlocks*holdfast.BlockSize)
		blocks := n / holdfast.BlockSize
		part := p
		if p != nil && blocks < len(p.payloads) {
			part = &packed{payloads: p.payloads[at : at+blocks]}
		}
		err := v.issue(record.Record{Kind: record.Write, Addr: addr, Count: uint32(blocks), Data: data[:n]}, part)
		if err != nil {
			return err
		}
		data, addr, at = data[n:], addr+uint64(blocks), at+blocks
	}
	return nil
}

func (v *Volume) issueZero(sp span) error {
	for sp.n > 0 {
		n := min(sp.n, record.MaxZero)
		if err := v.issue(record.Record{Kind: record.Zero, Addr: sp.addr, Count: uint32(n)}, nil); err != nil {
			return err
		}
		sp.addr, sp.n = sp.addr+n, sp.n-n
	}
	return nil
}

// startUnaligned makes whole blocks of a request that begins or ends inside
// one: read, change, write. Its blocks are closed to other writes meanwhile,
// so that a neighbour's bytes are never put back to what they were. v.mu is
// held.
func (v *Volume) startUnaligned(o *op) {
	sp := blocksOf(o.req)
	o.req.Next = false
	v.edges = append(v.edges, sp)
	v.tasks.Go(func() { v.mergeEdges(o, sp) })
}

func (v *Volume) mergeEdges(o *op, sp span) {
	r := o.req
	var buf []byte
	var err error
	zero := r.Op != export.Write
	first, last := sp.addr, sp.addr+sp.n-1
	head := uint64(r.Off) % holdfast.BlockSize
	tail := uint64(r.Off+r.Length) % holdfast.BlockSize
	whole := sp // blocks a trim covers entirely
	if zero {
		if head != 0 {
			whole.addr, whole.n = whole.addr+1, whole.n-1
		}
		if tail != 0 && whole.n > 0 {
			whole.n--
		}
	}
	type piece struct {
		addr   uint64
		data   []byte
		packed *packed
	}
	var pieces []piece
	edge := func(addr uint64) []byte {
		b := make([]byte, holdfast.BlockSize)
		if err == nil {
			err = v.fetchSettled(b, addr)
		}
		return b
	}
	if zero {
		if head != 0 {
			b := edge(first)
			clear(b[head:min(holdfast.BlockSize, head+uint64(r.Length))])
			pieces = append(pieces, piece{addr: first, data: b})
		}
		if tail != 0 && (last != first || head == 0) {
			b := edge(last)
			clear(b[:tail])
			pieces = append(pieces, piece{addr: last, data: b})
		}
	} else {
		buf = make([]byte, sp.n*holdfast.BlockSize)
		if head != 0 {
			copy(buf, edge(first))
		}
		if tail != 0 && (last != first || head == 0) {
			copy(buf[(sp.n-1)*holdfast.BlockSize:], edge(last))
		}
		copy(buf[head:], r.Data)
		pieces = append(pieces, piece{addr: first, data: buf})
	}
	for i := range pieces {
		pieces[i].packed = v.sealing.packAll(pieces[i].data)
	}
	defer func() {
		for _, p := range pieces {
			p.packed.release()
		}
	}()
	v.mu.Lock()
	for i, e := range v.edges {
		if e == sp {
			v.edges = append(v.edges[:i], v.edges[i+1:]...)
			break
		}
	}
	switch {
	case v.failed != nil:
		v.finishLocked(o, v.failed)
	default:
		v.stats.Writes++
		v.stats.WrittenBytes += int64(len(r.Data))
		for _, p := range pieces {
			if err == nil {
				err = v.issueWrite(p.addr, p.data, p.packed)
			}
		}
		if zero && err == nil && whole.n > 0 {
			err = v.issueZero(whole)
		}
		v.pend(o, err, r.FUA)
		v.admitLocked()
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

// flush registers a flush: it is complete when everything issued before it is
// on disk at every in-sync replica.
func (v *Volume) flush(ss *session, r *export.Request, began time.Duration) {
	o := newOp(r)
	o.began = began
	alone := r.Alone
	v.mu.Lock()
	switch {
	case v.failed != nil:
		v.finishLocked(o, v.failed)
	case v.parks(ss, o):
	case !ss.enter(o):
		v.finishLocked(o, errSessionClosed())
	default:
		v.stats.Flushes++
		v.habit.flushed()
		v.m.Pend(v.m.Issued(), true, o)
		v.pump()
	}
	done := v.takeDone()
	done.sync.here = alone
	v.mu.Unlock()
	tell(done)
}

// read serves a read: fetch, then see that the lease held and that nothing
// fetched is still unacknowledged.
func (v *Volume) read(r *export.Request, began time.Duration) {
	local, err := v.readable(r)
	if err != nil {
		r.Done(r, err)
		return
	}
	waits := local == nil || local.st.Waits()
	if (r.Off|r.Length)&(holdfast.BlockSize-1) != 0 {
		v.readUnaligned(r, waits, began)
		return
	}
	addr := uint64(r.Off) / holdfast.BlockSize
	switch {
	case local != nil && local.r.ReadNow(r.Data, addr, v.sealing):
		v.fetched(r, nil, began)
	case waits:
		v.tasks.Go(func() { v.fetched(r, v.fetch(r.Data, addr), began) })
	default:
		v.fetched(r, v.fetch(r.Data, addr), began)
	}
}

// readable counts a read that may be served, and returns the replica of this
// host that it may come from, if there is one.
func (v *Volume) readable(r *export.Request) (local *member, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return nil, v.failed
	}
	if r.Off < 0 || r.Off+int64(len(r.Data)) > int64(v.rec.Blocks)*holdfast.BlockSize {
		return nil, holdfast.Errorf(holdfast.Invalid, "volume %s: %d bytes at %d are beyond its end", v.rec.Name, len(r.Data), r.Off)
	}
	v.stats.Reads++
	v.stats.ReadBytes += int64(len(r.Data))
	return v.local, nil
}

// readUnaligned reads whole blocks and copies what is wanted; on a task of its
// own if the read may wait.
func (v *Volume) readUnaligned(r *export.Request, waits bool, began time.Duration) {
	sp := blocksOf(r)
	run := func() {
		buf := make([]byte, sp.n*holdfast.BlockSize)
		err := v.fetch(buf, sp.addr)
		copy(r.Data, buf[uint64(r.Off)%holdfast.BlockSize:])
		v.fetched(r, err, began)
	}
	if waits {
		v.tasks.Go(run)
		return
	}
	run()
}

// fetched completes a read whose data is there: only under a lease that still
// holds, or when all in-sync replicas have confirmed that they stand by this
// writer, and only when every write it may have seen is acknowledged.
func (v *Volume) fetched(r *export.Request, err error, began time.Duration) {
	o := newOp(r)
	o.began = began
	v.mu.Lock()
	switch {
	case v.failed != nil:
		v.finishLocked(o, v.failed)
	case err != nil:
		v.finishLocked(o, err)
	case v.confirmed():
		v.confirm(o)
	case !v.m.Leased(v.localID, v.s.Clock.Now()):
		v.leaseless(o)
	default:
		v.pendIssued(o)
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

// pendIssued completes an operation when everything issued so far has been
// acknowledged; v.mu is held.
func (v *Volume) pendIssued(o *op) {
	if v.m.Acked() == v.m.Issued() {
		v.finishLocked(o, nil)
		return
	}
	v.m.Pend(v.m.Issued(), false, o)
}
