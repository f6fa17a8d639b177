package store

import "github.com/holdfast-cloud/holdfast/internal/clock"

// keepTask makes checkpoints, prepares segments and cleans.
func (s *Store) keepTask() {
	for {
		s.keep.Wait(clock.Forever)
		for s.keepOnce() {
		}
		s.lock()
		stop := s.stopped || s.err != nil
		asked := s.ckptAsked
		if stop {
			s.ckptAsked = nil
		}
		err := s.err
		s.unlock()
		if stop {
			for _, f := range asked {
				f(err)
			}
			return
		}
	}
}

// keepOnce does the most urgent piece of upkeep; false if there is none.
func (s *Store) keepOnce() bool {
	s.lock()
	if s.stopped || s.err != nil {
		s.unlock()
		return false
	}
	asked := s.ckptAsked
	s.ckptAsked = nil
	due := len(asked) > 0 || s.checkpointDue()
	prepare := len(s.space.fresh) < freshPlaces && s.space.virgin < s.space.places && len(s.space.free) == 0
	s.unlock()
	switch {
	case due:
		err := s.runCheckpoint()
		if err != nil {
			s.log.Error("checkpoint failed", "disk", s.id.Disk.String(), "err", err)
		}
		for _, f := range asked {
			f(err)
		}
		return err == nil
	case prepare:
		return s.prepare()
	}
	return false
}

// checkpointDue reports whether the log has grown enough, or a checkpoint would
// free places that are needed.
func (s *Store) checkpointDue() bool {
	return s.wal.since >= s.o.CheckpointBytes || s.pages.Leaves() > 2*s.o.CacheLeaves && s.wal.since > s.o.CheckpointBytes/8
}

// freshPlaces is how many never used places are kept ready: written once, so
// that a sync of the log never has to allocate space as well.
const freshPlaces = 2

const zeroChunk = 256 // blocks

// prepare writes zeros over one place that was never written.
func (s *Store) prepare() bool {
	s.lock()
	place := s.space.virgin
	if place >= s.space.places {
		s.unlock()
		return false
	}
	s.space.virgin++
	s.unlock()
	buf := newBuffer(shape{header: zeroChunk}).b
	for b := uint32(0); b < s.space.segBlocks; b += zeroChunk {
		n := min(zeroChunk, s.space.segBlocks-b)
		if err := s.devWrite(buf[:n*blockSize], s.offset(place, b)); err != nil {
			s.lock()
			s.fence(err)
			s.unlock()
			return false
		}
	}
	s.lock()
	s.space.fresh = append(s.space.fresh, place)
	s.unlock()
	return true
}
