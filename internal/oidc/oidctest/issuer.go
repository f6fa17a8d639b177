// Package oidctest is an issuer of OpenID Connect for tests: it holds clients to
// what the protocol asks of them, and misbehaves where a test says so.
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// What the issuer knows of its one client. The secret needs the escapes of RFC 6749,
// 2.3.1.
const (
	ClientID     = "holdfast"
	ClientSecret = "a secret/with+everything:%"
)

// Issuer is one, at an address of its own. Its fields may be changed between log-ins.
type Issuer struct {
	URL, CA string
	Claims  map[string]any // of who logs in next, beside those of the protocol
	// Forge, if set, makes the ID token of the claims that an honest one would have.
	Forge func(claims map[string]any) string
	// Answer, if set, is asked first for each request.
	Answer func(w http.ResponseWriter, r *http.Request) (done bool)
	Says   map[string]any // in the discovery document, instead of what is so

	mu    sync.Mutex
	t     *testing.T
	key   *ecdsa.PrivateKey
	kid   int
	codes map[string]url.Values
	asked map[string]int
}

// New starts one that ends with the test.
func New(t *testing.T) *Issuer {
	t.Helper()
	i := &Issuer{t: t, codes: map[string]url.Values{}, asked: map[string]int{}, Claims: map[string]any{"sub": "1"}}
	i.Rotate()
	s := httptest.NewTLSServer(i)
	t.Cleanup(s.Close)
	i.URL = s.URL + "/realm"
	i.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return i
}

// Rotate has another key from now on, and the old one no more.
func (i *Issuer) Rotate() {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = k
	i.kid++
}

// Asked is how often a path was asked for.
func (i *Issuer) Asked(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked[r.URL.Path]++
	i.mu.Unlock()
	if i.Answer != nil && i.Answer(w, r) {
		return
	}
	switch r.URL.Path {
	case "/realm/.well-known/openid-configuration":
		doc := map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}, "authorization_response_iss_parameter_supported": true}
		maps.Copy(doc, i.Says)
		reply(w, http.StatusOK, doc)
	case "/realm/keys":
		i.mu.Lock()
		defer i.mu.Unlock()
		reply(w, http.StatusOK, map[string]any{"keys": []any{i.jwk()}})
	case "/realm/token":
		i.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

// PublicKey is the key as the issuer publishes it, for whoever wants to use it as a
// shared secret.
func (i *Issuer) PublicKey() []byte {
	b, _ := json.Marshal(i.jwk()) // strings
	return b
}

func (i *Issuer) jwk() map[string]string {
	p, err := i.key.PublicKey.Bytes()
	if err != nil {
		i.t.Error(err)
		return nil
	}
	return map[string]string{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": fmt.Sprint(i.kid), "x": b64(p[1:33]), "y": b64(p[33:])}
}

// LogIn is the person who is sent to the issuer and has it send the browser back: it
// returns the parameters of the address that this goes to.
func (i *Issuer) LogIn(to string) url.Values {
	i.t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		i.t.Fatal(err)
	}
	q := u.Query()
	if u.Scheme+"://"+u.Host+u.Path != i.URL+"/auth" || q.Get("client_id") != ClientID || q.Get("response_type") != "code" || q.Get("state") == "" ||
		q.Get("nonce") == "" || q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256" {
		i.t.Fatalf("the browser is sent to %s", to)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	code := rand.Text()
	i.codes[code] = q
	return url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.URL}}
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(why string) {
		reply(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": why})
	}
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	if id != ClientID || secret != ClientSecret {
		reply(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	if r.ParseForm() != nil {
		refuse("no form")
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	q, ok := i.codes[r.Form.Get("code")]
	delete(i.codes, r.Form.Get("code"))
	sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
	switch {
	case !ok:
		refuse("no such code")
		return
	case b64(sum[:]) != q.Get("code_challenge"):
		refuse("wrong verifier")
		return
	case r.Form.Get("redirect_uri") != q.Get("redirect_uri") || r.Form.Get("grant_type") != "authorization_code":
		refuse("another redirect")
		return
	}
	now := time.Now()
	claims := map[string]any{"iss": i.URL, "aud": ClientID, "nonce": q.Get("nonce"), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	maps.Copy(claims, i.Claims)
	raw := ""
	if i.Forge != nil {
		raw = i.Forge(claims)
	} else {
		raw = i.sign(claims)
	}
	reply(w, http.StatusOK, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": raw})
}

// Sign makes an honest token; within Forge.
func (i *Issuer) Sign(claims map[string]any) string { return i.sign(claims) }

func (i *Issuer) sign(claims map[string]any) string {
	text := head(map[string]any{"alg": "ES256", "kid": fmt.Sprint(i.kid)}, claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		i.t.Error(err)
		return ""
	}
	return text + "." + b64(append(fixed(r), fixed(s)...))
}

// Unsigned makes a token of alg none.
func Unsigned(claims map[string]any) string {
	return head(map[string]any{"alg": "none"}, claims) + "."
}

// Shared makes a token of HS256.
func Shared(claims map[string]any, key []byte, kid string) string {
	text := head(map[string]any{"alg": "HS256", "kid": kid}, claims)
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return text + "." + b64(m.Sum(nil))
}

func head(h, claims map[string]any) string {
	a, _ := json.Marshal(h) // of strings and numbers
	b, _ := json.Marshal(claims)
	return b64(a) + "." + b64(b)
}

func fixed(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
