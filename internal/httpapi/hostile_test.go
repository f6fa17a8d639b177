package httpapi_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/holdfast-cloud/holdfast/internal/account"
)

// upgrade asks for a websocket as a browser does, with the headers given.
func (d *door) upgrade(path string, headers ...string) (*websocket.Conn, int) {
	d.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ws, resp, err := dialer.DialContext(d.Context(), "wss://"+d.addr+path, h)
	if resp == nil {
		d.Fatal(err)
	}
	if err != nil {
		return nil, resp.StatusCode
	}
	d.Cleanup(func() { ws.Close() })
	return ws, resp.StatusCode
}

// A console is opened by who is logged in, from our own page, and by nothing that
// stands in its address: there is no ticket that could be sent again. What opened one
// before opens none once the session is over, and what is open is cut off.
func TestConsolesAreNotReplayed(t *testing.T) {
	d := newDoor(t)
	if err := d.a.AddUser("ann", account.ClusterAdmin, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	cookie := d.login("ann")
	mine := []string{"Cookie", cookie, "X-Holdfast-Request", "1"}
	d.want(201, "POST", "/v1/vms", `{"name":"web","size":1048576}`, mine...)
	const path = "/v1/vms/web/console"
	same := []string{"Cookie", cookie, "Origin", "https://" + d.addr}
	ws, status := d.upgrade(path, same...)
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("of our own page: %d", status)
	}
	secret := strings.TrimPrefix(cookie, "holdfast_session=")
	token := d.token(account.ClusterAdmin, "")
	for what, c := range map[string]struct {
		path    string
		headers []string
		status  int
	}{
		"nobody":                       {path, nil, 401},
		"nobody, of our own page":      {path, []string{"Origin", "https://" + d.addr}, 401},
		"a page of another site":       {path, []string{"Cookie", cookie, "Origin", "https://evil.example"}, 403},
		"a page without an origin":     {path, []string{"Cookie", cookie, "Origin", "null"}, 403},
		"a secret in the address":      {path + "?token=" + token, nil, 401},
		"a ticket in the address":      {path + "?ticket=" + secret, nil, 401},
		"a session in the address":     {path + "?holdfast_session=" + secret, nil, 401},
		"a secret as a protocol":       {path, []string{"Sec-WebSocket-Protocol", token}, 401},
		"a name and password in it":    {path, []string{"Authorization", "Basic YW5uOndyb25n"}, 401},
		"one of somebody who may not":  {path, []string{"Authorization", "Bearer " + d.token(account.Viewer, "")}, 403},
		"one of a project":             {path, []string{"Authorization", "Bearer " + d.token(account.Operator, "red")}, 404},
		"the screen, of another site":  {"/v1/vms/web/screen", []string{"Cookie", cookie, "Origin", "https://evil.example"}, 403},
		"the screen, without anything": {"/v1/vms/web/screen", nil, 401},
	} {
		if _, status := d.upgrade(c.path, c.headers...); status != c.status {
			t.Errorf("%s: %d, not %d", what, status, c.status)
		}
	}
	d.want(204, "POST", "/v1/logout", "", mine...)
	if _, status := d.upgrade(path, same...); status != http.StatusUnauthorized {
		t.Errorf("replayed after the session: %d", status)
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute)) // what was open is cut off, long before
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Error("the console goes on after the session")
			}
			break
		}
	}
}

// Nothing that is answered can be framed by a page of another site, or taken for
// something else than it says it is.
func TestAnswersAreNotFramed(t *testing.T) {
	d := newDoor(t)
	as := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	seen := map[string]int{}
	for _, op := range d.operations() {
		if op.method != "GET" || op.id == "watch" {
			continue
		}
		for _, headers := range [][]string{as, nil} {
			resp, text := d.call("GET", filled(op.path), "", headers...)
			h := resp.Header
			if h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %v", op.id, h)
			}
			kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
			if seen[kind]++; text != "" && (kind == "" || kind == "text/html" && !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'")) {
				t.Errorf("%s is answered as %q: %v", op.id, kind, h)
			}
		}
	}
	if seen["application/json"] < 20 || seen["application/problem+json"] < 20 {
		t.Errorf("too little was asked for: %v", seen)
	}
	// No page of another site is told that it may read or send anything.
	resp, _ := d.call("OPTIONS", "/v1/vms", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("a preflight is answered with %s", name)
		}
	}
}

// Names are no markup, and what people wrote is never told as a page.
func TestNamesAreNoMarkup(t *testing.T) {
	d := newDoor(t)
	as := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	d.want(201, "POST", "/v1/volumes", `{"name":"data","size":1048576}`, as...)
	for _, evil := range []string{"<script>alert(1)</script>", "<img src=x onerror=alert(1)>", `"><svg onload=alert(1)>`, "javascript:alert(1)", "a'b", "${x}", "{{x}}", "a&lt;b", "é", "a\u202eb", "A"} {
		for path, body := range map[string]string{
			"/v1/vms":                    `{"name":%q,"size":1048576}`,
			"/v1/volumes":                `{"name":%q,"size":1048576}`,
			"/v1/volumes/data/snapshots": `{"name":%q}`,
			"/v1/pools":                  `{"name":%q,"tier":"ssd"}`,
			"/v1/exports":                `{"name":%q,"units":[{"volume":"data"}]}`,
			"/v1/users":                  `{"name":%q,"role":"viewer"}`,
			"/v1/projects":               `{"name":%q,"quota":{"bytes":0,"cpus":0,"memory_mib":0,"vms":0}}`,
			"/v1/image-imports":          `{"name":%q,"url":"https://example.org/x"}`,
		} {
			resp, text := d.call("POST", path, fmt.Sprintf(body, evil), as...)
			if resp.StatusCode < 400 || resp.StatusCode >= 500 || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s takes the name %q: %d %s", path, evil, resp.StatusCode, text)
			}
			if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: a browser may take the answer to %q for a page", path, evil)
			}
		}
		resp, text := d.call("GET", "/v1/vms/"+url.PathEscape(evil), "", as...)
		if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Content-Type") != "application/problem+json" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("a VM that is called %q: %d %s", evil, resp.StatusCode, text)
		}
	}
	// Where people may write what they like, it comes back as text of JSON.
	d.want(201, "POST", "/v1/vms", `{"name":"web","size":1048576,"user_data":"#cloud-config\n# <script>alert(1)</script>"}`, as...)
	for _, path := range []string{"/v1/vms/web", "/v1/vms", "/v1/status", "/v1/audit"} {
		resp, text := d.call("GET", path, "", as...)
		if kind := resp.Header.Get("Content-Type"); kind != "application/json" || resp.Header.Get("X-Content-Type-Options") != "nosniff" || !json.Valid([]byte(text)) {
			t.Errorf("%s: %s as %s", path, text, kind)
		}
	}
}
