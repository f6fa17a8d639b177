package store

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// keepTask makes checkpoints, prepares segments and cleans.
func (s *Store) keepTask() {
	wait := clock.Forever
	for {
		s.keep.Wait(wait)
		wait = clock.Forever
		for more := true; more; {
			more, wait = s.keepOnce()
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

// keepOnce does the most urgent piece of upkeep. If there is none, it tells
// how long to wait for the next.
func (s *Store) keepOnce() (more bool, wait time.Duration) {
	s.lock()
	if s.stopped || s.err != nil {
		s.unlock()
		return false, clock.Forever
	}
	asked := s.ckptAsked
	s.ckptAsked = nil
	due := len(asked) > 0 || s.checkpointDue()
	if !due && s.cleaner.victim == nil && s.space.freePlaces() <= s.levels().high {
		s.choose()
		due = s.settleNow()
	}
	if due {
		s.cleaner.advance(s)
		s.drained()
	}
	prepare := !s.wal.racing && len(s.space.fresh) < freshPlaces && s.space.virgin < s.space.places && len(s.space.free) == 0
	s.unlock()
	switch {
	case due:
		err := s.runCheckpoint()
		if err != nil {
			s.log.Error("checkpoint failed", "disk", s.id.Disk.String(), "err", err)
			s.lock()
			s.cleaner.idle = true // writers see for themselves whether the disk is full
			s.drained()
			s.unlock()
		}
		for _, f := range asked {
			f(err)
		}
		return err == nil, clock.Forever
	case prepare:
		return s.prepare(), clock.Forever
	}
	return s.cleanOnce(), clock.Forever
}

// checkpointDue reports whether the log has grown enough, or a checkpoint would
// make map pages evictable.
func (s *Store) checkpointDue() bool {
	// A large catalog must not be written more often than it is worth.
	enough := max(s.o.CheckpointBytes, 16*int64(s.catalogBytes))
	return s.wal.since >= enough || s.mapDirty()
}

// raceTime is how long a segment lasts at least while places are prepared. A
// log that fills them faster is a stream: its syncs carry megabytes each, beside
// which the allocation is nothing, and writing zeros first would double the work.
const raceTime = 400 * time.Millisecond

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
	buf := newBuffer(shape{header: int(min(zeroChunk, s.space.segBlocks))}).b
	for b := uint32(0); b < s.space.segBlocks; b += zeroChunk {
		n := min(zeroChunk, s.space.segBlocks-b)
		if err := s.devWrite(&s.usage.Zeroed, buf[:n*blockSize], s.offset(place, b)); err != nil {
			_ = s.fenceFor("write of a new segment", err)
			return false
		}
	}
	s.lock()
	s.space.fresh = append(s.space.fresh, place)
	s.unlock()
	return true
}
