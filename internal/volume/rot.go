package volume

import (
	"sort"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/store"
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

// suspectMemory looks whether the records that a member refused as damaged are
// so here already: then it was not the network. v.mu is held.
func (v *Volume) suspectMemory() {
	for i := range v.recs.len() {
		r := v.recs.at(i)
		rest := r.Data
		for k, h := range r.Hashes {
			n := checksum.Units(h) * holdfast.StoredUnit
			if addr, lsn := r.Addr+uint64(k), r.LSN+holdfast.LSN(k); checksum.Block(v.id, addr, lsn, rest[:n]) != h {
				v.log.Error("bytes changed in this host's memory after they were hashed", "block", addr, "lsn", lsn.String())
				if v.local != nil {
					v.local.r.NoteReceipt(store.HopWriter, addr, lsn)
				}
				return
			}
			rest = rest[n:]
		}
	}
}

// ForgetRot takes back what was counted of a disk: a person has seen it.
func (s *Service) ForgetRot(d holdfast.DiskID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.rot[d]; ok {
		s.rot[d] = Rot{Disk: d}
	}
}
