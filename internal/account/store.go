package account

import (
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	pollStop = 250 * time.Millisecond // how often a waiting watch looks whether to end
	retryMin = 100 * time.Millisecond // between attempts to read
	retryMax = 2 * time.Second
)

// Config is what a Store works with.
type Config struct {
	KV    kv.Store
	Clock clock.Clock
	Rand  io.Reader // of secrets and salts
	Log   *slog.Logger
}

// Store is one host's live picture of the accounts, and its way to change them.
// Its methods may be called from any task.
type Store struct {
	cfg    Config
	hasher hasher
	limits *limiter
	stop   clock.Event
	wg     *clock.Group
	wake   clock.Event // of the renewer

	mu     sync.Mutex
	p      *picture
	subs   []clock.Event
	closed bool

	used map[string]time.Duration // sessions, by hash: when their lease was renewed
	due  map[string]kv.LeaseID    // whose leases are to be renewed
}

// picture is the records as of one revision. It never changes.
type picture struct {
	rev      kv.Rev
	users    map[string]versioned[User]
	sessions map[string]versioned[Session]
	tokens   map[string]versioned[Token]
	projects map[string]versioned[Project]
	owned    map[string]versioned[Owned]
	setup    versioned[setup]
	oidc     versioned[OIDC]
	bad      map[string]bool // keys of records that cannot be read; they let nobody in
}

type versioned[T any] struct {
	mod kv.Rev
	val T
}

// Open follows the records until Close. The caller closes the Store before the
// kv.Store.
func Open(c Config) *Store {
	s := &Store{cfg: c, hasher: hasher{random: c.Rand, kdf: argon2.IDKey}, limits: newLimiter(), stop: c.Clock.NewEvent(), wake: c.Clock.NewEvent(),
		wg: clock.NewGroup(c.Clock), p: emptyPicture(), used: map[string]time.Duration{}, due: map[string]kv.LeaseID{}}
	s.wg.Go(s.run)
	s.wg.Go(s.renewAll)
	return s
}

// Close ends the following.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop.Set()
	s.wake.Set()
	s.wg.Wait()
}

// Rev is the revision that what is known of accounts is of.
func (s *Store) Rev() kv.Rev { return s.picture().rev }

func (s *Store) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Store) picture() *picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// run reads everything and follows the changes, again and again.
func (s *Store) run() {
	delay := retryMin
	for !s.stopped() {
		p, err := s.refresh()
		if err == nil {
			delay = retryMin
			err = s.follow(p.rev)
		}
		if s.stopped() || holdfast.IsKind(err, holdfast.Closed) {
			return
		}
		s.stop.Wait(delay)
		delay = min(2*delay, retryMax)
	}
}

// refresh reads everything anew.
func (s *Store) refresh() (*picture, error) {
	items, rev, err := s.cfg.KV.Range(root)
	if err != nil {
		return nil, err
	}
	p := emptyPicture()
	p.rev = rev
	for _, it := range items {
		p.put(it)
	}
	return s.adopt(p), nil
}

func (s *Store) follow(rev kv.Rev) error {
	w := s.cfg.KV.Watch(root, rev)
	defer w.Close()
	for !s.stopped() {
		evs, err := w.Next(pollStop)
		if err != nil {
			return err
		}
		if len(evs) > 0 {
			s.adopt(s.picture().advance(evs))
		}
	}
	return nil
}

// adopt takes a picture unless there is a newer one, and returns the newest.
func (s *Store) adopt(p *picture) *picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.rev < s.p.rev {
		return s.p
	}
	for key := range p.bad {
		if !s.p.bad[key] {
			s.cfg.Log.Error("a record of accounts cannot be read; it lets nobody in", "key", strings.TrimPrefix(key, root))
		}
	}
	s.p = p
	for hash := range s.used {
		if _, there := p.sessions[hash]; !there {
			delete(s.used, hash)
		}
	}
	for _, ev := range s.subs {
		ev.Set()
	}
	return p
}

// waitRev waits until the picture is as new as a commit, but not for ever.
func (s *Store) waitRev(rev kv.Rev) {
	ev := s.cfg.Clock.NewEvent()
	s.mu.Lock()
	s.subs = append(s.subs, ev)
	s.mu.Unlock()
	end := s.cfg.Clock.Now() + kv.CallTimeout
	for s.picture().rev < rev && s.cfg.Clock.Now() < end && !s.stopped() {
		ev.Wait(end - s.cfg.Clock.Now())
	}
	s.mu.Lock()
	s.subs = slices.DeleteFunc(slices.Clone(s.subs), func(e clock.Event) bool { return e == ev })
	s.mu.Unlock()
}

func emptyPicture() *picture {
	return &picture{users: map[string]versioned[User]{}, sessions: map[string]versioned[Session]{}, tokens: map[string]versioned[Token]{},
		projects: map[string]versioned[Project]{}, owned: map[string]versioned[Owned]{}, bad: map[string]bool{}}
}

// advance is the picture after events; those already in it are passed over.
func (p *picture) advance(evs []kv.Event) *picture {
	n := &picture{rev: p.rev, users: maps.Clone(p.users), sessions: maps.Clone(p.sessions), tokens: maps.Clone(p.tokens),
		projects: maps.Clone(p.projects), owned: maps.Clone(p.owned), setup: p.setup, oidc: p.oidc, bad: maps.Clone(p.bad)}
	for _, e := range evs {
		if e.Mod <= p.rev {
			continue
		}
		n.rev = max(n.rev, e.Mod)
		n.remove(e.Key)
		if !e.Deleted {
			n.put(e.Item)
		}
	}
	return n
}

func (p *picture) put(it kv.Item) {
	switch {
	case strings.HasPrefix(it.Key, dirUser):
		put(p, userKind(), p.users, it)
	case strings.HasPrefix(it.Key, dirSession):
		put(p, sessionKind(), p.sessions, it)
	case strings.HasPrefix(it.Key, dirToken):
		put(p, tokenKind(), p.tokens, it)
	case strings.HasPrefix(it.Key, dirProject):
		put(p, projectKind(), p.projects, it)
	case strings.HasPrefix(it.Key, dirOwned):
		put(p, ownedKind(), p.owned, it)
	case it.Key == keySetup:
		v, err := setupKind().decode(it.Key, it.Value)
		if err != nil {
			p.bad[it.Key] = true
			return
		}
		p.setup = versioned[setup]{it.Mod, v}
	case it.Key == keyOIDC:
		v, err := oidcKind().decode(it.Key, it.Value)
		if err != nil {
			p.bad[it.Key] = true
			return
		}
		p.oidc = versioned[OIDC]{it.Mod, v}
	}
}

func put[T any](p *picture, k kind[T], m map[string]versioned[T], it kv.Item) {
	v, err := k.decode(it.Key, it.Value)
	if err != nil {
		p.bad[it.Key] = true
		return
	}
	m[k.id(&v)] = versioned[T]{it.Mod, v}
}

func (p *picture) remove(key string) {
	delete(p.bad, key)
	if id, ok := strings.CutPrefix(key, dirUser); ok {
		delete(p.users, id)
	} else if id, ok := strings.CutPrefix(key, dirSession); ok {
		delete(p.sessions, id)
	} else if id, ok := strings.CutPrefix(key, dirToken); ok {
		delete(p.tokens, id)
	} else if id, ok := strings.CutPrefix(key, dirProject); ok {
		delete(p.projects, id)
	} else if id, ok := strings.CutPrefix(key, dirOwned); ok {
		delete(p.owned, id)
	} else if key == keySetup {
		p.setup = versioned[setup]{}
	} else if key == keyOIDC {
		p.oidc = versioned[OIDC]{}
	}
}

// txn gathers changes that are committed together.
type txn struct {
	conds []kv.Cond
	ops   []kv.Op
}

// putIn adds or changes a record that was read at mod, 0: it must not exist.
func putIn[T any](t *txn, k kind[T], v T, mod kv.Rev, lease kv.LeaseID) error {
	b, err := k.encode(&v)
	if err != nil {
		return err
	}
	key := k.key(k.id(&v))
	t.conds = append(t.conds, kv.Cond{Key: key, Mod: mod})
	t.ops = append(t.ops, kv.Op{Key: key, Value: b, Lease: lease})
	return nil
}

func (t *txn) drop(key string, mod kv.Rev) {
	t.conds = append(t.conds, kv.Cond{Key: key, Mod: mod})
	t.ops = append(t.ops, kv.Op{Key: key, Delete: true})
}

// change has f decide on the newest records, again if somebody else was quicker,
// and returns when this host sees what came of it.
func (s *Store) change(f func(p *picture, t *txn) error) error {
	for range changeAttempts {
		p, err := s.refresh()
		if err != nil {
			return err
		}
		var t txn
		if err := f(p, &t); err != nil {
			return err
		}
		if len(t.ops) == 0 {
			return nil
		}
		if err := kv.CheckCommit(t.conds, t.ops); err != nil {
			return err
		}
		rev, err := s.cfg.KV.Commit(t.conds, t.ops)
		if err == nil {
			s.waitRev(rev)
			return nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
	}
	return holdfast.Errorf(holdfast.Conflict, "the accounts kept changing; try again")
}
