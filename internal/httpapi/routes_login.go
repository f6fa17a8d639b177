package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// loggedIn is an answer that begins a session in the caller's browser.
type loggedIn struct {
	SetCookie    http.Cookie `header:"Set-Cookie"`
	CacheControl string      `header:"Cache-Control"`
	Body         v1.Session
}

func (s *Server) loginRoutes() {
	act(s, s.operation("GET", "/healthz", "health", "Does the host answer? Nothing else is told", 200),
		func(context.Context, *none) (v1.Health, error) { return v1.Health{OK: true}, nil })
	huma.Register(s.api, s.operation("POST", "/v1/login", "login", "Log in; the session is a cookie", 200),
		func(ctx context.Context, in *request[v1.Login]) (*loggedIn, error) {
			return s.letIn(func(a *account.Store, from string) (*account.Principal, string, error) {
				noteOf(ctx).object = userNamed(a, in.Body.User)
				return a.Login(in.Body.User, in.Body.Password, from)
			}, ctx)
		})
	huma.Register(s.api, s.operation("POST", "/v1/setup", "setup", "Make the first cluster admin with the secret of the set-up link, and log in", 200),
		func(ctx context.Context, in *request[v1.Setup]) (*loggedIn, error) {
			return s.letIn(func(a *account.Store, from string) (*account.Principal, string, error) {
				return a.Setup(in.Body.Token, in.Body.User, in.Body.Password, from)
			}, ctx)
		})
	act(s, s.operation("GET", "/v1/session", "session", "Who the caller is", 200),
		func(ctx context.Context, _ *none) (v1.Session, error) { return s.renderPrincipal(principal(ctx)), nil })
	huma.Register(s.api, s.operation("POST", "/v1/logout", "logout", "End the caller's session", 204), s.logout)
	act(s, s.operation("POST", "/v1/setup-link", "setup-link", "Make the link that makes the first cluster admin; one made before is void", 201),
		func(ctx context.Context, _ *none) (v1.SetupLink, error) {
			a, err := s.accounts()
			if err != nil {
				return v1.SetupLink{}, err
			}
			secret, err := a.SetupLink()
			return v1.SetupLink{URL: "https://" + s.apiAddr(ctx) + "/setup#" + secret}, err
		})
}

// apiAddr is where this host is reached over HTTPS.
func (s *Server) apiAddr(ctx context.Context) string {
	p, err := s.picture(ctx)
	if err == nil {
		if addr := p.Hosts[s.o.Backend.Self().ID].Val.APIAddr; addr != "" {
			return addr
		}
	}
	return "HOST:7440"
}

func (s *Server) letIn(f func(*account.Store, string) (*account.Principal, string, error), ctx context.Context) (*loggedIn, error) {
	a, err := s.accounts()
	if err != nil {
		return nil, fail(err)
	}
	who, secret, err := f(a, addressFrom(ctx))
	if err != nil {
		return nil, refused(err)
	}
	noteOf(ctx).who = who
	return &loggedIn{Body: s.renderPrincipal(who), CacheControl: "no-store", SetCookie: cookie(secret, int(account.SessionLife.Seconds()))}, nil
}

// userNamed is a user's name as it is recorded: one who is not there may be a password
// that was typed into the wrong place.
func userNamed(a *account.Store, user string) string {
	if _, err := a.User(user); err != nil {
		return "(no such user)"
	}
	return user
}

// cookie is one that scripts cannot read and other sites cannot have sent.
func cookie(secret string, age int) http.Cookie {
	return http.Cookie{Name: sessionCookie, Value: secret, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// refused is the answer to a log-in that failed.
func refused(err error) error {
	p := problemOf(err)
	var many *account.TooMany
	switch {
	case errors.As(err, &many):
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {retryAfter(many)}})
	case holdfast.IsKind(err, holdfast.Denied):
		p.Status = http.StatusUnauthorized
	}
	return p
}

func (s *Server) logout(ctx context.Context, _ *none) (*struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}, error) {
	if x := principal(ctx).Session; x != nil {
		a, err := s.accounts()
		if err == nil {
			err = a.EndSession(x.Hash)
		}
		if err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return nil, fail(err)
		}
	}
	return &struct {
		SetCookie http.Cookie `header:"Set-Cookie"`
	}{cookie("", -1)}, nil
}

func (s *Server) renderPrincipal(p *account.Principal) v1.Session {
	out := v1.Session{User: p.Name, Kind: p.Kind, Role: string(p.Role), Project: p.Project}
	if p.Session == nil {
		return out
	}
	e := p.Session.Expires
	out.Expires = &e
	if a, err := s.accounts(); err == nil {
		if u, err := a.User(p.Session.User); err == nil && u.OIDC != nil {
			out.Issuer = u.OIDC.Issuer
		}
	}
	return out
}
