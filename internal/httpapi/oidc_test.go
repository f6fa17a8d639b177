package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/oidc/oidctest"
)

// agency is a host that people log in at by an issuer.
type agency struct {
	*door
	i     *oidctest.Issuer
	admin []string // headers
}

func newAgency(t *testing.T) *agency {
	t.Helper()
	d := &agency{door: newDoor(t), i: oidctest.New(t)}
	d.admin = []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	d.i.Claims = map[string]any{"sub": "77", "preferred_username": "eve", "groups": []string{"ops"}}
	return d
}

// spec is what sets the agency's issuer up.
func (d *agency) spec(change func(*v1.OIDCSpec)) string {
	d.Helper()
	secret := oidctest.ClientSecret
	s := v1.OIDCSpec{Name: "Agency", Issuer: d.i.URL, ClientID: oidctest.ClientID, ClientSecret: &secret, CA: d.i.CA, Rules: []v1.OIDCRule{{Claim: "groups", Value: "ops", Role: "operator"}}}
	if change != nil {
		change(&s)
	}
	b, err := json.Marshal(s)
	if err != nil {
		d.Fatal(err)
	}
	return string(b)
}

// begin presses the button, and logs in at the issuer.
func (d *agency) begin() (q url.Values, cookie string) {
	d.Helper()
	resp, text := d.call("POST", "/v1/oidc/begin", "", "X-Holdfast-Request", "1")
	var b v1.OIDCBegin
	if json.Unmarshal([]byte(text), &b) != nil || resp.StatusCode != 200 || len(resp.Cookies()) != 1 {
		d.Fatalf("%d %s", resp.StatusCode, text)
	}
	c := resp.Cookies()[0]
	if c.Name != "holdfast_oidc" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/v1/oidc" || c.MaxAge != 600 || resp.Header.Get("Cache-Control") != "no-store" {
		d.Fatalf("the cookie %v", c)
	}
	u, err := url.Parse(b.URL)
	if err != nil || u.Query().Get("redirect_uri") != "https://"+d.addr+"/ui/oidc" {
		d.Fatalf("the issuer sends the browser back to %s", u.Query().Get("redirect_uri"))
	}
	return d.i.LogIn(b.URL), c.Name + "=" + c.Value
}

func body(q url.Values) string {
	return fmt.Sprintf(`{"state":%q,"code":%q,"iss":%q}`, q.Get("state"), q.Get("code"), q.Get("iss"))
}

// enter logs in and returns the session's cookie.
func (d *agency) enter() string {
	d.Helper()
	q, cookie := d.begin()
	resp, text := d.call("POST", "/v1/oidc/finish", body(q), "Cookie", cookie)
	cs := resp.Cookies()
	if resp.StatusCode != 200 || len(cs) != 2 || cs[0].Name != "holdfast_session" || cs[0].SameSite != http.SameSiteStrictMode || !cs[0].HttpOnly || !cs[0].Secure || cs[1].Name != "holdfast_oidc" || cs[1].MaxAge >= 0 {
		d.Fatalf("%d %s %v", resp.StatusCode, text, cs)
	}
	return cs[0].Name + "=" + cs[0].Value
}

func TestFromTheButtonToTheSession(t *testing.T) {
	d := newAgency(t)
	if text := d.want(200, "GET", "/v1/login", ""); strings.Contains(text, "oidc") {
		t.Error(text)
	}
	d.want(404, "POST", "/v1/oidc/begin", "")
	d.want(404, "GET", "/v1/oidc", "", d.admin...)
	d.want(200, "PUT", "/v1/oidc?dryRun=true", d.spec(nil), d.admin...)
	d.want(404, "GET", "/v1/oidc", "", d.admin...)
	d.want(200, "PUT", "/v1/oidc", d.spec(nil), d.admin...)
	if text := d.want(200, "GET", "/v1/login", ""); !strings.Contains(text, `"name":"Agency"`) || strings.Contains(text, d.i.URL) {
		t.Error(text)
	}
	session := d.enter()
	var who v1.Session
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/session", "", "Cookie", session)), &who); err != nil || who.User != "eve" || who.Kind != "user" || who.Role != "operator" || who.Expires == nil || who.Issuer != d.i.URL {
		t.Fatalf("%+v, %v", who, err)
	}
	var u v1.User
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/users/eve", "", d.admin...)), &u); err != nil || u.OIDC == nil || u.OIDC.Issuer != d.i.URL || u.OIDC.Subject != "77" || u.HasPassword || u.Sessions != 1 {
		t.Fatalf("%+v, %v", u, err)
	}
	// The session is like others: it is listed, and can be ended.
	var all []v1.SessionInfo
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/sessions", "", d.admin...)), &all); err != nil || len(all) != 1 || all[0].User != "eve" {
		t.Fatalf("%+v, %v", all, err)
	}
	d.want(204, "DELETE", "/v1/sessions/"+all[0].ID, "", d.admin...)
	d.want(401, "GET", "/v1/session", "", "Cookie", session)

	// Whom no rule fits any more is out, with every session.
	session = d.enter()
	d.i.Claims["groups"] = []string{"gone"}
	q, cookie := d.begin()
	if text := d.want(401, "POST", "/v1/oidc/finish", body(q), "Cookie", cookie); !strings.Contains(text, "no rule") {
		t.Error(text)
	}
	d.want(401, "GET", "/v1/session", "", "Cookie", session)
	var ops []string
	for _, e := range d.written() {
		ops = append(ops, e.Who+" "+e.Op+" "+e.Object)
		if b, _ := json.Marshal(e); strings.Contains(string(b), q.Get("code")) || strings.Contains(string(b), oidctest.ClientSecret) {
			t.Errorf("a secret: %s", b)
		}
	}
	if !slices.Contains(ops, "user eve oidc-finish eve") || !slices.Contains(ops, "nobody oidc-finish ") || strings.Count(strings.Join(ops, "\n"), "oidc-set") != 1 {
		t.Errorf("recorded: %q", ops)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if text := d.logged.String(); strings.Contains(text, oidctest.ClientSecret) || strings.Contains(text, q.Get("code")) {
		t.Error("a secret is in the log")
	}
}

// TestAnswersThatOthersHaveSent: a page of another site, a link to an answer of
// somebody else's, the same answer again.
func TestAnswersThatOthersHaveSent(t *testing.T) {
	d := newAgency(t)
	d.want(200, "PUT", "/v1/oidc", d.spec(nil), d.admin...)
	q, cookie := d.begin()
	_, victims := d.begin()
	for what, h := range map[string][]string{
		"no cookie":             {},
		"the cookie of another": {"Cookie", victims},
		"another cookie":        {"Cookie", "holdfast_oidc=x"},
	} {
		if text := d.want(401, "POST", "/v1/oidc/finish", body(q), h...); !strings.Contains(text, "not begun in this browser") {
			t.Errorf("%s: %s", what, text)
		}
	}
	d.want(403, "POST", "/v1/oidc/finish", body(q), "Cookie", cookie, "Sec-Fetch-Site", "cross-site")
	d.want(403, "POST", "/v1/oidc/finish", body(q), "Cookie", cookie, "Origin", "https://evil.example")
	d.want(403, "POST", "/v1/oidc/begin", "", "Sec-Fetch-Site", "cross-site")
	if resp, text := d.call("GET", "/v1/oidc/finish?"+q.Encode(), "", "Cookie", cookie); resp.StatusCode == 200 || len(resp.Cookies()) > 0 {
		t.Errorf("a link has logged somebody in: %d %s", resp.StatusCode, text)
	}
	d.want(200, "POST", "/v1/oidc/finish", body(q), "Cookie", cookie)
	d.want(401, "POST", "/v1/oidc/finish", body(q), "Cookie", cookie)
	mixed, cookie := d.begin()
	mixed.Set("iss", "https://evil.example")
	d.want(401, "POST", "/v1/oidc/finish", body(mixed), "Cookie", cookie)
	// Nobody says where the browser is led afterwards, and to begin with only who asks.
	for _, host := range []string{"evil.example/x", "a@evil.example", "evil.example?x"} {
		r, err := http.NewRequest("POST", "https://"+d.addr+"/v1/oidc/begin", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := d.http.Do(r)
		if err != nil {
			continue // refused before
		}
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("asked as %s: %d", host, resp.StatusCode)
		}
	}
	d.want(422, "POST", "/v1/oidc/begin?to=https://evil.example", "")
}

func TestTheSettingsOfOpenIDConnect(t *testing.T) {
	d := newAgency(t)
	put := func(status int, why string, change func(*v1.OIDCSpec), more ...string) {
		t.Helper()
		if text := d.want(status, "PUT", "/v1/oidc", d.spec(change), append(slices.Clone(d.admin), more...)...); !strings.Contains(text, why) || strings.Contains(text, "everything") {
			t.Errorf("%s", text)
		}
	}
	put(400, "https URL", func(s *v1.OIDCSpec) { s.Issuer = "http://id.example" })
	put(503, "does not give", func(s *v1.OIDCSpec) { s.Issuer = "https://127.0.0.1:1" })
	put(503, "certificate", func(s *v1.OIDCSpec) { s.CA = "" })
	put(400, "calls itself", func(s *v1.OIDCSpec) { s.Issuer += "/" })
	put(404, "no project", func(s *v1.OIDCSpec) { s.Rules[0].Project = "red" })
	put(400, "cluster admin belongs to no project", func(s *v1.OIDCSpec) { s.Rules[0].Role, s.Rules[0].Project = "cluster-admin", "red" })
	d.want(404, "GET", "/v1/oidc", "", d.admin...)
	put(200, `"has_secret":true`, nil)
	resp, text := d.call("GET", "/v1/oidc", "", d.admin...)
	if strings.Contains(text, "everything") || !strings.Contains(text, `"has_secret":true`) {
		t.Error(text)
	}
	put(200, `"name":"Other"`, func(s *v1.OIDCSpec) { s.Name, s.ClientSecret = "Other", nil }, "If-Match", resp.Header.Get("ETag"))
	put(412, "", nil, "If-Match", resp.Header.Get("ETag"))
	d.enter() // the secret is still there
	put(400, "is sent to no other", func(s *v1.OIDCSpec) { s.ClientID, s.ClientSecret = "x", nil })
	for _, role := range []account.Role{account.Viewer, account.Operator} {
		token := []string{"Authorization", "Bearer " + d.token(role, "")}
		d.want(403, "GET", "/v1/oidc", "", token...)
		d.want(403, "PUT", "/v1/oidc", d.spec(nil), token...)
	}
	session := d.enter()
	d.want(204, "DELETE", "/v1/oidc", "", d.admin...)
	d.want(401, "GET", "/v1/session", "", "Cookie", session)
	if err := d.a.AddUser("ann", account.Viewer, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	d.login("ann")
}
