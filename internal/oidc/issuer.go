package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	protocol "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/holdfast-cloud/holdfast"
)

// algorithms are the signatures that are believed: of key pairs alone. With a
// shared secret (HS256) the issuer's public key could be taken for one.
func algorithms() []string {
	return []string{protocol.RS256, protocol.RS384, protocol.RS512, protocol.PS256, protocol.PS384, protocol.PS512,
		protocol.ES256, protocol.ES384, protocol.ES512, protocol.EdDSA}
}

// found is what an issuer says of itself (OpenID Connect Discovery 1.0), with the
// keys that were read so far.
type found struct {
	of    Settings
	at    time.Duration
	err   error
	http  *http.Client
	style oauth2.AuthStyle
	ends  oauth2.Endpoint
	says  bool // answers carry iss (RFC 9207)
	proof *protocol.IDTokenVerifier
}

// Check asks the issuer what it says of itself, anew, and refuses settings that
// nobody could log in with. Errors: Invalid; Unavailable: it does not answer.
func (c *Client) Check(ctx context.Context, s Settings) error {
	f, err := c.discover(ctx, s)
	if err == nil {
		f.http.CloseIdleConnections()
	}
	return err
}

// Close ends connections to the issuer that wait for more.
func (c *Client) Close() {
	c.asking.Lock()
	defer c.asking.Unlock()
	if c.found.http != nil {
		c.found.http.CloseIdleConnections()
	}
}

// issuer returns what the issuer says of itself, from memory where it is fresh.
func (c *Client) issuer(ctx context.Context, s Settings) (found, error) {
	c.asking.Lock()
	defer c.asking.Unlock()
	life := foundLife
	if c.found.err != nil {
		life = failedLife
	}
	if c.found.http == nil && c.found.err == nil || !reflect.DeepEqual(c.found.of, s) || c.cfg.Clock.Now()-c.found.at >= life {
		f, err := c.discover(ctx, s)
		if ctx.Err() != nil {
			return found{}, err // who asked has gone, which says nothing of the issuer
		}
		if c.found.http != nil {
			c.found.http.CloseIdleConnections()
		}
		f.of, f.at, f.err = s, c.cfg.Clock.Now(), err
		c.found = f
	}
	return c.found, c.found.err
}

func (c *Client) discover(ctx context.Context, s Settings) (found, error) {
	if err := CheckURL("the issuer", s.Issuer); err != nil {
		return found{}, err
	}
	hc, err := c.dialer(s)
	if err != nil {
		return found{}, err
	}
	ctx = protocol.ClientContext(ctx, hc)
	p, err := protocol.NewProvider(ctx, s.Issuer)
	if err != nil {
		hc.CloseIdleConnections()
		return found{}, unreachable(s, "what it says of itself (.well-known/openid-configuration)", err)
	}
	var doc struct {
		JWKS    string   `json:"jwks_uri"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
		Says    bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := p.Claims(&doc); err != nil {
		return found{}, unreachable(s, "what it says of itself", err)
	}
	f := found{http: hc, ends: p.Endpoint(), says: doc.Says, style: oauth2.AuthStyleInHeader}
	for what, at := range map[string]string{"authorization_endpoint": f.ends.AuthURL, "token_endpoint": f.ends.TokenURL, "jwks_uri": doc.JWKS} {
		if err := CheckURL("the issuer's "+what, at); err != nil {
			return found{}, err
		}
	}
	if s.ClientSecret == "" || slices.Contains(doc.Methods, "client_secret_post") && !slices.Contains(doc.Methods, "client_secret_basic") {
		f.style = oauth2.AuthStyleInParams
	}
	f.proof = p.VerifierContext(ctx, &protocol.Config{ClientID: s.ClientID, SupportedSigningAlgs: algorithms(), Now: c.cfg.Clock.Wall})
	return f, nil
}

// unreachable is the error of an issuer that does not say what it should.
func unreachable(s Settings, what string, err error) error {
	var other *protocol.IssuerMismatchError
	if errors.As(err, &other) {
		return holdfast.Errorf(holdfast.Invalid, "at %s there is an issuer that calls itself %q: give the issuer exactly as it calls itself", s.Issuer, said(other.Discovered))
	}
	return holdfast.Errorf(holdfast.Unavailable, "the issuer %s does not give %s: %s. Passwords work without it. See whether this host reaches it, whether the host trusts its certificate (or give its CA), and whether the URL is right",
		s.Issuer, what, said(err.Error()))
}

// dialer returns the way to an issuer. It may be at a private address: who has set
// it up administers the cluster.
func (c *Client) dialer(s Settings) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		if conf.RootCAs = x509.NewCertPool(); !conf.RootCAs.AppendCertsFromPEM([]byte(s.CA)) {
			return nil, holdfast.Errorf(holdfast.Invalid, "the CA of the issuer is not a certificate in PEM")
		}
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: c.timeout, ResponseHeaderTimeout: c.timeout, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true}
	return &http.Client{Transport: limited{t}, Timeout: c.timeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case via[0].Method != http.MethodGet:
			return errors.New("it leads elsewhere with what is secret")
		case len(via) > maxRedirects:
			return errors.New("it leads from one place to another too often")
		case r.URL.Scheme != "https":
			return errors.New("it leads to where nothing is encrypted")
		}
		return nil
	}}, nil
}

// Begin returns where to send the browser, and the value of the cookie that it is
// given. redirect is where the issuer sends it back to; from is its address.
func (c *Client) Begin(ctx context.Context, s Settings, redirect, from string) (to, browser string, err error) {
	i, err := c.issuer(ctx, s)
	if err != nil {
		return "", "", err
	}
	f := flow{redirect: redirect, of: s}
	if f.nonce, err = c.secret(); err != nil {
		return "", "", err
	}
	if f.verifier, err = c.secret(); err != nil {
		return "", "", err
	}
	state, browser, err := c.begin(f, from)
	if err != nil {
		return "", "", err
	}
	return i.code(s, redirect).AuthCodeURL(state, protocol.Nonce(f.nonce), oauth2.S256ChallengeOption(f.verifier)), browser, nil
}

func (f found) code(s Settings, redirect string) *oauth2.Config {
	ends := f.ends
	ends.AuthStyle = f.style
	return &oauth2.Config{ClientID: s.ClientID, ClientSecret: s.ClientSecret, Endpoint: ends, RedirectURL: redirect,
		Scopes: append([]string{protocol.ScopeOpenID}, s.Scopes...)}
}

// Finish trades the code of an answer for a token and returns whom it is about.
// Errors: Denied: the answer is not believed; Unavailable: the issuer does not
// answer. In either case the log-in is to be begun again.
func (c *Client) Finish(ctx context.Context, s Settings, a Answer) (Identity, error) {
	f, err := c.take(s, a)
	if err != nil {
		return Identity{}, err
	}
	i, err := c.issuer(ctx, s)
	if err != nil {
		return Identity{}, err
	}
	if i.says && a.Issuer == "" {
		return Identity{}, holdfast.Errorf(holdfast.Denied, "the answer does not say which issuer it is from, as this one's do; begin the log-in again")
	}
	ctx = protocol.ClientContext(ctx, i.http)
	t, err := i.code(s, f.redirect).Exchange(ctx, a.Code, oauth2.VerifierOption(f.verifier))
	if err != nil {
		return Identity{}, untraded(s, err)
	}
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return Identity{}, holdfast.Errorf(holdfast.Denied, "the issuer gave no ID token; let it have the scope openid for this client")
	}
	return i.verify(ctx, s, raw, f.nonce)
}

// untraded is the error of a code that the issuer gave nothing for.
func untraded(s Settings, err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response.StatusCode < 500 && refused.ErrorCode != "" {
		return holdfast.Errorf(holdfast.Denied, "the issuer refused the code: %s. If it always does, look at the client's id and secret; else begin the log-in again",
			said(strings.TrimSpace(refused.ErrorCode+" "+refused.ErrorDescription)))
	}
	return unreachable(s, "a token for the code", err)
}

// verify checks a token and returns whom it is about.
func (f found) verify(ctx context.Context, s Settings, raw, nonce string) (Identity, error) {
	bad := func(format string, args ...any) error {
		return holdfast.Errorf(holdfast.Denied, "the issuer's token is not believed: "+format, args...)
	}
	t, err := f.proof.Verify(ctx, raw)
	var old *protocol.TokenExpiredError
	switch {
	case errors.As(err, &old):
		return Identity{}, bad("it ended at %s; compare the clocks of this host and of the issuer", old.Expiry.UTC().Format(time.RFC3339))
	case err != nil && strings.HasPrefix(err.Error(), "failed to verify signature: fetching keys"):
		return Identity{}, unreachable(s, "its keys", err)
	case err != nil:
		return Identity{}, bad("%s", said(strings.TrimPrefix(err.Error(), "oidc: ")))
	case t.Nonce != nonce:
		return Identity{}, bad("it was made for another log-in (nonce)")
	case t.Subject == "" || len(t.Subject) > maxSubject:
		return Identity{}, bad("its subject has %d bytes", len(t.Subject))
	}
	id := Identity{Issuer: s.Issuer, Subject: t.Subject}
	if err := t.Claims(&id.Claims); err != nil {
		return Identity{}, bad("%s", said(err.Error()))
	}
	// OpenID Connect Core, 3.1.3.7: a token for several says which of them asked.
	azp, named := id.Claims["azp"]
	if named && azp != s.ClientID || !named && len(t.Audience) > 1 {
		return Identity{}, bad("it was made for another client (azp)")
	}
	return id, nil
}

// maxSubject is the length of a subject (OpenID Connect Core, 2).
const maxSubject = 255
