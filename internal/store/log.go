package store

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// wal is the log's writing side. Under the store's lock.
type wal struct {
	open    *batch   // gathers; nil: none
	queue   []*batch // closed, not yet being written
	flight  []*batch // being written, or written and not yet synced
	seg     *segment // where batches are placed
	pos     uint32   // next free block there
	next    uint32   // place where the log goes on; noPlace: not reserved
	seq     uint64   // of the next batch
	written uint64   // last batch written
	synced  uint64   // last batch known to be on disk
	noted   uint64   // last batch that a later one calls synced
	waiters int      // synced callbacks that are pending
	pending int64    // bytes of payload buffered and unwritten
	buffers []*buffer
	busy    bool          // somebody does a round of commits
	lone    int           // rounds in a row that ended with nothing more to do
	stable  []*head       // heads whose stable is to be noted
	since   int64         // bytes of log since the last checkpoint
	rolled  time.Duration // when the last segment was begun
	racing  bool          // the one before it lasted less than raceTime
}

// keptBuffers are kept for reuse while there is work, idleBuffers always.
const (
	keptBuffers = 32
	idleBuffers = 2
)

// openBatch returns the gathering batch after making sure that an entry of body
// bytes and at least one payload block fit.
func (s *Store) openBatch(body int) *batch {
	w := &s.wal
	if w.open != nil && (!w.open.room(s.shape, body) || w.open.n >= s.shape.soft*blockUnit) {
		s.closeBatch()
	}
	if w.open == nil {
		b := &batch{hdr: headerSize}
		if k := len(w.buffers); k > 0 {
			b.buf = w.buffers[k-1]
			w.buffers = w.buffers[:k-1]
		} else {
			b.buf = newBuffer(s.shape)
		}
		w.open = b
	}
	return w.open
}

// put appends an entry without payload.
func (s *Store) put(k entryKind, replica uint32, body []byte) *batch {
	b := s.openBatch(len(body))
	b.end(append(b.begin(k, replica), body...))
	return b
}

// closeBatch gives the gathering batch its place in the log and queues it.
// Admission keeps places for what was admitted; if there is none all the same,
// the disk is given up, since nothing more can be promised.
func (s *Store) closeBatch() {
	w := &s.wal
	b := w.open
	if b == nil {
		return
	}
	s.noteStable(b)
	w.open = nil
	blocks := uint32((b.hdr + blockSize - 1) / blockSize)
	if w.seg == nil || w.pos+blocks+b.payloadBlocks()+1 > s.space.segBlocks {
		if !s.roll() {
			s.fence(holdfast.Errorf(holdfast.NoSpace, "disk %s: no segment is left for the log, not even the reserve; the disk is read-only now", s.id.Disk.Short()))
		}
	}
	s.place(b, blocks)
	if w.seg == nil {
		return
	}
	for i := 0; i < len(b.hashes); {
		first := b.slotOf(uint32(i))
		end := first
		for ; i < len(b.hashes) && b.slotOf(uint32(i)) == end; i++ {
			end += b.units(uint32(i))
		}
		s.space.mark(w.seg.num, first, end-first)
	}
	for _, i := range b.dead {
		s.space.clear(w.seg.num, b.slotOf(i), b.units(i))
	}
	b.dead = nil
}

// place puts a batch at the log's end.
func (s *Store) place(b *batch, blocks uint32) {
	w := &s.wal
	b.seq = w.seq
	w.seq++
	b.closed = true
	b.blocks = blocks
	if w.seg != nil {
		b.head = logPos{place: w.seg.place, seg: w.seg.num, block: w.pos, seq: b.seq}
		b.slot = uint16(w.pos+blocks) * blockUnit
		w.pos += blocks + b.payloadBlocks()
	}
	w.since += int64(blocks+b.payloadBlocks()) * blockSize
	s.cleaner.owe(s, blocks+b.payloadBlocks())
	w.queue = append(w.queue, b)
}

// roll seals the log's segment and goes on in the next one.
func (s *Store) roll() bool {
	w := &s.wal
	if w.next == noPlace {
		p, ok := s.space.take()
		if !ok {
			return false
		}
		w.next = p
	}
	if w.seg != nil {
		end := &batch{hdr: headerSize, last: true}
		s.place(end, 1)
		w.seg.open = false
	}
	now := s.clk.Now()
	w.racing = now-w.rolled < raceTime
	w.rolled = now
	w.seg = s.space.open(w.next, classLog)
	w.pos = 0
	w.next = noPlace
	if s.space.freePlaces() > 0 {
		w.next, _ = s.space.take()
	}
	s.kick()
	return true
}

// noteStable adds what changed of the heads' stable to a batch, as room allows.
func (s *Store) noteStable(b *batch) {
	w := &s.wal
	for len(w.stable) > 0 && b.room(s.shape, 8) {
		h := w.stable[0]
		w.stable = w.stable[1:]
		h.noted = false
		if h.r.removed || h.r.head != h || h.r.fallback != nil {
			continue
		}
		b.end(le.AppendUint64(b.begin(entryStable, h.r.num), uint64(h.stable)))
	}
	if len(w.stable) == 0 {
		w.stable = nil
	}
}

// payloadBlocks is how many blocks of the disk the payload takes.
func (b *batch) payloadBlocks() uint32 { return uint32((b.n + blockUnit - 1) / blockUnit) }

// frame completes the header of a closed batch in its buffer and returns the
// bytes to write. Called by the committer without the lock.
func (s *Store) frame(b *batch, synced, ckpt uint64, next uint32) []byte {
	h := headerInfo{disk: s.id.Disk, life: s.life, seq: b.seq, synced: synced, ckpt: ckpt, seg: b.head.seg, block: b.head.block,
		blocks: b.blocks, payload: uint32(b.n), bytes: uint32(b.hdr), entries: b.entries, next: next, last: b.last}
	if b.buf == nil {
		p := newBuffer(shape{header: 1}).b
		h.put(p)
		return p
	}
	start := (s.shape.header - int(b.blocks)) * blockSize
	end := s.shape.header * blockSize
	all := b.buf.b
	copy(all[start:end], all[:b.hdr])
	clear(all[start+b.hdr : end])
	h.put(all[start:end])
	stop := end + int(b.payloadBlocks())*blockSize
	clear(all[end+b.n*unitSize : stop])
	return all[start:stop]
}

// afterSync calls done once everything put into the log so far is on disk.
// It may call it at once. Under the lock.
func (s *Store) afterSync(done func(error)) {
	if s.awaitSync(done) {
		s.commit.Set()
	}
}

// awaitSync is afterSync for who sees to it that there is a round of commits, if
// it says that there must be.
func (s *Store) awaitSync(done func(error)) bool {
	w := &s.wal
	switch {
	case s.err != nil:
		s.call(done, s.err)
		return false
	case w.open != nil:
		w.open.synced = append(w.open.synced, done)
	case len(w.queue) > 0:
		b := w.queue[len(w.queue)-1]
		b.synced = append(b.synced, done)
	case len(w.flight) > 0:
		b := w.flight[len(w.flight)-1]
		b.synced = append(b.synced, done)
	default:
		s.call(done, nil)
		return false
	}
	w.waiters++
	return true
}

// afterWrite calls done once everything put into the log so far was written.
func (s *Store) afterWrite(done func(error)) {
	w := &s.wal
	s.closeBatch()
	switch {
	case s.err != nil:
		s.call(done, s.err)
	case len(w.queue) > 0:
		b := w.queue[len(w.queue)-1]
		b.written = append(b.written, done)
		s.commit.Set()
	case len(w.flight) > 0 && w.flight[len(w.flight)-1].buf != nil:
		b := w.flight[len(w.flight)-1]
		b.written = append(b.written, done)
	default:
		s.call(done, nil)
	}
}
