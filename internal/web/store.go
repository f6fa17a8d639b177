package web

import (
	"io"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	attempts  = 5
	retry     = time.Second
	pollStop  = 250 * time.Millisecond // how often a waiting watch looks whether to end
	lookEvery = time.Hour              // certificates are made anew long before they end
)

// Store reads and changes the record. Each call asks the map anew. Its methods may be
// called from any task.
type Store struct {
	KV      kv.Store
	Clock   clock.Clock
	Rand    io.Reader
	Cluster string // its name
}

// Read returns the record; mod is zero if there is none. Kind Corrupt.
func (s *Store) Read() (r Record, mod kv.Rev, err error) {
	items, _, err := s.KV.Range(key)
	if err != nil {
		return r, 0, err
	}
	for _, it := range items {
		if it.Key == key {
			r, err = decode(it.Value)
			return r, it.Mod, err
		}
	}
	return r, 0, nil
}

// Ensure returns the record, and makes one by the cluster's name if there is none.
func (s *Store) Ensure() (Record, error) {
	r, mod, err := s.Read()
	if err != nil || mod != 0 {
		return r, err
	}
	r, err = New([]string{DefaultName(s.Cluster)}, s.Cluster, s.Clock.Wall(), s.Rand)
	if err != nil {
		return r, err
	}
	if err = s.put(r, 0); holdfast.IsKind(err, holdfast.Conflict) || holdfast.IsKind(err, holdfast.Unknown) {
		r, _, err = s.Read() // another host was first, or this one was not told that it was
	}
	return r, err
}

// Set gives the pages other names; anew: and another authority, in any case. Dry, it
// is only said what would be.
func (s *Store) Set(names []string, anew, dry bool) (Record, error) {
	var err error
	for range attempts {
		r, mod, rerr := s.Read()
		if rerr != nil && !holdfast.IsKind(rerr, holdfast.Corrupt) { // which is mended by another
			return r, rerr
		}
		if r, err = r.With(names, anew, s.Cluster, s.Clock.Wall(), s.Rand); err != nil || dry {
			return r, err
		}
		if err = s.put(r, mod); !holdfast.IsKind(err, holdfast.Conflict) {
			return r, err
		}
	}
	return Record{}, err
}

func (s *Store) put(r Record, mod kv.Rev) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	_, err = s.KV.Commit([]kv.Cond{{Key: key, Mod: mod}}, []kv.Op{{Key: key, Value: b}})
	return err
}

// Follow has f look at the record as it is, whenever it was changed and now and then,
// until over says so; with kind Corrupt, if it cannot be read. While the map is away
// nothing is heard.
func (s *Store) Follow(over func() bool, f func(Record, error)) {
	for !over() {
		_, rev, err := s.KV.Range(key)
		if err == nil {
			var r Record
			if r, err = s.Ensure(); err == nil || holdfast.IsKind(err, holdfast.Corrupt) {
				f(r, err)
				err = nil
			}
		}
		if err != nil {
			clock.Sleep(s.Clock, retry)
			continue
		}
		s.await(over, rev)
	}
}

// await returns when the record was changed after rev, or after a time.
func (s *Store) await(over func() bool, rev kv.Rev) {
	w := s.KV.Watch(key, rev)
	defer w.Close()
	for end := s.Clock.Now() + lookEvery; !over() && s.Clock.Now() < end; {
		if evs, err := w.Next(pollStop); err != nil || len(evs) > 0 {
			return
		}
	}
}
