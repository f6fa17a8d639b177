package account

import (
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// UserInfo is a user as others may see one.
type UserInfo struct {
	User
	Sessions, Tokens int
	HasPassword      bool
}

// Users returns the users by name, without their passwords.
func (s *Store) Users() []UserInfo {
	p := s.picture()
	var out []UserInfo
	for _, u := range p.users {
		out = append(out, p.info(u.val))
	}
	slices.SortFunc(out, func(a, b UserInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// User returns one. Kind NotFound.
func (s *Store) User(name string) (UserInfo, error) {
	p := s.picture()
	u, ok := p.users[name]
	if !ok {
		return UserInfo{}, NoUser(name)
	}
	return p.info(u.val), nil
}

func (p *picture) info(u User) UserInfo {
	i := UserInfo{User: u, HasPassword: u.Password != ""}
	i.Password = ""
	for _, x := range p.sessions {
		if x.val.User == u.Name {
			i.Sessions++
		}
	}
	for _, x := range p.tokens {
		if x.val.Owner == u.Name {
			i.Tokens++
		}
	}
	return i
}

// NoUser is the error of a user who is not there. Kind NotFound.
func NoUser(name string) error {
	return holdfast.Errorf(holdfast.NotFound, "there is no user %.70q; see 'holdfast user list'", name)
}

// AddUser makes a user; an empty password lets nobody in until one is set. Kind
// Exists: the name is taken.
func (s *Store) AddUser(name string, role Role, project, password string) error {
	u := User{Name: name, Role: role, Project: project, Created: s.cfg.Clock.Wall().UTC()}
	if err := checkUser(&u); err != nil {
		return err
	}
	if err := s.setPassword(&u, password); err != nil {
		return err
	}
	return s.change(func(p *picture, t *txn) error { return p.addUser(t, u) })
}

func (s *Store) setPassword(u *User, password string) (err error) {
	if password == "" {
		return nil
	}
	if err := CheckPassword(u.Name, password); err != nil {
		return err
	}
	u.Password, err = s.hasher.hash(password)
	return err
}

func (p *picture) addUser(t *txn, u User) error {
	if _, taken := p.users[u.Name]; taken {
		return holdfast.Errorf(holdfast.Exists, "a user named %s exists; choose another name", u.Name)
	}
	if len(p.users) >= MaxUsers {
		return holdfast.Errorf(holdfast.Conflict, "there are %d users, as many as there may be; delete some", len(p.users))
	}
	if err := p.require(t, u.Project); err != nil {
		return err
	}
	return putIn(t, userKind(), u, 0, 0)
}

// require makes a change depend on a project being there.
func (p *picture) require(t *txn, project string) error {
	if project == "" {
		return nil
	}
	rec, ok := p.projects[project]
	if !ok {
		return NoProject(project)
	}
	t.conds = append(t.conds, kv.Cond{Key: projectKind().key(project), Mod: rec.mod})
	return nil
}

// UserChange is what becomes of a user; nil: it stays.
type UserChange struct {
	Role     *Role
	Project  *string
	Disabled *bool
}

// SetUser changes a user; what that may no longer do ends at once. Conflict: no
// cluster admin would be left.
func (s *Store) SetUser(name string, c UserChange) error {
	return s.change(func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		if !ok {
			return NoUser(name)
		}
		u := rec.val
		if u.OIDC != nil && (c.Role != nil || c.Project != nil) {
			return holdfast.Errorf(holdfast.Conflict, "what %s may is said by OpenID Connect at each log-in; change its rules ('holdfast oidc set'), or the groups at the issuer", name)
		}
		if c.Role != nil {
			u.Role = *c.Role
		}
		if c.Project != nil {
			u.Project = *c.Project
			if err := p.require(t, u.Project); err != nil {
				return err
			}
		}
		if c.Disabled != nil {
			u.Disabled = *c.Disabled
		}
		if isAdmin(rec.val) && !isAdmin(u) {
			if err := p.keepAnother(t, name); err != nil {
				return err
			}
		}
		if u.Disabled && !rec.val.Disabled {
			p.endSessions(t, name, "")
		}
		return putIn(t, userKind(), u, rec.mod, 0)
	})
}

// SetPassword gives a user another password, and ends its sessions but one. Where there
// is none to keep, somebody else sets it: whoever may have had the account loses its
// passkeys, too.
func (s *Store) SetPassword(name, password, keep string) error {
	if password == "" {
		return CheckPassword(name, password)
	}
	var u User
	u.Name = name
	if err := s.setPassword(&u, password); err != nil {
		return err
	}
	err := s.change(func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		if !ok {
			return NoUser(name)
		}
		if rec.val.OIDC != nil {
			return holdfast.Errorf(holdfast.Conflict, "%s logs in by OpenID Connect, and a password would outlast that; make another user", name)
		}
		rec.val.Password = u.Password
		if keep == "" {
			rec.val.Passkeys = nil
		}
		p.endSessions(t, name, keep)
		return putIn(t, userKind(), rec.val, rec.mod, 0)
	})
	if err == nil {
		s.limits.forgive(name)
	}
	return err
}

// CheckOwnPassword reports whether a password is a user's, under the limits of
// log-ins. Denied: it is not.
func (s *Store) CheckOwnPassword(name, password, from string) error {
	_, err := s.prove(name, password, place(from))
	return err
}

// DeleteUser removes a user with its sessions and tokens. Conflict: no cluster
// admin would be left.
func (s *Store) DeleteUser(name string) error {
	return s.change(func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		if !ok {
			return NoUser(name)
		}
		if isAdmin(rec.val) {
			if err := p.keepAnother(t, name); err != nil {
				return err
			}
		}
		p.endSessions(t, name, "")
		p.endTokens(t, name)
		t.drop(userKind().key(name), rec.mod)
		return nil
	})
}

func isAdmin(u User) bool { return u.Role == ClusterAdmin && !u.Disabled && u.Password != "" }

func (p *picture) admins() (n int) {
	for _, u := range p.users {
		if isAdmin(u.val) {
			n++
		}
	}
	return n
}

// keepAnother makes a change depend on another cluster admin staying one.
func (p *picture) keepAnother(t *txn, name string) error {
	for _, other := range sortedKeys(p.users) {
		if u := p.users[other]; other != name && isAdmin(u.val) {
			t.conds = append(t.conds, kv.Cond{Key: userKind().key(other), Mod: u.mod})
			return nil
		}
	}
	return holdfast.Errorf(holdfast.Conflict, "%s is the last cluster admin who can log in; make another one first", name)
}

// endSessions drops a user's sessions but one.
func (p *picture) endSessions(t *txn, user, keep string) {
	for hash, x := range p.sessions {
		if x.val.User == user && hash != keep {
			t.drop(sessionKind().key(hash), x.mod)
		}
	}
}
