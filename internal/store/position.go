package store

import "github.com/holdfast-cloud/holdfast"

// Position returns the highest LSN held and the highest on disk, as State
// does, for answers on the I/O path.
func (r *Replica) Position() (prefix, durable holdfast.LSN) {
	r.s.lock()
	defer r.s.unlock()
	return r.head.prefix, r.head.durable
}
