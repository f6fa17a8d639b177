package account

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of what is kept of OpenID Connect.
const (
	MaxRules    = 64
	maxScopes   = 16
	maxDomains  = 32
	maxWord     = 256 // bytes of a claim's name, a value, a scope, a domain
	maxIssuer   = 2048
	maxCA       = 32 << 10
	maxSubject  = 255
	UnseenLimit = 30 * 24 * time.Hour // how long tokens of who does not log in go on
)

// OIDC says at which issuer of OpenID Connect people may log in, and as what
// (ADR 0102).
type OIDC struct {
	Name         string    `json:"name"` // on the button
	Issuer       string    `json:"issuer"`
	ClientID     string    `json:"client_id"`
	ClientSecret Secret    `json:"client_secret,omitempty"`
	Scopes       []string  `json:"scopes,omitempty"`  // beside openid
	CA           string    `json:"ca,omitempty"`      // PEM; "": whom hosts trust anyway
	Domains      []string  `json:"domains,omitempty"` // of e-mail addresses that are let in; none: all
	NameClaim    string    `json:"name_claim,omitempty"`
	Rules        []Rule    `json:"rules"`
	Changed      time.Time `json:"changed"`
	// Setup is drawn when the issuer is set up, and again when another one takes its
	// place: what was begun by an earlier set-up stays ended, whatever comes later.
	Setup string `json:"setup"`
}

// Rule gives a role to whoever has a value among those of a claim.
type Rule struct {
	Claim   string `json:"claim"` // "a.b": b within a, unless there is a claim of that name
	Value   string `json:"value"`
	Role    Role   `json:"role"`
	Project string `json:"project,omitempty"` // "": the whole cluster
}

// Origin is for whom an issuer has vouched, and when it last did.
type Origin struct {
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	Seen    time.Time `json:"seen"`
	Setup   string    `json:"setup"` // of the issuer, then
}

func oidcKind() kind[OIDC] {
	return kind[OIDC]{keyOIDC, func(*OIDC) string { return "" }, checkOIDC}
}

func checkOIDC(o *OIDC) error {
	bad := func(format string, args ...any) error {
		return holdfast.Errorf(holdfast.Invalid, "OpenID Connect: "+format, args...)
	}
	switch {
	case o.Name == "" || len(o.Name) > maxNote || strings.ContainsFunc(o.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return bad("give a name of 1 to %d bytes, one line, which stands on the button", maxNote)
	case !strings.HasPrefix(o.Issuer, "https://") || len(o.Issuer) > maxIssuer:
		return bad("the issuer is an https URL like https://id.example/realm")
	case !word(o.ClientID):
		return bad("the client's id has 1 to %d bytes; it is what the issuer calls this cluster", maxWord)
	case len(o.ClientSecret) > maxNote*10:
		return bad("the client's secret has %d bytes, at most %d are allowed", len(o.ClientSecret), maxNote*10)
	case len(o.Scopes) > maxScopes || slices.ContainsFunc(o.Scopes, func(s string) bool { return !word(s) || strings.ContainsAny(s, " \"\\") }):
		return bad("scopes are at most %d words like profile", maxScopes)
	case len(o.Domains) > maxDomains || slices.ContainsFunc(o.Domains, func(d string) bool { return !word(d) || strings.ContainsAny(d, "@ ") || d != strings.ToLower(d) }):
		return bad("domains are at most %d names in lower case like agency.example, without @", maxDomains)
	case o.NameClaim != "" && !word(o.NameClaim):
		return bad("the claim of names has 1 to %d bytes", maxWord)
	case len(o.Rules) > MaxRules:
		return bad("%d rules, at most %d are allowed; name groups instead of people", len(o.Rules), MaxRules)
	}
	if err := checkCA(o.CA); err != nil {
		return bad("%w", err)
	}
	for i, r := range o.Rules {
		if !word(r.Claim) || !word(r.Value) {
			return bad("rule %d: a claim and its value have 1 to %d bytes each, without control characters", i+1, maxWord)
		}
		if err := CheckPlace(r.Role, r.Project); err != nil {
			return bad("rule %d: %w", i+1, err)
		}
	}
	return nil
}

func word(s string) bool {
	return s != "" && len(s) <= maxWord && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func checkCA(text string) error {
	if len(text) > maxCA {
		return holdfast.Errorf(holdfast.Invalid, "the CA has %d bytes, at most %d are allowed", len(text), maxCA)
	}
	rest := []byte(strings.TrimSpace(text))
	for len(rest) > 0 {
		b, more := pem.Decode(rest)
		if b == nil || b.Type != "CERTIFICATE" {
			return holdfast.Errorf(holdfast.Invalid, "the CA is certificates in PEM (-----BEGIN CERTIFICATE-----) and nothing else")
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return holdfast.Errorf(holdfast.Invalid, "the CA: %w", err)
		}
		rest = []byte(strings.TrimSpace(string(more)))
	}
	return nil
}

func (o *Origin) check(u *User) error {
	if o == nil {
		return nil
	}
	if o.Issuer == "" || len(o.Issuer) > maxIssuer || o.Subject == "" || len(o.Subject) > maxSubject || u.Password != "" {
		return holdfast.Errorf(holdfast.Invalid, "user %s: who comes by OpenID Connect has an issuer, a subject of at most %d bytes, and no password", u.Name, maxSubject)
	}
	return nil
}

// Place is what claims are given: by the first rule that fits. Denied: nothing,
// with what would have to be different.
func (o *OIDC) Place(claims map[string]any) (Role, string, error) {
	if len(o.Domains) > 0 {
		mail, _ := claims["email"].(string)
		at := strings.LastIndexByte(mail, '@')
		if at < 0 || !slices.Contains(o.Domains, strings.ToLower(mail[at+1:])) {
			return "", "", holdfast.Errorf(holdfast.Denied, "only addresses of %s are let in; the issuer says another one, or none (scope email)", strings.Join(o.Domains, ", "))
		}
		if !verified(claims) {
			return "", "", holdfast.Errorf(holdfast.Denied, "the issuer has not verified that the e-mail address is yours (email_verified)")
		}
	}
	for _, r := range o.Rules {
		if r.Claim == "email" && !verified(claims) {
			continue // anybody could say so
		}
		if has(claims, r.Claim, r.Value) {
			return r.Role, r.Project, nil
		}
	}
	return "", "", holdfast.Errorf(holdfast.Denied, "the issuer knows you, but no rule of this cluster gives you a role; ask a cluster admin, who sees the rules with 'holdfast oidc show'")
}

func verified(claims map[string]any) bool {
	v := claims["email_verified"]
	return v == true || v == "true"
}

// has reports whether a value is that of a claim, or one of its list.
func has(claims map[string]any, claim, value string) bool {
	switch v := claimOf(claims, claim).(type) {
	case string:
		return v == value
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return x == value })
	}
	return false
}

// claimOf finds a claim by its name, or by the way to it: realm_access.roles.
func claimOf(claims map[string]any, name string) any {
	if v, ok := claims[name]; ok {
		return v
	}
	if head, rest, ok := strings.Cut(name, "."); ok {
		if in, ok := claims[head].(map[string]any); ok {
			return claimOf(in, rest)
		}
	}
	return nil
}

// OIDC returns how people log in by OpenID Connect, with its secret, and whether
// they do at all.
func (s *Store) OIDC() (OIDC, bool) {
	v := s.picture().oidc
	return v.val, v.mod != 0
}

// NoOIDC is the error of OpenID Connect that is not set up. Kind NotFound.
func NoOIDC() error {
	return holdfast.Errorf(holdfast.NotFound, "log-in by OpenID Connect is not set up; see 'holdfast oidc set --help'")
}

// SetOIDC sets log-in by OpenID Connect up, or changes it. An empty secret with
// keep is the one there was, at the same issuer.
func (s *Store) SetOIDC(o OIDC, keep bool) error {
	return s.change(func(p *picture, t *txn) error {
		o, err := p.complete(o, keep)
		if err != nil {
			return err
		}
		for _, r := range o.Rules {
			if err := p.require(t, r.Project); err != nil {
				return err
			}
		}
		if o.Setup = p.oidc.val.Setup; p.oidc.mod == 0 || p.oidc.val.Issuer != o.Issuer {
			if o.Setup, err = s.secret(); err != nil {
				return err
			}
		}
		o.Changed = s.cfg.Clock.Wall().UTC()
		return putIn(t, oidcKind(), o, p.oidc.mod, 0)
	})
}

// CheckOIDC returns settings as SetOIDC would keep them.
func (s *Store) CheckOIDC(o OIDC, keep bool) (OIDC, error) {
	p := s.picture()
	o, err := p.complete(o, keep)
	for _, r := range o.Rules {
		if err == nil {
			err = p.require(&txn{}, r.Project)
		}
	}
	return o, err
}

func (p *picture) complete(o OIDC, keep bool) (OIDC, error) {
	if keep && o.ClientSecret == "" && p.oidc.val.ClientSecret != "" {
		if p.oidc.val.Issuer != o.Issuer || p.oidc.val.ClientID != o.ClientID {
			return o, holdfast.Errorf(holdfast.Invalid, "the client's secret that is kept belongs to client %s at %s and is sent to no other; give the new one, or say that there is none", p.oidc.val.ClientID, p.oidc.val.Issuer)
		}
		o.ClientSecret = p.oidc.val.ClientSecret
	}
	return o, checkOIDC(&o)
}

// DeleteOIDC ends log-in by OpenID Connect. Sessions and tokens of who came by it
// are not accepted from then on.
// Kind NotFound.
func (s *Store) DeleteOIDC() error {
	return s.change(func(p *picture, t *txn) error {
		if p.oidc.mod == 0 {
			return NoOIDC()
		}
		t.drop(keyOIDC, p.oidc.mod)
		return nil
	})
}

// trusts reports whether somebody's issuer, if there is one, is still asked, and has
// been without a break since they logged in.
func (p *picture) trusts(u User) bool {
	return u.OIDC == nil || p.oidc.mod != 0 && p.oidc.val.Issuer == u.OIDC.Issuer && p.oidc.val.Setup == u.OIDC.Setup
}

// vouched refuses what is somebody's for whom the issuer has not vouched for long:
// of who has left, a cluster hears nothing.
func (s *Store) vouched(p *picture, u User) error {
	switch {
	case !p.trusts(u):
		return holdfast.Errorf(holdfast.Denied, "user %s came by an issuer of OpenID Connect that is not asked any more", u.Name)
	case u.OIDC != nil && s.cfg.Clock.Wall().Sub(u.OIDC.Seen) > UnseenLimit:
		return holdfast.Errorf(holdfast.Denied, "user %s has not logged in by OpenID Connect for more than %d days; tokens go on when that is done", u.Name, int(UnseenLimit.Hours()/24))
	}
	return nil
}
