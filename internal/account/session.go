package account

import (
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// renewAfter is how long a session's lease is not renewed again.
const renewAfter = time.Minute

// Principal is who makes a request.
type Principal struct {
	Kind    string // "user", "token", "admin", "host" or "socket"
	Name    string // of the user, of the certificate, of the token or of the host
	Role    Role
	Project string // "": the whole cluster
	From    string // address
	// Session is that of a user who logged in; nil: it is somebody else.
	Session *Session
}

// String is who it is, for people.
func (p *Principal) String() string {
	if p == nil {
		return "nobody"
	}
	if p.Name == "" {
		return p.Kind
	}
	return p.Kind + " " + p.Name
}

// wrong is the one answer to a log-in that fails, whyever it does.
func wrong() error {
	return holdfast.Errorf(holdfast.Denied, "the user or the password is wrong")
}

// prove checks a password under the limits. What it says, and how long it takes,
// does not tell whether there is such a user.
func (s *Store) prove(name, password, from string) (User, error) {
	rec := s.picture().users[name]
	u := rec.val
	known := slices.Contains(u.Known, from)
	now := s.cfg.Clock.Now()
	if err := s.limits.take(now, name, from, known); err != nil {
		return User{}, err
	}
	ok, err := s.hasher.matches(u.Password, password)
	if err != nil {
		s.limits.good(now, name, from, known)
		return User{}, err
	}
	if !ok || u.Disabled {
		return User{}, wrong()
	}
	s.limits.good(now, name, from, known)
	return u, nil
}

// Login proves a user and makes a session. from is the caller's address. Errors:
// Denied; TooMany; Unavailable: the control plane is away.
func (s *Store) Login(name, password, from string) (*Principal, string, error) {
	at := place(from)
	u, err := s.prove(name, password, at)
	if err != nil {
		return nil, "", err
	}
	return s.begin(u.Name, from, func(p *picture, t *txn) error {
		rec, ok := p.users[u.Name]
		if !ok || rec.val.Disabled || rec.val.Password != u.Password {
			return wrong() // changed meanwhile
		}
		if slices.Contains(rec.val.Known, at) {
			t.conds = append(t.conds, kv.Cond{Key: userKind().key(u.Name), Mod: rec.mod})
			return nil
		}
		rec.val.Known = append(slices.Clone(rec.val.Known), at)
		rec.val.Known = rec.val.Known[max(0, len(rec.val.Known)-maxKnown):]
		return putIn(t, userKind(), rec.val, rec.mod, 0)
	})
}

// begin makes a session of a user together with other changes.
func (s *Store) begin(user, from string, also func(*picture, *txn) error) (*Principal, string, error) {
	secret, err := s.secret()
	if err != nil {
		return nil, "", err
	}
	lease, err := s.cfg.KV.Grant(SessionIdle)
	if err != nil {
		return nil, "", err
	}
	now := s.cfg.Clock.Wall().UTC().Truncate(time.Second)
	x := Session{Hash: hashOf(secret), User: user, Created: now, Expires: now.Add(SessionLife), From: from[:min(len(from), maxNote)], Lease: lease}
	err = s.change(func(p *picture, t *txn) error {
		if err := also(p, t); err != nil {
			return err
		}
		p.makeRoom(t, user)
		return putIn(t, sessionKind(), x, 0, lease)
	})
	if err != nil {
		_ = s.cfg.KV.Revoke(lease) // or it ends by itself
		return nil, "", err
	}
	who, err := s.Session(secret, from)
	return who, secret, err
}

// makeRoom ends the oldest sessions of a user who has as many as one may have.
func (p *picture) makeRoom(t *txn, user string) {
	var all []versioned[Session]
	for _, x := range p.sessions {
		if x.val.User == user {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b versioned[Session]) int { return int(a.mod - b.mod) })
	for _, x := range all[:max(0, len(all)-MaxSessions+1)] {
		t.drop(sessionKind().key(x.val.Hash), x.mod)
	}
}

// Session returns who holds a session's secret, and has its lease renewed. Kind
// Denied.
func (s *Store) Session(secret, from string) (*Principal, error) {
	p := s.picture()
	x, ok := p.sessions[hashOf(secret)]
	u, there := p.users[x.val.User]
	if !ok || !there || u.val.Disabled || !p.trusts(u.val) || !s.cfg.Clock.Wall().Before(x.val.Expires) {
		return nil, holdfast.Errorf(holdfast.Denied, "the session has ended; log in again")
	}
	s.use(x.val)
	return &Principal{Kind: "user", Name: u.val.Name, Role: u.val.Role, Project: u.val.Project, From: from, Session: &x.val}, nil
}

// use has a session's lease renewed, now and then.
func (s *Store) use(x Session) {
	now := s.cfg.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.used[x.Hash]; ok && now-at < renewAfter {
		return
	}
	s.used[x.Hash], s.due[x.Hash] = now, x.Lease
	s.wake.Set()
}

// renewAll renews the leases of the sessions that are used.
func (s *Store) renewAll() {
	for !s.stopped() {
		s.wake.Wait(-1)
		s.mu.Lock()
		due := s.due
		s.due = map[string]kv.LeaseID{}
		s.mu.Unlock()
		for _, hash := range sortedKeys(due) {
			if s.stopped() {
				return
			}
			if err := s.cfg.KV.Renew(due[hash]); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
				s.mu.Lock()
				delete(s.used, hash) // its next use tries again
				s.mu.Unlock()
			}
		}
	}
}

// Sessions returns the sessions, the newest first.
func (s *Store) Sessions() []Session {
	p := s.picture()
	var out []Session
	for _, x := range p.sessions {
		if s.cfg.Clock.Wall().Before(x.val.Expires) {
			out = append(out, x.val)
		}
	}
	slices.SortFunc(out, func(a, b Session) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Hash, b.Hash)
	})
	return out
}

// EndSession ends the session of that hash. Kind NotFound: it has ended.
func (s *Store) EndSession(hash string) error {
	return s.change(func(p *picture, t *txn) error {
		x, ok := p.sessions[hash]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "there is no such session; it may have ended")
		}
		t.drop(sessionKind().key(hash), x.mod)
		return nil
	})
}

// secret returns a new one, of 256 random bits.
func (s *Store) secret() (string, error) {
	b := make([]byte, secretBytes)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return "", holdfast.Errorf(holdfast.IO, "no random bytes for a secret: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// hashOf is what is kept of a secret. With 256 random bits there is nothing to
// guess, so no slow hash is needed, and nothing to learn from how long it takes
// to find one in a map.
func hashOf(secret string) string { return auth.HashOf([]byte(secret)) }

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
