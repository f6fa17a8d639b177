package store

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// Memory is what a store that was given up still holds beside its disk: the
// records that were not durable yet. The store that is opened on the disk anew
// is given them again, and nothing that was acknowledged in memory is lost.
type Memory struct {
	replicas []remembered
}

// remembered is a replica as it was, and its records that were not durable.
type remembered struct {
	was  State
	recs []record.Record
}

// recallBytes is how much is taken along of one replica. What is not durable is
// bounded by its writer to a quarter of it.
const recallBytes = 256 << 20

// Memory reads what the store holds beside its disk, once Err is non-nil and
// before Close. What cannot be read any more is left out.
func (s *Store) Memory() *Memory {
	m := &Memory{}
	if s.Err() == nil {
		return m
	}
	for _, r := range s.Replicas() {
		st := r.State()
		if st.Damage != "" || st.Building || st.Replica.IsZero() {
			continue
		}
		x := remembered{was: st}
		if st.Durable < st.Prefix {
			_ = r.tail(st.Durable, recallBytes, r.present, func(rec *record.Record) error {
				x.recs = append(x.recs, *rec)
				return nil
			})
		}
		m.replicas = append(m.replicas, x)
	}
	return m
}

// present reports why nothing can be read of the replica, if so; that the disk
// was given up is no reason. Under the lock.
func (r *Replica) present() error {
	if r.removed || r.s.closing {
		return holdfast.Errorf(holdfast.Closed, "replica %s is not open", r.id)
	}
	return nil
}

// Recall gives a store that was opened anew what the one before it held in
// memory. It returns the replicas that now hold all that they held; the memory of
// the others is gone.
func (s *Store) Recall(m *Memory) map[holdfast.ReplicaID]bool {
	kept := make(map[holdfast.ReplicaID]bool)
	for _, x := range m.replicas {
		r := s.Replica(x.was.Replica)
		if r == nil {
			continue
		}
		err := r.Append(x.recs)
		is := r.State()
		same := is.Volume == x.was.Volume && is.Prefix == x.was.Prefix && is.Durable >= x.was.Durable && is.Promise >= x.was.Promise && slices.Equal(is.History, x.was.History)
		if err == nil && same && is.Damage == "" && !is.Building {
			kept[x.was.Replica] = true
		}
	}
	return kept
}
