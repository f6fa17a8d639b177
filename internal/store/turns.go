package store

// Whose turn it is to write: a disk has one log, and whoever flushes waits for
// all that is in it. So writers put only so much into it that is not written yet,
// and take turns by weight. ADR 0051 has the reasons.

// MayWrite reports whether the replica's writer may append now. If not, wake is
// called when its turn has come, once; it must not block, and ask again. What has
// to go ahead, or comes from another host, need not ask; it counts all the same.
func (r *Replica) MayWrite(wake func()) bool {
	s := r.s
	s.lock()
	defer s.unlock()
	if s.err != nil || s.gate.Ask(&r.flow, s.pressure(), wake) {
		return true
	}
	if s.wal.open != nil { // it is waited for
		s.closeBatch()
		s.commit.Set()
	}
	return false
}

// SetWeight sets the share that the volume gets of the disk while others want it
// too: 1 to 1000, 0 for the default, 100.
func (r *Replica) SetWeight(w int) {
	r.s.lock()
	defer r.s.unlock()
	r.flow.SetWeight(w)
}

// pressure reports whether nobody may write: too much is buffered, or the log has
// to wait for the cleaner or the merge.
func (s *Store) pressure() bool {
	return s.lags || s.wal.pending > s.o.PressureBytes || !s.granted()
}

// letInSoon wakes those whose turn has come. Under the lock.
func (s *Store) letInSoon() {
	if s.letting || !s.gate.Waits() || s.err == nil && s.pressure() {
		return
	}
	s.letting = true
	s.tasks.Go(s.letIn)
}

// letIn wakes one after the other, and each takes what it may.
func (s *Store) letIn() {
	for wake := s.nextTurn(); wake != nil; wake = s.nextTurn() {
		wake()
	}
}

func (s *Store) nextTurn() (wake func()) {
	s.lock()
	defer s.unlock()
	switch {
	case s.err != nil:
		wake = s.gate.Any()
	case !s.pressure():
		wake = s.gate.Next()
	}
	s.letting = wake != nil
	return wake
}
