package store

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// A write or sync that fails ends this opening of the disk: what was written
// since the last good sync may be there or not, whatever reads say, and no later
// sync tells (ADR 0049). Opening the disk anew finds what is certain.

// OnFence sets the function that is called, and must not block, when the disk
// is given up.
func (s *Store) OnFence(f func()) {
	s.lock()
	defer s.unlock()
	s.onFence = f
}

// failed is the error of a write or sync of the device.
func (s *Store) failed(what string, err error) error {
	return holdfast.Errorf(holdfast.IO, "disk %s: %s failed: %w; what it has of the last writes is not known", s.id.Disk.Short(), what, err)
}

// fenceFor gives the disk up because of an error of the device, and returns why
// it is given up.
func (s *Store) fenceFor(what string, err error) error {
	s.lock()
	defer s.unlock()
	s.fence(s.failed(what, err))
	return s.err
}

// sync runs something that makes writes durable, one after the other: of two at
// once the system tells only one of a write that it lost, and the other would
// vouch for it. An error gives the disk up before the next one may begin.
func (s *Store) sync(what string, run func() error) error {
	s.lock()
	for s.syncing && s.err == nil {
		e := s.clk.NewEvent()
		s.syncers = append(s.syncers, e)
		s.unlock()
		e.Wait(clock.Forever)
		s.lock()
	}
	if err := s.err; err != nil {
		s.unlock()
		return err
	}
	s.syncing = true
	s.unlock()
	err := run()
	s.lock()
	defer s.unlock()
	s.syncing = false
	if err != nil {
		s.fence(s.failed("sync of "+what, err))
	}
	for _, e := range s.syncers {
		e.Set()
	}
	s.syncers = nil
	return s.err
}

// fence gives the disk up for this opening: nothing is written any more and
// whoever waits for durability gets err. Under the lock.
func (s *Store) fence(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.log.Error("disk fenced", "disk", s.id.Disk.String(), "err", err)
	w := &s.wal
	batches := append(append([]*batch{}, w.flight...), w.queue...)
	if w.open != nil {
		batches = append(batches, w.open)
	}
	for _, b := range batches {
		for _, f := range b.written {
			s.call(f, err)
		}
		for _, f := range b.synced {
			s.call(f, err)
		}
		b.written, b.synced = nil, nil
	}
	w.waiters = 0
	s.letInSoon()
	s.wakeAll()
	if f := s.onFence; f != nil {
		s.call(func(error) { f() }, nil)
	}
}
