package account

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
)

// SetupLink returns the secret of a new link that makes the first administrator;
// one that was made before opens nothing any more. Conflict: there is an
// administrator.
func (s *Store) SetupLink() (string, error) {
	secret, err := s.secret()
	if err != nil {
		return "", err
	}
	return secret, s.change(func(p *picture, t *txn) error {
		if p.admins() > 0 {
			return holdfast.Errorf(holdfast.Conflict, "there is a cluster admin who can log in; 'holdfast user passwd NAME' on a host gives one another password")
		}
		return putIn(t, setupKind(), setup{hashOf(secret), s.cfg.Clock.Wall().UTC()}, p.setup.mod, 0)
	})
}

// Setup uses the link up: it makes the first administrator, and logs in. Denied:
// the secret is wrong or was used.
func (s *Store) Setup(secret, name, password, from string) (*Principal, string, error) {
	at, now := place(from), s.cfg.Clock.Now()
	if err := s.limits.take(now, "", at, true); err != nil {
		return nil, "", err
	}
	bad := holdfast.Errorf(holdfast.Denied, "the set-up link is wrong or was used; 'holdfast user setup-link' on a host prints a new one while there is no cluster admin")
	if p := s.picture(); p.setup.mod == 0 || !auth.SameHash(p.setup.val.Hash, hashOf(secret)) {
		return nil, "", bad
	}
	s.limits.good(now, "", at, true)
	u := User{Name: name, Role: ClusterAdmin, Created: s.cfg.Clock.Wall().UTC(), Known: []string{at}}
	if err := checkUser(&u); err != nil {
		return nil, "", err
	}
	if err := CheckPassword(name, password); err != nil {
		return nil, "", err
	}
	if err := s.setPassword(&u, password); err != nil {
		return nil, "", err
	}
	return s.begin(name, from, func(p *picture, t *txn) error {
		if p.setup.mod == 0 || !auth.SameHash(p.setup.val.Hash, hashOf(secret)) || p.admins() > 0 {
			return bad
		}
		t.drop(keySetup, p.setup.mod)
		return p.addUser(t, u)
	})
}

// NeedsSetup reports whether nobody can log in as a cluster admin.
func (s *Store) NeedsSetup() bool { return s.picture().admins() == 0 }
