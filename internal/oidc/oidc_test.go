package oidc

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/oidc/oidctest"
)

const page = "https://c1.example:7440/ui/oidc"

// hands is a clock that is set by hand.
type hands struct {
	clock.Clock
	ahead time.Duration
}

func (h *hands) Now() time.Duration { return h.Clock.Now() + h.ahead }
func (h *hands) Wall() time.Time    { return h.Clock.Wall().Add(h.ahead) }

// desk is a client with its issuer.
type desk struct {
	*testing.T
	i     *oidctest.Issuer
	c     *Client
	s     Settings
	hands *hands
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{T: t, i: oidctest.New(t), hands: &hands{Clock: clock.System{}}}
	d.c = New(Config{Clock: d.hands, Rand: rand.Reader})
	d.s = Settings{Issuer: d.i.URL, ClientID: oidctest.ClientID, ClientSecret: oidctest.ClientSecret, CA: d.i.CA, Scopes: []string{"email"}}
	t.Cleanup(d.c.Close)
	return d
}

// begin begins, and lets the person log in at the issuer.
func (d *desk) begin() Answer {
	d.Helper()
	to, browser, err := d.c.Begin(context.Background(), d.s, page, "10.0.0.1")
	if err != nil {
		d.Fatal(err)
	}
	return answer(d.i.LogIn(to), browser)
}

func answer(q url.Values, browser string) Answer {
	return Answer{State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Browser: browser}
}

func (d *desk) finish(a Answer) (Identity, error) { return d.c.Finish(context.Background(), d.s, a) }

// refuses checks that an answer is not believed, and what is said of it.
func (d *desk) refuses(a Answer, kind holdfast.Kind, why string) {
	d.Helper()
	id, err := d.finish(a)
	if !holdfast.IsKind(err, kind) || !strings.Contains(err.Error(), why) || id.Subject != "" {
		d.Errorf("%+v, %v; want %v: %s", id, err, kind, why)
	}
}

func TestALogIn(t *testing.T) {
	d := newDesk(t)
	d.i.Claims = map[string]any{"sub": "77", "groups": []string{"ops"}}
	for range 3 {
		id, err := d.finish(d.begin())
		if err != nil || id.Subject != "77" || id.Issuer != d.i.URL || !slices.Equal(id.Claims["groups"].([]any), []any{"ops"}) {
			t.Fatalf("%+v, %v", id, err)
		}
	}
	if n, k := d.i.Asked("/realm/.well-known/openid-configuration"), d.i.Asked("/realm/keys"); n != 1 || k != 1 {
		t.Errorf("the issuer was asked %d times what it is, and %d times for its keys", n, k)
	}
	d.i.Rotate()
	if _, err := d.finish(d.begin()); err != nil || d.i.Asked("/realm/keys") != 2 {
		t.Errorf("another key: %v, asked for %d times", err, d.i.Asked("/realm/keys"))
	}
}

func TestTheBrowserIsSentWithAllThatBindsTheAnswer(t *testing.T) {
	d := newDesk(t)
	to, _, err := d.c.Begin(context.Background(), d.s, page, "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(to)
	q := u.Query()
	if q.Get("redirect_uri") != page || q.Get("scope") != "openid email" || strings.Contains(to, d.i.CA) || strings.Contains(to, url.QueryEscape(oidctest.ClientSecret)) {
		t.Error(to)
	}
	again, _, err := d.c.Begin(context.Background(), d.s, page, "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	v, _ := url.Parse(again)
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if q.Get(name) == v.Query().Get(name) || len(q.Get(name)) != 43 {
			t.Errorf("%s is %q and %q", name, q.Get(name), v.Query().Get(name))
		}
	}
}

// TestAnswersOfOthers: of another browser, of before, of another issuer.
func TestAnswersOfOthers(t *testing.T) {
	d := newDesk(t)
	a := d.begin()
	const foreign = "not begun in this browser"
	for _, browser := range []string{"", "x", d.begin().Browser} { // as one that was led here by somebody else's link
		b := a
		b.Browser = browser
		d.refuses(b, holdfast.Denied, foreign)
	}
	if _, err := d.finish(a); err != nil {
		t.Errorf("who tried with another browser has ended the log-in: %v", err)
	}
	d.refuses(a, holdfast.Denied, foreign) // state and code again
	b := d.begin()
	b.Code = a.Code // a code again, with a state of now
	d.refuses(b, holdfast.Denied, "no such code")
	d.refuses(Answer{}, holdfast.Denied, foreign)
	one, two := d.begin(), d.begin()
	one.Code = two.Code // somebody else's code: its verifier is another
	d.refuses(one, holdfast.Denied, "wrong verifier")

	c := d.begin()
	c.Issuer = "https://evil.example"
	d.refuses(c, holdfast.Denied, "another issuer")
	c = d.begin()
	c.Issuer = "" // this one's answers say whose they are
	d.refuses(c, holdfast.Denied, "does not say which issuer")
	c = d.begin()
	c.Code, c.Error, c.Description = "", "access_denied", "no\x1b[31m"+strings.Repeat("x", 5000)
	d.refuses(c, holdfast.Denied, "access_denied no [31mx")
	c = d.begin()
	c.Code = strings.Repeat("x", maxCode+1)
	d.refuses(c, holdfast.Denied, "no code")
	c = d.begin()
	d.hands.ahead += FlowLife
	d.refuses(c, holdfast.Denied, "have passed")
	c = d.begin()
	d.s.Scopes = []string{"profile"}
	d.refuses(c, holdfast.Denied, "settings")
}

func TestTokensThatAreNotBelieved(t *testing.T) {
	d := newDesk(t)
	set := func(name string, v any) func(map[string]any) string {
		return func(c map[string]any) string {
			if c[name] = v; v == nil {
				delete(c, name)
			}
			return d.i.Sign(c)
		}
	}
	old := oidctest.New(t) // whose key is another
	for what, x := range map[string]struct {
		forge func(map[string]any) string
		kind  holdfast.Kind
		why   string
	}{
		"another nonce":   {set("nonce", "x"), holdfast.Denied, "nonce"},
		"no nonce":        {set("nonce", nil), holdfast.Denied, "nonce"},
		"another issuer":  {set("iss", "https://evil.example"), holdfast.Denied, "different provider"},
		"another client":  {set("aud", "other"), holdfast.Denied, "audience"},
		"no client":       {set("aud", nil), holdfast.Denied, "audience"},
		"for several":     {set("aud", []string{"holdfast", "other"}), holdfast.Denied, "azp"},
		"asked by others": {set("azp", "other"), holdfast.Denied, "azp"},
		"azp of no text":  {set("azp", 5), holdfast.Denied, "azp"},
		"ended":           {set("exp", time.Now().Add(-time.Minute).Unix()), holdfast.Denied, "clocks"},
		"without end":     {set("exp", nil), holdfast.Denied, "clocks"},
		"not yet":         {set("nbf", time.Now().Add(time.Hour).Unix()), holdfast.Denied, "nbf"},
		"nobody":          {set("sub", nil), holdfast.Denied, "subject"},
		"long subject":    {set("sub", strings.Repeat("x", 256)), holdfast.Denied, "subject"},
		"none":            {oidctest.Unsigned, holdfast.Denied, "signature algorithm"},
		"HS256 by the public key": {func(c map[string]any) string { return oidctest.Shared(c, d.i.PublicKey(), "1") },
			holdfast.Denied, "signature algorithm"},
		"HS256 by the secret": {func(c map[string]any) string { return oidctest.Shared(c, []byte(oidctest.ClientSecret), "1") },
			holdfast.Denied, "signature algorithm"},
		"another's key": {old.Sign, holdfast.Denied, "verify"},
		"changed": {func(c map[string]any) string {
			s := d.i.Sign(c)
			c["sub"] = "2"
			o := d.i.Sign(c)
			return o[:strings.LastIndexByte(o, '.')] + s[strings.LastIndexByte(s, '.'):]
		}, holdfast.Denied, "verify"},
		"no token": {func(map[string]any) string { return "" }, holdfast.Denied, "no ID token"},
		"nonsense": {func(map[string]any) string { return "a.b.c" }, holdfast.Denied, "malformed"},
		"huge":     {func(map[string]any) string { return strings.Repeat("x", maxAnswer) }, holdfast.Unavailable, "token for the code"},
	} {
		d.i.Forge = x.forge
		id, err := d.finish(d.begin())
		if !holdfast.IsKind(err, x.kind) || !strings.Contains(err.Error(), x.why) || id.Subject != "" {
			t.Errorf("%s: %+v, %v; want %s", what, id, err, x.why)
		}
	}
	d.i.Forge = nil
	d.i.Claims["aud"], d.i.Claims["azp"] = []string{"other", oidctest.ClientID}, oidctest.ClientID
	if _, err := d.finish(d.begin()); err != nil {
		t.Errorf("for several, asked by us: %v", err)
	}
}

func TestIssuersThatDoNotAnswerAsTheyShould(t *testing.T) {
	const well, keys, token = "/realm/.well-known/openid-configuration", "/realm/keys", "/realm/token"
	at := func(path string, f http.HandlerFunc) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path || strings.HasPrefix(r.URL.Path, "/loop") {
				f(w, r)
				return true
			}
			return false
		}
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"keys":[],"x":"`)
		for range 3 << 20 / 4096 {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `"}`)
	}
	silent := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then it is seen that the client goes
		<-r.Context().Done()
	}
	broken := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b]0;evil\a", 500) }
	loop := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) }
	var stolen int
	thief := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/loop" {
			stolen++
		}
		http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
	}
	for what, x := range map[string]struct {
		path string
		f    http.HandlerFunc
		why  string
	}{
		"a huge description":      {well, huge, "more than 1048576 bytes"},
		"huge keys":               {keys, huge, "more than 1048576 bytes"},
		"no description":          {well, http.NotFound, "404"},
		"a description that errs": {well, broken, "500"},
		"keys that err":           {keys, broken, "500"},
		"a description in a loop": {well, loop, "too often"},
		"keys in a loop":          {keys, loop, "too often"},
		"a silent description":    {well, silent, "exceeded"},
		"silent keys":             {keys, silent, "exceeded"},
		"a silent token":          {token, silent, "exceeded"},
		"a token that errs":       {token, broken, "500"},
		"a token elsewhere":       {token, thief, "leads elsewhere"},
		"to no TLS": {well, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "nothing is encrypted"},
	} {
		d := newDesk(t)
		if strings.Contains(what, "silent") {
			d.c.timeout = 300 * time.Millisecond
		}
		d.i.Answer = at(x.path, x.f)
		to, browser, err := d.c.Begin(context.Background(), d.s, page, "10.0.0.1")
		if err == nil {
			_, err = d.finish(answer(d.i.LogIn(to), browser))
		}
		if !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(strings.ReplaceAll(err.Error(), "imeout", "exceeded"), x.why) || !strings.Contains(err.Error(), d.i.URL) || strings.ContainsAny(err.Error(), "\x1b\a") || len(err.Error()) > 1000 {
			t.Errorf("%s: %v; want %s", what, err, x.why)
		}
	}
	if stolen > 0 {
		t.Error("a code and the client's secret went to another place")
	}
}

func TestIssuersThatAreNotBelieved(t *testing.T) {
	for what, says := range map[string]map[string]any{
		"calls itself":           {"issuer": "https://evil.example"},
		"authorization_endpoint": {"authorization_endpoint": "javascript:alert(1)"},
		"token_endpoint":         {"token_endpoint": "http://127.0.0.1/token"},
		"jwks_uri":               {"jwks_uri": "file:///etc/passwd"},
	} {
		d := newDesk(t)
		d.i.Says = says
		if err := d.c.Check(context.Background(), d.s); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	d := newDesk(t)
	d.s.CA = ""
	if err := d.c.Check(context.Background(), d.s); !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	for _, bad := range []string{"", "http://id.example", "https://", "https://u:p@id.example", "https://id.example/#x", "id.example", "https:id.example", "https://id.example/" + strings.Repeat("x", 2048)} {
		d.s.Issuer = bad
		if err := d.c.Check(context.Background(), d.s); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%.40s: %v", bad, err)
		}
	}
}

// TestAnIssuerThatFailsIsNotAskedByEverybody: strangers press the button.
func TestAnIssuerThatFailsIsNotAskedByEverybody(t *testing.T) {
	d := newDesk(t)
	d.i.Answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	for range 50 {
		if _, _, err := d.c.Begin(context.Background(), d.s, page, "10.0.0.1"); !holdfast.IsKind(err, holdfast.Unavailable) {
			t.Fatal(err)
		}
		d.hands.ahead -= time.Nanosecond // no time passes
	}
	if n := d.i.Asked("/realm/.well-known/openid-configuration"); n > 3 {
		t.Errorf("asked %d times", n)
	}
	d.i.Answer = nil
	d.hands.ahead += failedLife
	if _, err := d.finish(d.begin()); err != nil {
		t.Error(err)
	}
}

func TestLogInsThatAreNotFinishedAreFew(t *testing.T) {
	d := newDesk(t)
	first := d.begin()
	kept := d.begin()
	for range maxFlowsFrom - 1 {
		d.begin()
	}
	d.refuses(first, holdfast.Denied, "not begun in this browser")
	if d.c.flows.Len() != maxFlowsFrom {
		t.Errorf("%d of one address", d.c.flows.Len())
	}
	for i := range 3 * maxFlows {
		from := "10.1." + string(rune('0'+i%100))
		if _, _, err := d.c.begin(flow{}, from); err != nil && !holdfast.IsKind(err, holdfast.Busy) {
			t.Fatal(err)
		}
	}
	if _, _, err := d.c.begin(flow{}, "10.2.0.1"); !holdfast.IsKind(err, holdfast.Busy) || d.c.flows.Len() != maxFlows {
		t.Errorf("%d log-ins, %v", d.c.flows.Len(), err)
	}
	if _, err := d.finish(kept); err != nil {
		t.Errorf("others have pushed out a log-in: %v", err)
	}
	d.hands.ahead += FlowLife
	d.begin()
	if d.c.flows.Len() != 1 {
		t.Errorf("%d log-ins are kept that have ended", d.c.flows.Len())
	}
}
