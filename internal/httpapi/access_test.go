package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/alert"
	"github.com/holdfast-cloud/holdfast/internal/audit"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/web"
)

const goodPassword = "correct horse battery"

// door is a host that serves HTTPS to whoever comes, with accounts.
type door struct {
	*testing.T
	b      *apitest.Backend
	a      *account.Store
	log    *audit.Log
	alerts *alert.Store
	pages  *web.Store
	srv    *httpapi.Server
	addr   string
	http   *http.Client // without a certificate

	mu     sync.Mutex
	logged bytes.Buffer
}

// Write takes the log.
func (d *door) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logged.Write(b)
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{T: t, b: apitest.Three()}
	log := slog.New(slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelDebug}))
	srv := memkv.NewServer(memkv.Config{Clock: clock.System{}, Rand: func(string) *mrand.Rand { return mrand.New(mrand.NewPCG(1, 2)) }, MaxLatency: 1})
	d.a = account.Open(account.Config{KV: srv.Handle("a", clock.System{}), Clock: clock.System{}, Rand: rand.Reader, Log: log})
	d.log = audit.Open(audit.Config{KV: srv.Handle("b", clock.System{}), Clock: clock.System{}, Log: log, Host: "alpha"})
	d.alerts = &alert.Store{KV: srv.Handle("c", clock.System{}), Clock: clock.System{}, Rand: rand.Reader}
	d.pages = &web.Store{KV: srv.Handle("d", clock.System{}), Clock: clock.System{}, Rand: rand.Reader, Cluster: "field"}
	if _, err := d.pages.Set([]string{"field.local", "cloud.example.org"}, false, false); err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t)
	d.srv = httpapi.New(httpapi.Options{Backend: d.b, Version: "test", Log: log, Peer: peer, Accounts: func() (*account.Store, error) { return d.a, nil }, Pages: d.page,
		Audit: func() (*audit.Log, error) { return d.log, nil }, Alerts: func() (*alert.Store, error) { return d.alerts, nil }, AlertLost: func(string, string) {}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.srv.ServeTLS(l, auth.GuestServerTLS(a.host(), func(auth.Identity) error { return nil }))
	d.addr = l.Addr().String()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	d.http = &http.Client{Transport: tr, Timeout: 20 * time.Second}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		d.srv.Close(ctx)
		d.a.Close()
		d.log.Close()
	})
	return d
}

// page is what a host shows of the pages.
func (d *door) page() (*web.Store, *web.Page, error) {
	r, _, err := d.pages.Read()
	if err != nil {
		return nil, nil, err
	}
	p, err := r.Page(time.Now(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	site, err := d.pages.Site()
	return d.pages, p.With(site), err
}

// call does one request and returns its answer, whose body has been read.
func (d *door) call(method, path, body string, headers ...string) (*http.Response, string) {
	d.Helper()
	req, err := http.NewRequest(method, "https://"+d.addr+path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if at := req.Header.Get("Host"); at != "" {
		req.Host = at // by which name the caller has come
	}
	resp, err := d.http.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	r := io.Reader(resp.Body)
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		r = io.LimitReader(r, 1) // it does not end
	}
	b, err := io.ReadAll(r)
	if err != nil {
		d.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		var p v1.Problem
		if json.Unmarshal(b, &p) != nil || p.Type == "" || p.Detail == "" || p.Status != resp.StatusCode {
			d.Fatalf("%s %s: not a problem: %d %s", method, path, resp.StatusCode, b)
		}
	}
	return resp, string(b)
}

// want is call, with the status that is expected.
func (d *door) want(status int, method, path, body string, headers ...string) string {
	d.Helper()
	resp, text := d.call(method, path, body, headers...)
	if resp.StatusCode != status {
		d.Fatalf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, status, text)
	}
	return text
}

// token makes one of a role.
func (d *door) token(role account.Role, project string) string {
	d.Helper()
	d.project(project)
	by := &account.Principal{Kind: "socket", Role: account.ClusterAdmin}
	_, text, err := d.a.CreateToken(by, "t-"+string(role), role, project, time.Hour)
	if err != nil {
		d.Fatal(err)
	}
	return text
}

// project makes sure that there is one.
func (d *door) project(name string) {
	d.Helper()
	if err := d.a.SetProject(name, account.Share{}, true); name != "" && err != nil && !holdfast.IsKind(err, holdfast.Exists) {
		d.Fatal(err)
	}
}

// login logs in and returns the cookie.
func (d *door) login(user string) string {
	d.Helper()
	resp, text := d.call("POST", "/v1/login", fmt.Sprintf(`{"user":%q,"password":%q}`, user, goodPassword))
	if resp.StatusCode != 200 || len(resp.Cookies()) != 1 {
		d.Fatalf("log-in: %d %s", resp.StatusCode, text)
	}
	c := resp.Cookies()[0]
	if c.Name != "holdfast_session" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || resp.Header.Get("Cache-Control") != "no-store" {
		d.Fatalf("the cookie %v", c)
	}
	return c.Name + "=" + c.Value
}

// operations are those of the description.
type described struct{ id, method, path string }

func (d *door) operations() (out []described) {
	d.Helper()
	text, err := d.srv.OpenAPI()
	if err != nil {
		d.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(text, &api); err != nil {
		d.Fatal(err)
	}
	for path, methods := range api.Paths {
		for method, op := range methods {
			out = append(out, described{op.OperationID, strings.ToUpper(method), path})
		}
	}
	slices.SortFunc(out, func(a, b described) int { return strings.Compare(a.id, b.id) })
	return out
}

// filled is a path whose parameters all name something that is not there.
func filled(path string) string {
	return regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "deadbeef0000")
}

// TestTheTableOfRolesCoversTheDescription: every operation has a row, and every
// row an operation.
func TestTheTableOfRolesCoversTheDescription(t *testing.T) {
	d := newDoor(t)
	rows := httpapi.Access()
	for _, op := range d.operations() {
		if _, ok := rows[op.id]; !ok {
			t.Errorf("%s (%s %s) has no row in access: nobody may call it", op.id, op.method, op.path)
		}
		delete(rows, op.id)
	}
	for id := range rows {
		t.Errorf("the row %s is of no operation", id)
	}
}

// TestEveryRoleCallsEverything calls each operation as each role, as nobody, and
// as somebody of a project: it is let through exactly where the table says so.
func TestEveryRoleCallsEverything(t *testing.T) {
	d := newDoor(t)
	rows := httpapi.Access()
	golden := map[account.Role]int{}
	for _, role := range account.Roles() {
		projects := []string{"", "red"}
		switch role {
		case account.TenantAdmin:
			projects = projects[1:]
		case account.ClusterAdmin:
			projects = projects[:1]
		}
		for _, project := range projects {
			token := d.token(role, project)
			who := &account.Principal{Kind: "token", Role: role, Project: project}
			for _, op := range d.operations() {
				resp, text := d.call(op.method, filled(op.path), "", "Authorization", "Bearer "+token)
				stopped := resp.StatusCode == http.StatusForbidden && strings.Contains(text, "which may not do that ("+op.id+")")
				if may := who.May(rows[op.id]); stopped == may || resp.StatusCode == http.StatusUnauthorized {
					t.Errorf("%s as %s of %q: %d %s", op.id, role, project, resp.StatusCode, text)
				}
				if !stopped && project == "" {
					golden[role]++
				}
			}
		}
	}
	if !(golden[account.Viewer] < golden[account.Operator] && golden[account.Operator] < golden[account.ClusterAdmin]) || golden[account.ClusterAdmin] != len(d.operations()) {
		t.Errorf("operations let through: %v of %d", golden, len(d.operations()))
	}
	for _, op := range d.operations() {
		resp, text := d.call(op.method, filled(op.path), "")
		if open := rows[op.id].Scope == account.Public; (resp.StatusCode == http.StatusUnauthorized) == open && op.id != "login" && op.id != "setup" {
			t.Errorf("%s as nobody: %d %s", op.id, resp.StatusCode, text)
		}
	}
	for _, path := range []string{"/openapi.json", "/openapi.yaml", "/v1/nothing", "/v1/../metrics", "//v1/status", "/v1/status/", "/debug/pprof/", "/x"} {
		d.want(401, "GET", path, "")
	}
}

func TestFromTheSetUpLinkToLoggingOut(t *testing.T) {
	d := newDoor(t)
	secret, err := d.a.SetupLink()
	if err != nil {
		t.Fatal(err)
	}
	d.want(200, "GET", "/healthz", "")
	d.want(401, "GET", "/v1/session", "")
	d.want(401, "POST", "/v1/setup", `{"token":"wrong","user":"ann","password":"`+goodPassword+`"}`)
	d.want(400, "POST", "/v1/setup", `{"token":"`+secret+`","user":"ann","password":"short"}`)
	d.want(200, "POST", "/v1/setup", `{"token":"`+secret+`","user":"ann","password":"`+goodPassword+`"}`)
	d.want(401, "POST", "/v1/setup", `{"token":"`+secret+`","user":"bob","password":"`+goodPassword+`"}`)

	cookie := d.login("ann")
	var who v1.Session
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/session", "", "Cookie", cookie)), &who); err != nil ||
		who.User != "ann" || who.Role != "cluster-admin" || who.Project != "" || who.Expires == nil {
		t.Fatalf("%+v, %v", who, err)
	}
	d.want(200, "GET", "/v1/vms", "", "Cookie", cookie)
	d.want(204, "POST", "/v1/logout", "", "Cookie", cookie, "X-Holdfast-Request", "1")
	d.want(401, "GET", "/v1/session", "", "Cookie", cookie)
	d.want(401, "GET", "/v1/vms", "", "Cookie", cookie)
}

func TestAPageOfAnotherSiteChangesNothing(t *testing.T) {
	d := newDoor(t)
	if err := d.a.AddUser("ann", account.ClusterAdmin, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	cookie := d.login("ann")
	body := `{"name":"data","size":1048576}`
	good := []string{"Cookie", cookie, "X-Holdfast-Request", "1"}
	for what, more := range map[string][]string{
		"no header of ours":  {"X-Holdfast-Request", ""},
		"another value":      {"X-Holdfast-Request", "0"},
		"a foreign origin":   {"Origin", "https://evil.example"},
		"no origin":          {"Origin", "null"},
		"plain http":         {"Origin", "http://" + d.addr},
		"another site":       {"Sec-Fetch-Site", "cross-site"},
		"another subdomain":  {"Sec-Fetch-Site", "same-site"},
		"own, and a foreign": {"Origin", "https://" + d.addr, "Sec-Fetch-Site", "cross-site"},
	} {
		if text := d.want(403, "POST", "/v1/volumes", body, append(slices.Clone(good), more...)...); strings.Contains(text, cookie) {
			t.Error(what)
		}
	}
	d.want(403, "POST", "/v1/login", `{"user":"ann","password":"`+goodPassword+`"}`, "Sec-Fetch-Site", "cross-site")
	d.want(201, "POST", "/v1/volumes", body, append(good, "Origin", "https://"+d.addr, "Sec-Fetch-Site", "same-origin")...)
	if vs := d.want(200, "GET", "/v1/volumes", "", "Cookie", cookie); strings.Count(vs, `"name":"data"`) != 1 {
		t.Error(vs)
	}
	// A token is sent by nobody unasked.
	d.want(201, "POST", "/v1/volumes", `{"name":"more","size":1048576}`, "Authorization", "Bearer "+d.token(account.ClusterAdmin, ""))
	// A console is no place for another site's pages either, nor a screen.
	d.want(403, "GET", "/v1/vms/x/console", "", "Authorization", "Bearer "+d.token(account.Viewer, ""))
	d.want(403, "GET", "/v1/vms/x/screen", "", "Authorization", "Bearer "+d.token(account.Viewer, ""))
}

func TestBadCredentialsAreNotPassedOver(t *testing.T) {
	d := newDoor(t)
	token := d.token(account.Viewer, "")
	for _, bad := range []string{"Bearer ", "Bearer hf_", "Bearer " + token + "x", "Basic YTpi", token, "bearer " + token, "Bearer  " + token} {
		d.want(401, "GET", "/v1/vms", "", "Authorization", bad)
	}
	d.want(200, "GET", "/v1/vms", "", "Authorization", "Bearer "+token)
	d.want(401, "GET", "/v1/vms", "", "Cookie", "holdfast_session=forged")
	d.want(401, "GET", "/v1/vms", "", "Cookie", "holdfast_session="+token)
	d.want(200, "GET", "/healthz", "", "Cookie", "holdfast_session=old")
}

func TestWrongPasswordsAreAnsweredAlikeAndThenNotLookedAt(t *testing.T) {
	d := newDoor(t)
	if err := d.a.AddUser("ann", account.Viewer, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	a := d.want(401, "POST", "/v1/login", `{"user":"ann","password":"wrong"}`)
	b := d.want(401, "POST", "/v1/login", `{"user":"bob","password":"wrong"}`)
	if a != b {
		t.Errorf("%s and %s", a, b)
	}
	for range 9 {
		d.want(401, "POST", "/v1/login", `{"user":"ann","password":"wrong"}`)
	}
	resp, text := d.call("POST", "/v1/login", `{"user":"ann","password":"`+goodPassword+`"}`)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

func TestUsersOfAProjectSeeAndMakeNoOthers(t *testing.T) {
	d := newDoor(t)
	for name, at := range map[string]struct {
		role    account.Role
		project string
	}{"ann": {account.ClusterAdmin, ""}, "tom": {account.TenantAdmin, "red"}, "tess": {account.Viewer, "red"}, "uma": {account.TenantAdmin, "blue"}, "vic": {account.Viewer, ""}} {
		d.project(at.project)
		if err := d.a.AddUser(name, at.role, at.project, goodPassword); err != nil {
			t.Fatal(err)
		}
	}
	d.project("green")
	tom := []string{"Cookie", d.login("tom"), "X-Holdfast-Request", "1"}
	var users []v1.User
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/users", "", tom...)), &users); err != nil || len(users) != 2 || users[0].Name != "tess" || users[1].Name != "tom" {
		t.Fatalf("%+v, %v", users, err)
	}
	for _, other := range []string{"ann", "uma", "vic", "nobody"} {
		d.want(404, "GET", "/v1/users/"+other, "", tom...)
		d.want(404, "DELETE", "/v1/users/"+other, "", tom...)
		d.want(404, "PATCH", "/v1/users/"+other, `{"disabled":true}`, tom...)
		d.want(404, "POST", "/v1/users/"+other+"/password", `{"password":"`+goodPassword+`"}`, tom...)
	}
	for _, more := range []string{`"role":"cluster-admin"`, `"role":"viewer"`, `"role":"viewer","project":"blue"`, `"role":"operator","project":"blue"`} {
		d.want(403, "POST", "/v1/users", `{"name":"mal",`+more+`}`, tom...)
		d.want(403, "POST", "/v1/tokens", `{"name":"mal","seconds":60,`+more+`}`, tom...)
	}
	d.want(403, "PATCH", "/v1/users/tess", `{"project":"blue"}`, tom...)
	d.want(403, "PATCH", "/v1/users/tom", `{"role":"viewer","project":""}`, tom...)
	d.want(201, "POST", "/v1/users", `{"name":"new","role":"operator","project":"red"}`, tom...)
	// Who changes their own password knows the old one, and nobody changes others'.
	tess := []string{"Cookie", d.login("tess"), "X-Holdfast-Request", "1"}
	d.want(403, "POST", "/v1/users/tess/password", `{"password":"another good one"}`, tess...)
	d.want(403, "POST", "/v1/users/tom/password", `{"password":"another good one"}`, tess...)
	other := d.login("tess")
	d.want(204, "POST", "/v1/users/tess/password", `{"password":"another good one","old":"`+goodPassword+`"}`, tess...)
	d.want(200, "GET", "/v1/session", "", tess...)
	d.want(401, "GET", "/v1/session", "", "Cookie", other)
	// Sessions and tokens of others cannot be ended, nor seen.
	var sessions []v1.SessionInfo
	d.login("uma")
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/sessions", "", tom...)), &sessions); err != nil || len(sessions) != 2 {
		t.Fatalf("%+v, %v", sessions, err)
	}
	for _, x := range d.a.Sessions() {
		if x.User == "uma" {
			d.want(404, "DELETE", "/v1/sessions/"+x.ID(), "", tom...)
		}
	}
	for _, x := range sessions {
		if x.User == "tess" {
			d.want(204, "DELETE", "/v1/sessions/"+x.ID, "", tom...)
		}
	}
	d.want(401, "GET", "/v1/session", "", tess...)
}

func TestATokenMakesNoTokensAndIsShownOnce(t *testing.T) {
	d := newDoor(t)
	admin := d.token(account.ClusterAdmin, "")
	d.want(403, "POST", "/v1/tokens", `{"name":"x","role":"viewer","seconds":60}`, "Authorization", "Bearer "+admin)
	if err := d.a.AddUser("ann", account.ClusterAdmin, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	ann := []string{"Cookie", d.login("ann"), "X-Holdfast-Request", "1"}
	var tok v1.Token
	if err := json.Unmarshal([]byte(d.want(201, "POST", "/v1/tokens", `{"name":"x","role":"viewer","seconds":60}`, ann...)), &tok); err != nil || tok.Token == "" {
		t.Fatal(err)
	}
	d.want(200, "GET", "/v1/vms", "", "Authorization", "Bearer "+tok.Token)
	all := d.want(200, "GET", "/v1/tokens", "", ann...) + d.want(200, "GET", "/v1/users", "", ann...) + d.want(200, "GET", "/v1/sessions", "", ann...)
	cookie := strings.TrimPrefix(ann[1], "holdfast_session=")
	for _, secret := range []string{tok.Token, tok.Token[3:], admin, cookie, goodPassword, "argon2id"} {
		if strings.Contains(all, secret) {
			t.Errorf("a list shows %.8s…", secret)
		}
		d.mu.Lock()
		if strings.Contains(d.logged.String(), secret) {
			t.Errorf("the log shows %.8s…", secret)
		}
		d.mu.Unlock()
	}
	d.want(204, "DELETE", "/v1/tokens/"+tok.ID, "", ann...)
	d.want(401, "GET", "/v1/vms", "", "Authorization", "Bearer "+tok.Token)
	if _, err := d.a.Token(tok.Token, ""); !holdfast.IsKind(err, holdfast.Denied) {
		t.Error(err)
	}
}
