package store

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// lock and unlock guard everything in a store. Callbacks that became due under
// the lock run in unlock, after it is given up.
func (s *Store) lock() { s.mu.Lock() }

func (s *Store) unlock() {
	calls := s.calls
	s.calls = nil
	s.mu.Unlock()
	for _, c := range calls {
		c.f(c.err)
	}
}

type call struct {
	f   func(error)
	err error
}

func (s *Store) call(f func(error), err error) { s.calls = append(s.calls, call{f, err}) }

// wait runs start under the lock, which arranges for done to be called, and
// waits for that.
func (s *Store) wait(start func(done func(error)) error) error {
	res := clock.NewFuture[error](s.clk)
	s.lock()
	err := start(res.Resolve)
	s.unlock()
	if err != nil {
		return err
	}
	err, _ = res.Wait(clock.Forever)
	return err
}

// durable runs change under the lock and waits until what it put into the log
// is on disk.
func (s *Store) durable(change func() error) error {
	return s.wait(func(done func(error)) error {
		if s.err != nil {
			return s.err
		}
		if err := change(); err != nil {
			return err
		}
		s.afterSync(done)
		return nil
	})
}

// commitTask writes and syncs the log. Records gather in the open batch while
// it waits for the device: that is the whole of group commit.
func (s *Store) commitTask() {
	wait := clock.Forever
	for {
		if !s.commit.Wait(wait) {
			s.note()
		}
		for s.commitOnce() {
		}
		wait = s.noteIn()
		s.lock()
		stop := (s.stopped || s.err != nil) && !s.wal.busy // else who is at it sets the event
		s.unlock()
		if stop {
			return
		}
	}
}

// noteAfter is how long the log is idle before a last batch says what is synced
// and stable. Without it the last batch before a pause could not be told from a
// torn tail if it rots, and would be cut off in silence.
const noteAfter = time.Second

func (s *Store) noteIn() time.Duration {
	s.lock()
	defer s.unlock()
	if s.wal.synced > s.wal.noted || len(s.wal.stable) > 0 {
		return noteAfter
	}
	return clock.Forever
}

// note writes a batch without records.
func (s *Store) note() {
	s.lock()
	defer s.unlock()
	if w := &s.wal; s.err == nil && w.open == nil && len(w.queue) == 0 {
		s.openBatch(0)
		s.closeBatch()
		if len(w.buffers) > idleBuffers {
			clear(w.buffers[idleBuffers:])
			w.buffers = w.buffers[:idleBuffers]
		}
		w.queue[len(w.queue)-1].isNote = true
		s.afterSync(func(error) {})
	}
}

// commitOnce does one round, unless somebody else is at it, and reports whether
// there was work.
func (s *Store) commitOnce() bool {
	s.lock()
	if s.wal.busy {
		s.unlock()
		return false
	}
	s.wal.busy = true
	s.unlock()
	work := s.commitRound()
	s.lock()
	defer s.unlock()
	s.wal.busy = false
	return work
}

// commitHere does a round on the caller's task instead of the commit task's, which
// goes on with what has come meanwhile. The caller has made the log busy.
func (s *Store) commitHere() {
	s.commitRound()
	s.lock()
	defer s.unlock()
	w := &s.wal
	w.busy = false
	if w.waiters > 0 || len(w.queue) > 0 || s.stopped || s.err != nil {
		w.lone = 0
		s.commit.Set()
	}
}

// commitRound is a round of whoever has made the log busy.
func (s *Store) commitRound() bool {
	s.lock()
	w := &s.wal
	if w.open != nil && len(w.open.synced) > 0 {
		s.closeBatch()
	}
	if s.err != nil {
		s.unlock()
		return false
	}
	work := w.queue
	w.queue = nil
	w.flight = append(w.flight, work...)
	sync := w.waiters > 0
	// A single batch behind which nothing waits for the sync is written and
	// made durable in one step.
	syncWriter, one := s.dev.(disk.SyncWriter)
	one = one && sync && len(work) == 1 && len(w.flight) == 1
	synced, ckpt, next := w.synced, s.ckptSeq, w.next
	s.unlock()
	if len(work) == 0 && !sync {
		return false
	}
	for i, b := range work {
		p := s.frame(b, synced, ckpt, s.nextAfter(work[i:], next))
		crashpoint.At(crashpoint.CommitBegun)
		var err error
		if off := s.offset(b.head.place, b.head.block); one {
			err = s.sync("a batch", func() error { return s.devWriteBy(syncWriter.WriteSync, &s.usage.Log, p, off) })
		} else {
			err = s.devWrite(&s.usage.Log, p, off)
			crashpoint.At(crashpoint.CommitWritten)
		}
		s.lock()
		if err != nil {
			s.fence(s.failed("write of a batch", err))
			s.unlock()
			return false
		}
		s.wrote(b, synced)
		s.unlock()
	}
	switch {
	case one:
		s.syncedLog()
	case sync:
		if s.sync("the log", s.dev.Sync) != nil {
			return false
		}
		s.syncedLog()
	}
	crashpoint.At(crashpoint.CommitTold)
	return true
}

// nextAfter is the place where the log goes on after the segment of work[0].
func (s *Store) nextAfter(work []*batch, next uint32) uint32 {
	for _, b := range work[1:] {
		if b.head.seg != work[0].head.seg {
			return b.head.place
		}
	}
	if work[0].last {
		s.lock()
		defer s.unlock()
		if q := s.wal.queue; len(q) > 0 {
			return q[0].head.place
		}
		return s.wal.seg.place
	}
	return next
}

// wrote notes that a batch has been handed to the device.
func (s *Store) wrote(b *batch, synced uint64) {
	w := &s.wal
	w.written = b.seq
	w.noted = synced
	if b.isNote {
		w.noted = b.seq // nobody needs to know that a note is on disk
	}
	w.pending -= int64(b.n) * unitSize
	if b.buf != nil && len(w.buffers) < keptBuffers {
		w.buffers = append(w.buffers, b.buf)
	}
	b.buf = nil
	for _, f := range b.written {
		s.call(f, nil)
	}
	b.written = nil
	for _, t := range b.touched {
		s.gate.Give(&t.h.r.flow, t.bytes)
	}
	s.drained()
}

// syncedLog notes that everything written is on disk and tells who waits for it.
func (s *Store) syncedLog() {
	crashpoint.At(crashpoint.CommitSynced)
	s.lock()
	defer s.unlock()
	w := &s.wal
	w.synced = w.written
	flight := w.flight
	w.flight = nil
	w.lone++
	if w.open != nil || len(w.queue) > 0 {
		w.lone = 0
	}
	for _, b := range flight {
		for _, t := range b.touched {
			t.h.durable = max(t.h.durable, t.lsn)
		}
		w.waiters -= len(b.synced)
		for _, f := range b.synced {
			s.call(f, nil)
		}
		b.touched, b.synced = nil, nil
	}
}

// drained tells the writers that what they wait for may be over.
func (s *Store) drained() {
	s.letInSoon()
	if s.onDrain == nil || !s.stalled || s.full() {
		return
	}
	s.stalled = false
	f := s.onDrain
	s.call(func(error) { f() }, nil)
}

// offset is where a block of a place is on the device, in bytes.
func (s *Store) offset(place, block uint32) int64 {
	return s.sb.dataStart + int64(place)*s.sb.segmentBytes + int64(block)*blockSize
}

// devWrite writes, and counts it for a purpose: one of the fields of s.usage.
func (s *Store) devWrite(purpose *int64, p []byte, off int64) error {
	return s.devWriteBy(s.dev.WriteAt, purpose, p, off)
}

func (s *Store) devWriteBy(write func([]byte, int64) error, purpose *int64, p []byte, off int64) error {
	err := write(p, off)
	s.mu.Lock()
	s.usage.Written += int64(len(p))
	*purpose += int64(len(p))
	s.mu.Unlock()
	return err
}
