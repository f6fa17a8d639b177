package memkv

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// The functions of this file are the map itself; they run under s.mu and never
// wait.

// expirySlack is how late the server may notice that a lease has run out; etcd
// looks every half second.
const expirySlack = 500 * time.Millisecond

// lease is a granted lease.
type lease struct {
	id    kv.LeaseID
	ttl   time.Duration
	keys  map[string]struct{}
	timer clock.Timer
}

func (s *Server) rangeLocked(prefix string) ([]kv.Item, kv.Rev) {
	return listed(s.items, prefix), s.rev
}

// rangeAtLocked undoes what was changed since.
func (s *Server) rangeAtLocked(prefix string, at kv.Rev) ([]kv.Item, error) {
	switch {
	case at > s.rev:
		return nil, holdfast.Errorf(holdfast.Invalid, "there is no revision %d yet, the map is at %d", at, s.rev)
	case at < s.compacted:
		return nil, holdfast.Errorf(holdfast.Gap, "revision %d is forgotten (compacted to %d)", at, s.compacted)
	}
	items := maps.Clone(s.items)
	for _, c := range slices.Backward(s.log) {
		if c.rev <= at {
			break
		}
		for i, e := range c.events {
			if delete(items, e.Key); c.was[i] != nil {
				items[e.Key] = c.was[i]
			}
		}
	}
	return listed(items, prefix), nil
}

// listed returns what is below a prefix, in order.
func listed(items map[string]*kv.Item, prefix string) []kv.Item {
	var out []kv.Item
	for k, it := range items {
		if strings.HasPrefix(k, prefix) {
			c := *it
			c.Value = bytes.Clone(c.Value)
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b kv.Item) int { return strings.Compare(a.Key, b.Key) })
	return out
}

func (s *Server) commitLocked(conds []kv.Cond, ops []kv.Op) (kv.Rev, error) {
	for _, c := range conds {
		mod := kv.Rev(0)
		if it := s.items[c.Key]; it != nil {
			mod = it.Mod
		}
		if mod != c.Mod {
			return 0, holdfast.Errorf(holdfast.Conflict, "%s was changed by somebody else; read it again and retry", c.Key)
		}
	}
	for _, o := range ops {
		if o.Lease != 0 && s.leases[o.Lease] == nil {
			return 0, holdfast.Errorf(holdfast.NotFound, "the lease of %s has ended; grant a new one", o.Key)
		}
	}
	return s.applyLocked(ops), nil
}

// applyLocked makes the changes one revision, which it returns; a commit that
// changes nothing keeps the present one.
func (s *Server) applyLocked(ops []kv.Op) kv.Rev {
	next := s.rev + 1
	var events []kv.Event
	var was []*kv.Item
	for _, o := range ops {
		old := s.items[o.Key]
		if old != nil && old.Lease != 0 {
			delete(s.leases[old.Lease].keys, o.Key)
		}
		if o.Delete {
			if old != nil {
				delete(s.items, o.Key)
				events = append(events, kv.Event{Item: kv.Item{Key: o.Key, Mod: next}, Deleted: true})
				was = append(was, old)
			}
			continue
		}
		it := &kv.Item{Key: o.Key, Value: bytes.Clone(o.Value), Mod: next, Lease: o.Lease}
		s.items[o.Key] = it
		if o.Lease != 0 {
			s.leases[o.Lease].keys[o.Key] = struct{}{}
		}
		events, was = append(events, kv.Event{Item: *it}), append(was, old)
	}
	if len(events) == 0 {
		return s.rev
	}
	s.rev = next
	c := change{rev: next, events: events, was: was}
	s.log = append(s.log, c)
	if len(s.log) > s.cfg.History {
		s.compactLocked(s.log[len(s.log)/2].rev)
	}
	for _, w := range s.watchers {
		w.seeLocked(c)
	}
	return next
}

func (s *Server) compactLocked(upTo kv.Rev) {
	i := 0
	for i < len(s.log) && s.log[i].rev <= upTo {
		i++
	}
	s.log = slices.Clone(s.log[i:])
	s.compacted = max(s.compacted, upTo)
}

func (s *Server) grantLocked(ttl time.Duration) kv.LeaseID {
	s.lastLease++
	l := &lease{id: s.lastLease, ttl: ttl, keys: make(map[string]struct{})}
	s.leases[l.id] = l
	s.armLocked(l)
	return l.id
}

func (s *Server) renewLocked(id kv.LeaseID) error {
	l := s.leases[id]
	if l == nil {
		return errNoLease(id)
	}
	s.armLocked(l)
	return nil
}

// armLocked counts a lease's time from now.
func (s *Server) armLocked(l *lease) {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = s.clk.AfterFunc(l.ttl+between(s.rng, 0, expirySlack), func() { s.expire(l) })
}

func (s *Server) expire(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[l.id] != l || s.down || s.clk.Now() < s.stall {
		return // without a leader no lease ends; the next leader extends it
	}
	s.endLeaseLocked(l)
}

func (s *Server) revokeLocked(id kv.LeaseID) error {
	l := s.leases[id]
	if l == nil {
		return errNoLease(id)
	}
	s.endLeaseLocked(l)
	return nil
}

func (s *Server) endLeaseLocked(l *lease) {
	l.timer.Stop()
	var ops []kv.Op
	for k := range l.keys {
		ops = append(ops, kv.Op{Key: k, Delete: true})
	}
	slices.SortFunc(ops, func(a, b kv.Op) int { return strings.Compare(a.Key, b.Key) })
	s.applyLocked(ops)
	delete(s.leases, l.id)
}

// extendLocked gives every lease its whole time again, as a new leader does.
func (s *Server) extendLocked() {
	ids := make([]kv.LeaseID, 0, len(s.leases))
	for id := range s.leases {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		s.armLocked(s.leases[id])
	}
}

func errNoLease(id kv.LeaseID) error {
	return holdfast.Errorf(holdfast.NotFound, "lease %x has ended; grant a new one", int64(id))
}
