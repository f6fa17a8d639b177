package nbd

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// flushAt is the size of a batch, in bytes, at which it is written although
// the client has sent more requests.
const flushAt = 256 << 10

// session is the transmission phase of one connection.
//
// One goroutine, the reader, takes requests off the connection and submits
// them. A request that completes while it is being submitted is answered by
// the reader, together with all others, when no further request is buffered.
// One that completes later, on any goroutine, is answered by that goroutine if
// the socket takes it at once; what it does not take is left to the flusher.
// Whoever writes (writing is set) also writes what is appended meanwhile, so
// replies never interleave and no completion ever waits for the client.
type session struct {
	nc         net.Conn // what is read and written, TLS or not
	raw        net.Conn // what is closed to end the session at once
	br         *bufio.Reader
	disk       export.Disk
	pusher     export.Pusher // disk, if it is one; else nil
	unpushed   bool          // the reader's: something waits for Push
	later      atomic.Bool   // a Push is welcome when what is completed has been answered
	readOnly   bool
	structured bool
	extended   bool      // headers; then structured as well
	contexts   []context // that were selected
	pool       *buffer.Pool
	lim        Limits

	mu      sync.Mutex // never held across a wait other than on the conds
	room    sync.Cond  // the reader waits for a place in the window
	work    sync.Cond  // the flusher waits for something to write
	none    sync.Cond  // the end waits for the last request
	free    *slot
	out     *batch // replies to be written
	spare   *batch
	prompt  *socket.Conn // nc, if it is a plain socket; else only the flusher writes what completes late
	left    *batch       // begun by prompt and left to the flusher, which has writing
	wanted  bool         // the flusher has been asked
	stopped bool         // the flusher shall end
	writing bool
	count   int   // requests not answered yet
	bytes   int64 // their payloads
	pending int   // requests not completed yet
	dead    error // why no further reply is sent
}

// slot is one request in flight. The reader fills it, its completion empties
// it; buf is its payload.
type slot struct {
	s          *session
	req        export.Request
	cmd        request
	off        uint64  // of the volume, where what is asked for begins
	whole      *pieces // this is one of them; else nil
	buf        *buffer.Buffer
	cost       int64
	submitting atomic.Bool
	next       *slot
}

func newSession(nc, raw net.Conn, br *bufio.Reader, disk export.Disk, p *buffer.Pool, lim Limits) *session {
	s := &session{nc: nc, raw: raw, br: br, disk: disk, pool: p, lim: lim, out: &batch{}, spare: &batch{}}
	if plain, ok := nc.(*socket.Conn); ok {
		s.prompt = plain
		plain.Watch(s.answered)
	}
	s.pusher, _ = disk.(export.Pusher)
	s.room.L, s.work.L, s.none.L = &s.mu, &s.mu, &s.mu
	return s
}

// run serves the connection until the client leaves, breaks the protocol or
// the disk's session ends, and returns the reason (nil if the client said
// goodbye). Nothing of the session is left when it returns; closing disk and
// nc is the caller's.
func (s *session) run() error {
	done := make(chan struct{})
	go func() {
		s.flusher()
		close(done)
	}()
	err := s.readAll()
	s.push(false)
	// What was submitted is completed and answered, if the client is there.
	s.nc.SetWriteDeadline(time.Now().Add(drainTimeout))
	s.mu.Lock()
	s.flushLocked()
	for s.pending > 0 {
		s.none.Wait()
	}
	s.flushLocked()
	s.stopped = true
	s.work.Signal()
	if s.dead != nil {
		err = s.dead
	}
	s.mu.Unlock()
	<-done
	return err
}

// end makes the session stop at once: no further reply, reads and writes fail.
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
	s.raw.Close()
	s.room.Broadcast()
}

// acquire waits for a place in the window and returns a slot for cmd with a
// payload of cost bytes, or nil if the session has ended.
func (s *session) acquire(cmd request, cost int64) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.dead == nil && s.full(cost) {
		if s.unpushed {
			s.mu.Unlock()
			s.push(false)
			s.mu.Lock()
			continue
		}
		s.flushLocked() // the places may be held by replies not written yet
		if s.dead == nil && s.full(cost) {
			s.room.Wait()
		}
	}
	if s.dead != nil {
		return nil
	}
	sl := s.free
	if sl == nil {
		sl = &slot{s: s}
		sl.req.Done = sl.done
	} else {
		s.free = sl.next
	}
	sl.cmd, sl.off, sl.whole, sl.cost = cmd, cmd.off, nil, cost
	if cost > 0 {
		sl.buf = s.pool.Get(int(cost))
	}
	s.count++
	sl.req.Alone = s.pending == 0
	s.pending++
	s.bytes += cost
	return sl
}

// headerSize is the length of a request without its payload.
func (s *session) headerSize() int {
	if s.extended {
		return extendedSize
	}
	return requestSize
}

func (s *session) full(cost int64) bool {
	return s.count > 0 && (s.count >= s.lim.Requests || s.bytes+cost > s.lim.Bytes)
}

// submit hands the slot's request to the disk. The slot belongs to its
// completion from here on.
func (sl *slot) submit(op export.Op, fua bool) {
	r := &sl.req
	r.Op, r.Off, r.Length, r.FUA, r.More = op, int64(sl.off), int64(sl.cmd.length), fua, false
	r.Data, r.Next, r.Later = nil, false, false
	if op == export.Read || op == export.Write {
		r.Length = sl.cost
		r.Data = sl.buf.Mem[:sl.cost]
	}
	if s := sl.s; s.br.Buffered() > 0 {
		r.Alone = false
		if s.pusher != nil && s.br.Buffered() >= s.headerSize() {
			r.Next, s.unpushed = true, true
		}
	}
	sl.submitting.Store(true)
	sl.s.disk.Submit(r)
	sl.submitting.Store(false)
}

// push has the disk go on with what was submitted.
func (s *session) push(alone bool) {
	if s.unpushed {
		s.unpushed = false
		s.pusher.Push(alone)
	}
}

// answered reports whether the client has the answers to all that it asked for:
// what it does next is to ask again. While it waits there is nothing to watch for.
func (s *session) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending == 0
}

// settle is for the reader before it waits for the client: nothing is left that
// waits for what may not come.
func (s *session) settle() {
	s.push(false)
	s.flush()
	s.unpushed = s.later.Swap(false)
	s.push(s.unpushed && s.answered())
}

// done answers the request; it is the Done of export.Request.
func (sl *slot) done(r *export.Request, err error) {
	if endsSession(err) {
		sl.s.end(err)
	}
	if r.Later {
		sl.s.later.Store(true)
	}
	hole := err == nil && sl.cmd.cmd == cmdRead && sl.s.structured &&
		sl.cmd.flags&cfDF == 0 && buffer.Zero(r.Data)
	sl.finish(r.More, func(b *batch) bool { return sl.appendReply(b, r.Data, hole, err) })
}

// plenty is how many bytes of replies are written at once though the reader has
// more requests to hand on: the client works on them meanwhile.
const plenty = 32 << 10

// finish appends the reply that add makes, unless the session is dead, and
// frees the slot. add reports whether the batch took the slot's buffer over;
// more that the next finish follows at once.
func (sl *slot) finish(more bool, add func(*batch) bool) {
	s := sl.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		if add(s.out) {
			s.out.Hold(sl.buf)
			sl.buf = nil
		}
		s.out.count++
		s.out.Cost += sl.cost
	}
	answer := s.dead == nil && !more && (!sl.submitting.Load() || s.out.Size() >= plenty)
	if sl.buf != nil {
		s.pool.Put(sl.buf)
		sl.buf = nil
	}
	sl.req.Data = nil
	sl.next, s.free = s.free, sl
	if answer {
		s.answerLocked()
	}
	if s.pending--; s.pending == 0 {
		s.none.Signal()
	}
}

// answerLocked sees to it that what has been completed is written, without
// waiting for the client.
func (s *session) answerLocked() {
	switch {
	case s.writing || s.wanted: // it will be
	case s.prompt == nil:
		s.askFlusher()
	default:
		s.promptLocked()
	}
}

func (s *session) askFlusher() {
	s.wanted = true
	s.work.Signal()
}

// promptLocked writes batches as long as the socket takes them whole. It gives
// up the lock while it writes.
func (s *session) promptLocked() {
	s.writing = true
	for !s.out.Empty() && s.dead == nil {
		b := s.takeOut()
		s.mu.Unlock()
		whole := b.SendNow(s.prompt)
		s.mu.Lock()
		if !whole {
			s.left = b
			s.askFlusher() // and writing is its
			return
		}
		s.wrote(b, nil)
	}
	s.writing = false
}

func (s *session) takeOut() *batch {
	b := s.out
	s.out, s.spare = s.spare, nil
	return b
}

// wrote takes back a batch that has been written, or could not be.
func (s *session) wrote(b *batch, err error) {
	s.count -= b.count
	s.bytes -= b.Cost
	b.reset(s.pool)
	s.spare = b
	if err != nil {
		s.endLocked(holdfast.Errorf(holdfast.Unavailable, "write to the client: %w", err))
	}
	s.room.Signal()
}

// flush writes what has been completed, for the reader before it waits: as far as
// the client takes it at once, for the reader has other requests to hand on.
func (s *session) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prompt == nil {
		s.flushLocked()
	} else if !s.out.Empty() && s.dead == nil {
		s.answerLocked()
	}
}

// flushLocked writes batches until there is nothing to write. It gives up the
// lock while it writes; if another goroutine is writing, that one goes on.
func (s *session) flushLocked() {
	if !s.writing {
		s.writeAll()
	}
}

func (s *session) writeAll() {
	s.writing = true
	for s.left != nil || !s.out.Empty() && s.dead == nil {
		b := s.left
		s.left = nil
		if b == nil {
			b = s.takeOut()
		}
		s.mu.Unlock()
		err := b.Send(s.nc)
		s.mu.Lock()
		s.wrote(b, err)
	}
	s.writing = false
}

// flusher writes what completes while the reader is elsewhere.
func (s *session) flusher() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.stopped || s.left != nil {
		switch {
		case s.left != nil:
			s.wanted = false
			s.writeAll()
		case s.wanted:
			s.wanted = false
			s.flushLocked()
		default:
			s.work.Wait()
		}
	}
}
