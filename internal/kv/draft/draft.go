// Package draft is a copy of a part of a map on which changes are tried: they succeed
// or fail as they would, and nothing becomes of them.
package draft

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Store is a draft. It implements kv.Store, without what time does to leases.
type Store struct {
	clk clock.Clock

	mu     sync.Mutex
	items  map[string]kv.Item
	rev    kv.Rev
	first  kv.Rev // that it was copied at
	events []kv.Event
	leases kv.LeaseID
	subs   []clock.Event
	closed bool
}

// Of copies what stands below a prefix.
func Of(from kv.Store, prefix string, clk clock.Clock) (*Store, error) {
	items, rev, err := from.Range(prefix)
	if err != nil {
		return nil, err
	}
	s := &Store{clk: clk, items: make(map[string]kv.Item, len(items)), rev: rev, first: rev}
	for _, it := range items {
		s.items[it.Key] = it
	}
	return s, nil
}

func (s *Store) check() error {
	if s.closed {
		return holdfast.Errorf(holdfast.Closed, "the draft is closed")
	}
	return nil
}

// Range implements kv.Store.
func (s *Store) Range(prefix string) ([]kv.Item, kv.Rev, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []kv.Item
	for _, key := range slices.Sorted(maps.Keys(s.items)) {
		if strings.HasPrefix(key, prefix) {
			out = append(out, s.items[key])
		}
	}
	return out, s.rev, s.check()
}

// RangeAt implements kv.Store: a draft has no past.
func (s *Store) RangeAt(string, kv.Rev) ([]kv.Item, error) {
	return nil, holdfast.Errorf(holdfast.Gap, "a draft has no past")
}

// Commit implements kv.Store.
func (s *Store) Commit(conds []kv.Cond, ops []kv.Op) (kv.Rev, error) {
	if err := kv.CheckCommit(conds, ops); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return 0, err
	}
	for _, c := range conds {
		if s.items[c.Key].Mod != c.Mod {
			return 0, holdfast.Errorf(holdfast.Conflict, "%s was changed by somebody else", c.Key)
		}
	}
	var news []kv.Event
	for _, o := range ops {
		it := kv.Item{Key: o.Key, Value: slices.Clone(o.Value), Mod: s.rev + 1, Lease: o.Lease}
		if !o.Delete {
			s.items[o.Key] = it
			news = append(news, kv.Event{Item: it})
		} else if _, there := s.items[o.Key]; there {
			delete(s.items, o.Key)
			news = append(news, kv.Event{Item: kv.Item{Key: o.Key, Mod: s.rev + 1}, Deleted: true})
		}
	}
	s.tell(news)
	return s.rev, nil
}

// tell has watchers see a commit, unless it changed nothing.
func (s *Store) tell(news []kv.Event) {
	if len(news) == 0 {
		return
	}
	s.rev++
	s.events = append(s.events, news...)
	for _, ev := range s.subs {
		ev.Set()
	}
}

// Grant implements kv.Store.
func (s *Store) Grant(time.Duration) (kv.LeaseID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases-- // none that the map gives out
	return s.leases, s.check()
}

// Renew implements kv.Store.
func (s *Store) Renew(kv.LeaseID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.check()
}

// Revoke implements kv.Store.
func (s *Store) Revoke(id kv.LeaseID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var news []kv.Event
	for key, it := range s.items {
		if id != 0 && it.Lease == id {
			delete(s.items, key)
			news = append(news, kv.Event{Item: kv.Item{Key: key, Mod: s.rev + 1}, Deleted: true})
		}
	}
	s.tell(news)
	return s.check()
}

// Close implements kv.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, ev := range s.subs {
		ev.Set()
	}
	return nil
}

// Watch implements kv.Store.
func (s *Store) Watch(prefix string, from kv.Rev) kv.Watcher {
	w := &watcher{s: s, prefix: prefix, next: from, wake: s.clk.NewEvent()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, w.wake)
	return w
}

type watcher struct {
	s      *Store
	prefix string
	next   kv.Rev // the last revision that was given out
	wake   clock.Event
}

// Next implements kv.Watcher.
func (w *watcher) Next(timeout time.Duration) ([]kv.Event, error) {
	for end := w.s.clk.Now() + timeout; ; {
		evs, err := w.look()
		left := end - w.s.clk.Now()
		if len(evs) > 0 || err != nil || left <= 0 {
			return evs, err
		}
		w.wake.Wait(left)
	}
}

func (w *watcher) look() (out []kv.Event, err error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if err := w.s.check(); err != nil {
		return nil, err
	}
	if w.next < w.s.first {
		return nil, holdfast.Errorf(holdfast.Gap, "a draft has no past")
	}
	for _, e := range w.s.events {
		if e.Mod > w.next && strings.HasPrefix(e.Key, w.prefix) {
			out = append(out, e)
		}
	}
	w.next = w.s.rev
	return out, nil
}

// Close implements kv.Watcher.
func (w *watcher) Close() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.subs = slices.DeleteFunc(slices.Clone(w.s.subs), func(e clock.Event) bool { return e == w.wake })
}
