package httpapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// withAccounts registers an endpoint about accounts.
func withAccounts[I, O any](s *Server, method, path, id, summary string, status int, f func(ctx context.Context, a *account.Store, who *account.Principal, in *I) (O, error)) {
	act(s, s.operation(method, path, id, summary, status), func(ctx context.Context, in *I) (O, error) {
		a, err := s.accounts()
		if err != nil {
			var zero O
			return zero, err
		}
		return f(ctx, a, principal(ctx), in)
	})
}

// doAccounts is withAccounts without an answer.
func doAccounts[I any](s *Server, method, path, id, summary string, f func(a *account.Store, who *account.Principal, in *I) error) {
	do(s, s.operation(method, path, id, summary, 204), func(ctx context.Context, in *I) error {
		a, err := s.accounts()
		if err != nil {
			return err
		}
		return f(a, principal(ctx), in)
	})
}

// manages reports whether somebody may change accounts of a role in a project.
func manages(who *account.Principal, role account.Role, project string) bool {
	return who.May(account.Need{Scope: account.Accounts, Verb: account.Change}) && account.Within(role, project, who.Role, who.Project)
}

// managed returns a user that somebody may change; others are not there for them.
func managed(a *account.Store, who *account.Principal, name string) (account.UserInfo, error) {
	u, err := a.User(name)
	if err == nil && !manages(who, u.Role, u.Project) {
		err = account.NoUser(name)
	}
	return u, err
}

// grant refuses to give more than one has.
func grant(who *account.Principal, role account.Role, project string) error {
	if err := account.CheckPlace(role, project); err != nil {
		return err
	}
	if !manages(who, role, project) {
		return holdfast.Errorf(holdfast.Denied, "nobody gives more than they have: %s is %s of project %s", who, who.Role, who.Project)
	}
	return nil
}

func (s *Server) accountRoutes() {
	s.userRoutes()
	s.tokenRoutes()
	s.sessionRoutes()
}

// UserRef names a user in a path.
type UserRef struct {
	User string `path:"user" maxLength:"63"`
}

func (s *Server) userRoutes() {
	withAccounts(s, "GET", "/v1/users", "user-list", "The users", 200, func(_ context.Context, a *account.Store, who *account.Principal, _ *none) ([]v1.User, error) {
		all := slices.DeleteFunc(a.Users(), func(u account.UserInfo) bool { return !manages(who, u.Role, u.Project) })
		return render(all, renderUser), nil
	})
	withAccounts(s, "GET", "/v1/users/{user}", "user-show", "One user", 200, func(_ context.Context, a *account.Store, who *account.Principal, in *UserRef) (v1.User, error) {
		u, err := managed(a, who, in.User)
		return renderUser(u), err
	})
	withAccounts(s, "POST", "/v1/users", "user-create", "Make a user", 201, func(_ context.Context, a *account.Store, who *account.Principal, in *request[v1.UserSpec]) (v1.User, error) {
		b := in.Body
		if err := grant(who, account.Role(b.Role), b.Project); err != nil {
			return v1.User{}, err
		}
		if err := a.AddUser(b.Name, account.Role(b.Role), b.Project, b.Password); err != nil {
			return v1.User{}, err
		}
		u, err := a.User(b.Name)
		return renderUser(u), err
	})
	withAccounts(s, "PATCH", "/v1/users/{user}", "user-set", "Change what a user may; it holds at once", 200, func(_ context.Context, a *account.Store, who *account.Principal, in *struct {
		UserRef
		Body v1.UserChange
	}) (v1.User, error) {
		u, err := managed(a, who, in.User)
		if err != nil {
			return v1.User{}, err
		}
		c := account.UserChange{Project: in.Body.Project, Disabled: in.Body.Disabled}
		if in.Body.Role != nil {
			u.Role = account.Role(*in.Body.Role)
			c.Role = &u.Role
		}
		if in.Body.Project != nil {
			u.Project = *in.Body.Project
		}
		if err := grant(who, u.Role, u.Project); err != nil {
			return v1.User{}, err
		}
		if err := a.SetUser(in.User, c); err != nil {
			return v1.User{}, err
		}
		u, err = a.User(in.User)
		return renderUser(u), err
	})
	doAccounts(s, "DELETE", "/v1/users/{user}", "user-delete", "Delete a user, with its sessions and tokens", func(a *account.Store, who *account.Principal, in *UserRef) error {
		if _, err := managed(a, who, in.User); err != nil {
			return err
		}
		return a.DeleteUser(in.User)
	})
	do(s, s.operation("POST", "/v1/users/{user}/password", "user-passwd", "Give a user another password; its other sessions end", 204), func(ctx context.Context, in *struct {
		UserRef
		Body v1.PasswordSpec
	}) error {
		a, err := s.accounts()
		if err != nil {
			return err
		}
		return setPassword(a, principal(ctx), in.User, in.Body)
	})
}

// setPassword asks those who change their own for the old one: a session that
// was left open is no leave to keep the others out.
func setPassword(a *account.Store, who *account.Principal, user string, b v1.PasswordSpec) error {
	keep := ""
	if who.Kind == "user" && who.Name == user {
		if err := ownPassword(a, who, b.Old, "the old password is wrong"); err != nil {
			return err
		}
		if who.Session != nil {
			keep = who.Session.Hash
		}
	} else if !who.May(account.Need{Scope: account.Accounts, Verb: account.Change}) {
		return holdfast.Errorf(holdfast.Denied, "%s is %s, which may not change others' passwords", who, who.Role)
	} else if _, err := managed(a, who, user); err != nil {
		return err
	}
	return a.SetPassword(user, b.Password, keep)
}

// ownPassword asks a user in a session for the password, under the limits of log-ins.
func ownPassword(a *account.Store, who *account.Principal, password, wrong string) error {
	err := a.CheckOwnPassword(who.Name, password, who.From)
	switch {
	case err == nil:
		return nil
	case holdfast.IsKind(err, holdfast.Denied):
		return holdfast.Errorf(holdfast.Denied, "%s", wrong)
	}
	return refused(err)
}

func renderUser(u account.UserInfo) v1.User {
	out := v1.User{Name: u.Name, Role: string(u.Role), Project: u.Project, Disabled: u.Disabled, HasPassword: u.HasPassword,
		Sessions: u.Sessions, Tokens: u.Tokens, Passkeys: len(u.Passkeys), Created: u.Created}
	if o := u.OIDC; o != nil {
		out.OIDC = &v1.OIDCUser{Issuer: o.Issuer, Subject: o.Subject, Seen: o.Seen}
	}
	return out
}

func (s *Server) tokenRoutes() {
	type ref struct {
		Token string `path:"token" maxLength:"64" doc:"Its id"`
	}
	visible := func(a *account.Store, who *account.Principal) []account.Token {
		return slices.DeleteFunc(a.Tokens(), func(t account.Token) bool {
			return !(who.Kind == "user" && t.Owner == who.Name) && !manages(who, t.Role, t.Project)
		})
	}
	withAccounts(s, "GET", "/v1/tokens", "token-list", "The caller's tokens, and those of whom the caller administers", 200,
		func(_ context.Context, a *account.Store, who *account.Principal, _ *none) ([]v1.Token, error) {
			return render(visible(a, who), renderToken), nil
		})
	withAccounts(s, "POST", "/v1/tokens", "token-create", "Make a token, no more than the caller is; its text is in this answer alone", 201,
		func(_ context.Context, a *account.Store, who *account.Principal, in *request[v1.TokenSpec]) (v1.Token, error) {
			if who.Kind == "token" {
				return v1.Token{}, holdfast.Errorf(holdfast.Denied, "a token makes no tokens: log in")
			}
			b := in.Body
			t, text, err := a.CreateToken(who, b.Name, account.Role(b.Role), b.Project, time.Duration(b.Seconds)*time.Second)
			if err != nil {
				return v1.Token{}, err
			}
			out := renderToken(t)
			out.Token = text
			return out, nil
		})
	doAccounts(s, "DELETE", "/v1/tokens/{token}", "token-revoke", "Make a token useless", func(a *account.Store, who *account.Principal, in *ref) error {
		for _, t := range visible(a, who) {
			if t.ID() == in.Token {
				return a.RevokeToken(t.Hash)
			}
		}
		return holdfast.Errorf(holdfast.NotFound, "no token has the id %s; see 'holdfast token list'", clip(in.Token))
	})
}

func renderToken(t account.Token) v1.Token {
	return v1.Token{ID: t.ID(), Name: t.Name, Owner: t.Owner, Role: string(t.Role), Project: t.Project, Created: t.Created, Expires: t.Expires}
}

func (s *Server) sessionRoutes() {
	type ref struct {
		Session string `path:"session" maxLength:"64" doc:"Its id"`
	}
	visible := func(a *account.Store, who *account.Principal) []account.Session {
		return slices.DeleteFunc(a.Sessions(), func(x account.Session) bool {
			u, err := a.User(x.User)
			return !(who.Kind == "user" && x.User == who.Name) && (err != nil || !manages(who, u.Role, u.Project))
		})
	}
	withAccounts(s, "GET", "/v1/sessions", "session-list", "The caller's sessions, and those of whom the caller administers", 200,
		func(_ context.Context, a *account.Store, who *account.Principal, _ *none) ([]v1.SessionInfo, error) {
			return render(visible(a, who), func(x account.Session) v1.SessionInfo {
				return v1.SessionInfo{ID: x.ID(), User: x.User, From: x.From, Created: x.Created, Expires: x.Expires,
					Current: who.Session != nil && who.Session.Hash == x.Hash}
			}), nil
		})
	doAccounts(s, "DELETE", "/v1/sessions/{session}", "session-revoke", "End a session", func(a *account.Store, who *account.Principal, in *ref) error {
		for _, x := range visible(a, who) {
			if x.ID() == strings.ToLower(in.Session) {
				return a.EndSession(x.Hash)
			}
		}
		return holdfast.Errorf(holdfast.NotFound, "no session has the id %s; see 'holdfast session list'", clip(in.Session))
	})
}
