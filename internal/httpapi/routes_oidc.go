package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/oidc"
	"github.com/holdfast-cloud/holdfast/internal/ui"
)

const (
	// oidcCookie is the browser that a log-in by OpenID Connect was begun in. The
	// issuer sends it back to a page of ours, and that page sends what it was given
	// here; so no request of another site ever needs a cookie of ours.
	oidcCookie = "holdfast_oidc"
	oidcPath   = "/v1/oidc"
	oidcPage   = ui.Base + "oidc" // where the issuer sends browsers back to
)

func (s *Server) oidcRoutes() {
	withAccounts(s, "GET", "/v1/login", "login-ways", "The ways to log in", 200, func(ctx context.Context, a *account.Store, _ *account.Principal, _ *none) (v1.LoginWays, error) {
		w := v1.LoginWays{Password: true}
		if _, err := s.passkeyPage(ctx); err == nil {
			w.Passkey = true
		}
		if o, ok := a.OIDC(); ok {
			w.OIDC = &v1.OIDCWay{Name: o.Name}
		}
		return w, nil
	})
	huma.Register(s.api, s.operation("POST", oidcPath+"/begin", "oidc-begin", "Begin to log in by OpenID Connect; the answer to it is taken from the same browser", 200), s.beginOIDC)
	huma.Register(s.api, s.operation("POST", oidcPath+"/finish", "oidc-finish", "Log in with what the issuer of OpenID Connect has answered; the session is a cookie", 200), s.finishOIDC)

	withAccounts(s, "GET", oidcPath, "oidc-show", "How people log in by OpenID Connect", 200, func(_ context.Context, a *account.Store, _ *account.Principal, _ *none) (v1.OIDC, error) {
		o, ok := a.OIDC()
		if !ok {
			return v1.OIDC{}, account.NoOIDC()
		}
		return renderOIDC(o), nil
	})
	withAccounts(s, "PUT", oidcPath, "oidc-set", "Set log-in by OpenID Connect up, or change it; the issuer is asked first", 200, s.setOIDC)
	doAccounts(s, "DELETE", oidcPath, "oidc-delete", "End log-in by OpenID Connect; sessions and tokens of who came by it end", func(a *account.Store, _ *account.Principal, _ *none) error {
		return a.DeleteOIDC()
	})
}

func (s *Server) setOIDC(ctx context.Context, a *account.Store, _ *account.Principal, in *request[v1.OIDCSpec]) (v1.OIDC, error) {
	b := in.Body
	if err := oidc.CheckURL("the issuer", b.Issuer); err != nil {
		return v1.OIDC{}, err
	}
	o := account.OIDC{Name: b.Name, Issuer: b.Issuer, ClientID: b.ClientID, Scopes: b.Scopes, CA: b.CA, Domains: b.Domains, NameClaim: b.NameClaim}
	if o.Name == "" {
		if u, err := url.Parse(b.Issuer); err == nil {
			o.Name = clip(u.Hostname())
		}
	}
	if o.Scopes == nil {
		o.Scopes = []string{"profile", "email"}
	}
	if b.ClientSecret != nil {
		o.ClientSecret = account.Secret(*b.ClientSecret)
	}
	for _, r := range b.Rules {
		o.Rules = append(o.Rules, account.Rule{Claim: r.Claim, Value: r.Value, Role: account.Role(r.Role), Project: r.Project})
	}
	keep := b.ClientSecret == nil
	o, err := a.CheckOIDC(o, keep)
	if err == nil {
		err = s.oidc.Check(ctx, oidcSettings(o))
	}
	if err == nil && !tried(ctx) {
		err = a.SetOIDC(o, keep)
	}
	if err != nil {
		return v1.OIDC{}, err
	}
	if now, ok := a.OIDC(); tried(ctx) {
		o.Changed = time.Now().UTC()
	} else if ok {
		o = now
	}
	return renderOIDC(o), nil
}

func oidcSettings(o account.OIDC) oidc.Settings {
	return oidc.Settings{Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: string(o.ClientSecret), Scopes: o.Scopes, CA: o.CA}
}

func renderOIDC(o account.OIDC) v1.OIDC {
	return v1.OIDC{Name: o.Name, Issuer: o.Issuer, ClientID: o.ClientID, HasSecret: o.ClientSecret != "", Scopes: render(o.Scopes, itself), CA: o.CA,
		Domains: render(o.Domains, itself), NameClaim: o.NameClaim, Changed: o.Changed, Rules: render(o.Rules, func(r account.Rule) v1.OIDCRule {
			return v1.OIDCRule{Claim: r.Claim, Value: r.Value, Role: string(r.Role), Project: r.Project}
		})}
}

func itself(s string) string { return s }

// begun is an answer that a browser goes on from.
type begun struct {
	SetCookie    http.Cookie `header:"Set-Cookie"`
	CacheControl string      `header:"Cache-Control"`
	Body         v1.OIDCBegin
}

func (s *Server) beginOIDC(ctx context.Context, _ *none) (*begun, error) {
	a, err := s.accounts()
	if err != nil {
		return nil, fail(err)
	}
	o, ok := a.OIDC()
	if !ok {
		return nil, fail(account.NoOIDC())
	}
	redirect, err := pageAt(ctx)
	if err != nil {
		return nil, fail(err)
	}
	to, browser, err := s.oidc.Begin(ctx, oidcSettings(o), redirect, addressFrom(ctx))
	if err != nil {
		return nil, fail(err)
	}
	return &begun{oidcCookieOf(browser, int(oidc.FlowLife.Seconds())), "no-store", v1.OIDCBegin{URL: to}}, nil
}

// pageAt is the page that the issuer sends the browser back to, at the name that the
// browser knows this host by. The issuer knows the names: it sends codes to no other.
func pageAt(ctx context.Context) (string, error) {
	c, _ := ctx.Value(callerKey{}).(caller)
	if _, err := pageAddress(c.host); err != nil {
		return "", holdfast.Errorf(holdfast.Invalid, "log-in by OpenID Connect goes by a browser that asks by HTTPS; open the page of a host")
	}
	return "https://" + c.host + oidcPage, nil
}

// pageAddress is the name or address, in small letters and without the port, by which a
// browser says that it knows this host.
func pageAddress(host string) (string, error) {
	u, err := url.Parse("https://" + host)
	if err != nil || host == "" || u.Host != host || u.Hostname() == "" || strings.ContainsAny(host, "/?#@\\ ") {
		return "", holdfast.Errorf(holdfast.Invalid, "%.100q is no address of a page", host)
	}
	return strings.ToLower(u.Hostname()), nil
}

// portOf is the port of such an address, with its colon; "": the usual one.
func portOf(host string) string {
	u, err := url.Parse("https://" + host)
	if err != nil || u.Port() == "" || u.Port() == "443" {
		return ""
	}
	return ":" + u.Port()
}

func oidcCookieOf(value string, age int) http.Cookie {
	c := cookie(value, age)
	c.Name, c.Path = oidcCookie, oidcPath
	return c
}

// loggedInOIDC is loggedIn, and the end of the log-in's own cookie.
type loggedInOIDC struct {
	SetCookie    []http.Cookie `header:"Set-Cookie"`
	CacheControl string        `header:"Cache-Control"`
	Body         v1.Session
}

func (s *Server) finishOIDC(ctx context.Context, in *struct {
	Browser string `cookie:"holdfast_oidc" maxLength:"128" doc:"As oidc-begin has set it"`
	Body    v1.OIDCAnswer
}) (*loggedInOIDC, error) {
	out, err := s.letIn(func(a *account.Store, from string) (*account.Principal, string, error) {
		o, ok := a.OIDC()
		if !ok {
			return nil, "", account.NoOIDC()
		}
		b := in.Body
		id, err := s.oidc.Finish(ctx, oidcSettings(o), oidc.Answer{State: b.State, Code: b.Code, Issuer: b.Iss, Error: b.Error, Description: b.Description, Browser: in.Browser})
		if err != nil {
			return nil, "", err
		}
		return a.LoginOIDC(id.Issuer, id.Subject, id.Claims, from)
	}, ctx)
	if err != nil {
		return nil, err
	}
	noteOf(ctx).object = out.Body.User
	return &loggedInOIDC{[]http.Cookie{out.SetCookie, oidcCookieOf("", -1)}, out.CacheControl, out.Body}, nil
}
