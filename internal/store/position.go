package store

import "github.com/holdfast-cloud/holdfast"

// Position returns the highest LSN held and the highest on disk, as State
// does, for answers on the I/O path.
func (r *Replica) Position() (prefix, durable holdfast.LSN) {
	r.s.lock()
	defer r.s.unlock()
	return r.head.prefix, r.head.durable
}

// Clean reports whether the disk was closed in order before it was opened:
// then nothing that was held in memory is missing from it.
func (s *Store) Clean() bool { return s.wasClean }
