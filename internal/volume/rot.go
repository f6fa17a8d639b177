package volume

import (
	"sort"

	"github.com/holdfast-cloud/holdfast"
)

// Rot counts what one disk of this host gave wrong since the process started.
type Rot struct {
	Disk     holdfast.DiskID
	Bad      int64 // reads whose bytes failed their hash, or that the device failed
	Repaired int64 // blocks restored from another replica
}

func (s *Service) noteRot(d holdfast.DiskID, bad, repaired int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rot[d]
	s.rot[d] = Rot{d, r.Bad + bad, r.Repaired + repaired}
}

// Rot returns the disks that gave something wrong, in order of identity.
func (s *Service) Rot() []Rot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Rot, 0, len(s.rot))
	for _, r := range s.rot {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return string(out[i].Disk.UUID[:]) < string(out[j].Disk.UUID[:]) })
	return out
}

// ForgetRot takes back what was counted of a disk: a person has seen it.
func (s *Service) ForgetRot(d holdfast.DiskID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.rot[d]; ok {
		s.rot[d] = Rot{Disk: d}
	}
}
