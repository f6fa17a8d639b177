package store

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// Map entries name the volume that a block was written as, which seeds its hash,
// by a number of 16 bits. A replica's roots may hold the numbers in its set and
// no others; a number that is in no set may name another volume.

// maxOrigins is how many volumes the blocks of one disk can be of at a time.
const maxOrigins = 1<<16 - 1

// originIndex returns the number of a volume on this disk, a free one if it has
// none. Kind NoSpace if all are in use.
func (s *Store) originIndex(vol holdfast.VolumeID) (uint16, error) {
	if i, ok := s.originOf[vol]; ok {
		return i, nil
	}
	if i, ok := s.freeOrigin(); ok {
		delete(s.originOf, s.origins[i])
		s.origins[i], s.originOf[vol] = vol, i
		return i, nil
	}
	if len(s.origins) >= s.originLimit {
		return 0, holdfast.Errorf(holdfast.NoSpace, "disk %s holds blocks of %d volumes, no more can be told apart; move replicas to another disk", s.id.Disk, len(s.origins))
	}
	i := uint16(len(s.origins))
	s.origins = append(s.origins, vol)
	s.originOf[vol] = i
	return i, nil
}

// freeOrigin finds the lowest number that nothing on the disk uses.
func (s *Store) freeOrigin() (uint16, bool) {
	used := make([]bool, len(s.origins))
	note := func(r *Replica) {
		for _, i := range r.origins {
			used[i] = true
		}
	}
	for _, r := range s.sorted {
		note(r)
	}
	for _, p := range s.pins {
		note(p.r)
	}
	i := slices.Index(used, false)
	return uint16(max(i, 0)), i >= 0
}

// mayHold adds numbers to those that a replica's roots may hold.
func (r *Replica) mayHold(more ...uint16) {
	for _, i := range more {
		if at, ok := slices.BinarySearch(r.origins, i); !ok {
			r.origins = slices.Insert(r.origins, at, i)
		}
	}
}
