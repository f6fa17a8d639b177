// Package oidc logs people in at an issuer of OpenID Connect (OpenID Connect Core
// 1.0, the authorization code flow, with PKCE of RFC 7636). It knows the protocol
// and nothing of users and roles: what comes out of it are the claims of a token
// whose signature, issuer, audience, time and nonce were checked (ADR 0102).
//
// A log-in that was begun is kept in memory by the host where it began, for ten
// minutes and for one answer, and belongs to the browser that has its cookie.
package oidc

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/pending"
)

// Bounds.
const (
	FlowLife     = 10 * time.Minute // from the button to the answer of the issuer
	maxFlows     = 1024             // at this host at once
	maxFlowsFrom = 16               // of one address; the oldest goes for another
	maxAnswer    = 1 << 20          // bytes of an answer of the issuer
	maxRedirects = 3                // of reading what the issuer says of itself, and its keys
	maxCode      = 4096             // bytes
	maxSaid      = 200              // bytes of what the issuer says that are shown
	timeout      = 10 * time.Second // of one request to the issuer
	foundLife    = time.Hour        // how long what the issuer says of itself holds
	failedLife   = 3 * time.Second  // how long it is not asked again after it failed
	secretBytes  = 32
)

// Settings are those of this cluster at its issuer.
type Settings struct {
	Issuer       string // https URL
	ClientID     string
	ClientSecret string   // "": a public client
	Scopes       []string // beside openid
	CA           string   // PEM; "": whom the host's system trusts
}

// Identity is somebody for whom the issuer vouches. Issuer and Subject together are
// nobody else's, ever; names and addresses may be.
type Identity struct {
	Issuer, Subject string
	Claims          map[string]any
}

// Config is what a Client works with.
type Config struct {
	Clock clock.Clock
	Rand  io.Reader // of states, nonces, verifiers and cookies
}

// Client is one host's side towards the issuer. Its methods may be called from any
// goroutine.
type Client struct {
	cfg     Config
	timeout time.Duration

	flows *pending.List[flow] // by state

	asking sync.Mutex // one asks the issuer what it says of itself, and the others wait
	found  found      // under asking
}

// New makes a client.
func New(c Config) *Client {
	return &Client{cfg: c, timeout: timeout, flows: pending.New[flow](c.Clock, pending.Limits{Life: FlowLife, Most: maxFlows, From: maxFlowsFrom})}
}

// flow is a log-in that was begun.
type flow struct {
	browser  [sha256.Size]byte // hash of the cookie's value
	nonce    string
	verifier string
	redirect string
	of       Settings
}

// Answer is what the issuer had the browser bring.
type Answer struct {
	State, Code string
	Issuer      string // iss of RFC 9207; "": it was not said
	Error       string // instead of a code
	Description string
	Browser     string // the cookie's value
}

// begin keeps a flow of an address and returns its state and the value of its cookie.
func (c *Client) begin(f flow, from string) (state, browser string, err error) {
	if state, err = c.secret(); err != nil {
		return "", "", err
	}
	if browser, err = c.secret(); err != nil {
		return "", "", err
	}
	f.browser = sha256.Sum256([]byte(browser))
	if !c.flows.Put(state, from, f) {
		return "", "", holdfast.Errorf(holdfast.Busy, "%d log-ins by OpenID Connect are under way at this host, as many as there may be; log in with a password, or try again in some minutes", maxFlows)
	}
	return state, browser, nil
}

// take returns the flow of an answer, which nobody gets again.
func (c *Client) take(s Settings, a Answer) (flow, error) {
	again := func(why string) error {
		return holdfast.Errorf(holdfast.Denied, "%s; begin the log-in again", why)
	}
	sum := sha256.Sum256([]byte(a.Browser))
	f, there, fresh := c.flows.Take(a.State, func(f flow) bool { return subtle.ConstantTimeCompare(sum[:], f.browser[:]) == 1 })
	switch {
	case !there:
		return flow{}, again("this log-in was not begun in this browser at this host, or has been used")
	case !fresh:
		return flow{}, again("more than " + FlowLife.String() + " have passed since this log-in was begun")
	case !reflect.DeepEqual(f.of, s):
		return flow{}, again("the settings of OpenID Connect were changed since this log-in was begun")
	case a.Issuer != "" && a.Issuer != s.Issuer:
		return flow{}, again("another issuer has answered than was asked")
	case a.Error != "":
		return flow{}, again("the issuer refused: " + said(strings.TrimSpace(a.Error+" "+a.Description)))
	case a.Code == "" || len(a.Code) > maxCode:
		return flow{}, again("the issuer's answer has no code")
	}
	return f, nil
}

func (c *Client) secret() (string, error) {
	b := make([]byte, secretBytes)
	if _, err := io.ReadFull(c.cfg.Rand, b); err != nil {
		return "", holdfast.Errorf(holdfast.IO, "no random bytes for a log-in: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// said is what somebody else says, as it is shown.
func said(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return text
}

// CheckURL refuses what is no address that a browser or this host is sent to with
// secrets.
func CheckURL(what, text string) error {
	u, err := url.Parse(text)
	if err != nil || len(text) > 2048 || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return holdfast.Errorf(holdfast.Invalid, "%s %q is not an https URL like https://id.example/realm, without user, password or #", what, said(text))
	}
	return nil
}

// limited is a transport whose answers have an end.
type limited struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &bounded{resp.Body, maxAnswer}
	}
	return resp, err
}

// bounded is a body that is an error from some length on: one that is cut short
// could be taken for a whole one.
type bounded struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, holdfast.Errorf(holdfast.Invalid, "the answer has more than %d bytes", maxAnswer)
	}
	return n, err
}
