package volume

import (
	"bytes"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// A host that is drained goes on writing the volumes that are used at it in
// sessions that cannot follow to another writer (see HandOver), for as long as
// they last. It gives such a volume up at a quiet moment: when a session is to
// begin, and there is none.

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

// Used returns the volumes with a writing session that would end with this host,
// in order: it is the writer, or carries the session there.
func (s *Service) Used() []holdfast.VolumeID {
	var out []holdfast.VolumeID
	s.mu.Lock()
	for id := range s.carried {
		out = append(out, id)
	}
	s.mu.Unlock()
	for _, v := range s.Volumes() {
		if v.HasSession() && !slices.Contains(out, v.id) {
			out = append(out, v.id)
		}
	}
	slices.SortFunc(out, func(a, b holdfast.VolumeID) int { return bytes.Compare(a.UUID[:], b.UUID[:]) })
	return out
}
