package volume

import (
	"bytes"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// A host that is drained goes on writing the volumes that initiators use by way
// of it, for as long as their sessions last. It gives a volume up at a quiet
// moment: when a session is to begin, and there is none.

// instead returns the host that is to become a volume's writer in place of the
// drained host at, which would; zero if at is not drained, or nobody else can.
func (s *Service) instead(rec cluster.Volume, at holdfast.HostID) (to holdfast.HostID) {
	if s.Drained == nil || at == s.Self || !s.Drained(at) {
		return to
	}
	for _, ref := range rec.InSync {
		switch {
		case s.Drained(ref.Host) || ref.Host == at || !s.Records.Alive(ref.Host):
		case ref.Host == s.Self:
			return s.Self
		case to.IsZero():
			to = ref.Host
		}
	}
	return to
}

// letGo closes a volume that another host is to open, unless it is used here,
// and reports whether it is not. It blocks.
func (s *Service) letGo(id holdfast.VolumeID) bool {
	if s.Belongs != nil && s.Belongs(id) {
		return false
	}
	v := s.Opened(id)
	if v == nil {
		return true
	}
	if !v.retire() {
		return false
	}
	v.Close()
	return true
}

// retire lets no session begin any more, unless there is one; the volume is
// then to be closed.
func (v *Volume) retire() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.writers) == 0 && v.readers == 0 {
		v.retired = true
	}
	return v.retired
}

// Written returns the volumes with a writing session that this host is the
// writer of, in order.
func (s *Service) Written() []holdfast.VolumeID {
	s.mu.Lock()
	var open []*Volume
	for _, sl := range s.opened {
		if sl.vol != nil {
			open = append(open, sl.vol)
		}
	}
	s.mu.Unlock()
	var out []holdfast.VolumeID
	for _, v := range open {
		if v.HasSession() {
			out = append(out, v.id)
		}
	}
	slices.SortFunc(out, func(a, b holdfast.VolumeID) int { return bytes.Compare(a.UUID[:], b.UUID[:]) })
	return out
}
