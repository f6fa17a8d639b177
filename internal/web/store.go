package web

import (
	"encoding/json"
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

// Store reads and changes the records. Each call asks the map anew. Its methods may be
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

// Site returns the site's own certificate, nil if it has none. Kind Corrupt.
func (s *Store) Site() (*Site, error) {
	items, _, err := s.KV.Range(siteKey)
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if it.Key == siteKey {
			return decodeSite(it.Value)
		}
	}
	return nil, nil
}

// SetSite has the pages show a certificate of the site's own, or none any more: nil.
// Dry, nothing is changed.
func (s *Store) SetSite(site *Site, dry bool) error {
	op := kv.Op{Key: siteKey, Delete: site == nil}
	if site != nil {
		b, err := json.Marshal(site)
		if err != nil {
			return holdfast.Errorf(holdfast.Other, "the site's certificate: %w", err)
		}
		op.Value = b
	}
	if dry {
		return nil
	}
	_, err := s.KV.Commit(nil, []kv.Op{op})
	return err
}

// Follow has f look at the records as they are, whenever one was changed and now and
// then, until over says so; with kind Corrupt, if one cannot be read. While the map is
// away nothing is heard.
func (s *Store) Follow(over func() bool, f func(Record, *Site, error)) {
	for !over() {
		_, rev, err := s.KV.Range(dir)
		if err == nil {
			var r Record
			var site *Site
			if r, err = s.Ensure(); err == nil {
				site, err = s.Site()
			}
			if err == nil || holdfast.IsKind(err, holdfast.Corrupt) {
				f(r, site, err)
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

// await returns when a record was changed after rev, or after a time.
func (s *Store) await(over func() bool, rev kv.Rev) {
	w := s.KV.Watch(dir, rev)
	defer w.Close()
	for end := s.Clock.Now() + lookEvery; !over() && s.Clock.Now() < end; {
		if evs, err := w.Next(pollStop); err != nil || len(evs) > 0 {
			return
		}
	}
}
