package serve

import (
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// unitStore keeps a logical unit's persistent reservations in the cluster's
// store: for the host that serves the unit now, and nobody who did before.
type unitStore struct {
	c       *cluster.Client
	volume  holdfast.VolumeID
	serving kv.Rev // of the Serving that the unit was made under

	mu   sync.Mutex
	last cluster.UnitState
	mod  kv.Rev
}

// Load implements scsi.Store.
func (s *unitStore) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, mod, err := s.c.UnitState(s.volume)
	if err != nil {
		return nil, err
	}
	s.last, s.mod = u, mod
	return u.Reservations, nil
}

// Save implements scsi.Store.
func (s *unitStore) Save(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.last
	u.Reservations = b
	mod, err := s.c.SaveUnit(u, s.mod, s.serving)
	if holdfast.IsKind(err, holdfast.Conflict) {
		return holdfast.Errorf(holdfast.Fenced, "another host serves volume %s now: %w", s.volume.Short(), err)
	}
	if err == nil {
		s.last, s.mod = u, mod
	}
	return err
}
