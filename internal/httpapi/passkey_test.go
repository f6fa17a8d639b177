package httpapi_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/passkey/passkeytest"
	"github.com/holdfast-cloud/holdfast/internal/web/webtest"
)

const (
	byName = "field.local:7440"
	origin = "https://" + byName
)

// phone is somebody's, at a page that was opened by one of its names.
type phone struct {
	*door
	device passkeytest.Device
}

// make makes a passkey of a user who is logged in.
func (p *phone) make(user, cookie, name string, headers ...string) (status int, text string) {
	p.Helper()
	headers = append([]string{"Host", byName, "Cookie", cookie, "X-Holdfast-Request", "1"}, headers...)
	resp, text := p.call("POST", "/v1/users/"+user+"/passkeys/begin", fmt.Sprintf(`{"password":%q}`, goodPassword), headers...)
	if resp.StatusCode != 200 {
		return resp.StatusCode, text
	}
	var b v1.CeremonyBegin
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		p.Fatal(err)
	}
	answer, err := p.device.Make(origin, b.Options)
	if err != nil {
		p.Fatal(err)
	}
	resp, text = p.call("POST", "/v1/users/"+user+"/passkeys", fmt.Sprintf(`{"id":%q,"name":%q,"answer":%s}`, b.ID, name, answer), headers...)
	return resp.StatusCode, text
}

// enter logs in.
func (p *phone) enter() (status int, cookie, text string) {
	p.Helper()
	var b v1.CeremonyBegin
	if err := json.Unmarshal([]byte(p.want(200, "POST", "/v1/login/passkey/begin", "", "Host", byName)), &b); err != nil {
		p.Fatal(err)
	}
	answer, err := p.device.Prove(origin, b.Options)
	if err != nil {
		p.Fatal(err)
	}
	resp, text := p.call("POST", "/v1/login/passkey", fmt.Sprintf(`{"id":%q,"answer":%s}`, b.ID, answer), "Host", byName)
	if cs := resp.Cookies(); len(cs) == 1 {
		cookie = cs[0].Name + "=" + cs[0].Value
	}
	return resp.StatusCode, cookie, text
}

func TestSomebodyLogsInWithAPasskey(t *testing.T) {
	d := newDoor(t)
	for _, u := range []string{"ann", "bob"} {
		if err := d.a.AddUser(u, account.Viewer, "", goodPassword); err != nil {
			t.Fatal(err)
		}
	}
	ann := d.login("ann")
	p := &phone{door: d}
	if !strings.Contains(d.want(200, "GET", "/v1/login", "", "Host", byName), `"passkey":true`) || !strings.Contains(d.want(200, "GET", "/v1/login", ""), `"passkey":false`) {
		t.Error("passkeys are offered where there is no name, or are not where there is one")
	}
	if status, text := p.make("ann", ann, "phone"); status != 201 || !strings.Contains(text, `"site":"field.local"`) {
		t.Fatalf("%d %s", status, text)
	}
	status, cookie, text := p.enter()
	if status != 200 || cookie == "" || !strings.Contains(text, `"user":"ann"`) {
		t.Fatalf("%d %s", status, text)
	}
	if got := d.want(200, "GET", "/v1/session", "", "Cookie", cookie); !strings.Contains(got, `"kind":"user"`) {
		t.Error(got)
	}
	var all []v1.Passkey
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/users/ann/passkeys", "", "Cookie", cookie)), &all); err != nil || len(all) != 1 || all[0].Name != "phone" || all[0].Used == nil {
		t.Fatalf("%+v, %v", all, err)
	}

	// Who else may look at it, add one, and remove it.
	bob := d.login("bob")
	mine := []string{"X-Holdfast-Request", "1", "Host", byName}
	d.want(404, "GET", "/v1/users/ann/passkeys", "", "Cookie", bob)
	d.want(404, "DELETE", "/v1/users/ann/passkeys/"+all[0].ID, "", append(mine, "Cookie", bob)...)
	d.want(403, "POST", "/v1/users/ann/passkeys/begin", fmt.Sprintf(`{"password":%q}`, goodPassword), append(mine, "Cookie", bob)...)
	admin := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	d.want(403, "POST", "/v1/users/ann/passkeys/begin", fmt.Sprintf(`{"password":%q}`, goodPassword), append(admin, "Host", byName)...)
	d.want(403, "POST", "/v1/users/ann/passkeys/begin", `{"password":"wrong"}`, append(mine, "Cookie", ann)...)
	d.want(409, "POST", "/v1/users/ann/passkeys/begin", fmt.Sprintf(`{"password":%q}`, goodPassword), "X-Holdfast-Request", "1", "Cookie", ann) // by an address
	d.want(409, "POST", "/v1/login/passkey/begin", "")
	if !strings.Contains(d.want(200, "GET", "/v1/users/ann/passkeys", "", admin...), all[0].ID) {
		t.Error("an administrator does not see it")
	}
	d.want(204, "DELETE", "/v1/users/ann/passkeys/"+all[0].ID, "", admin...)
	d.want(404, "DELETE", "/v1/users/ann/passkeys/"+all[0].ID, "", admin...)
	if status, _, text := p.enter(); status != 401 || !strings.Contains(text, "not known here") {
		t.Errorf("%d %s", status, text)
	}
	d.want(200, "GET", "/v1/session", "", "Cookie", cookie) // sessions go on
}

// Whatever a device answers gets an answer that says what is wrong.
func TestAnswersThatAreNone(t *testing.T) {
	d := newDoor(t)
	if err := d.a.AddUser("ann", account.Viewer, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	ann := d.login("ann")
	for _, answer := range []string{`{}`, `null`, `"x"`, `[]`, `{"id":7}`, `{"id":"AA","rawId":"AA","type":"public-key","response":{}}`, `{"x":"` + strings.Repeat("a", 17<<10) + `"}`} {
		for _, path := range []string{"/v1/login/passkey", "/v1/users/ann/passkeys"} {
			begin := map[string]string{"/v1/login/passkey": "/v1/login/passkey/begin", "/v1/users/ann/passkeys": "/v1/users/ann/passkeys/begin"}[path]
			body := ""
			if strings.Contains(path, "users") {
				body = fmt.Sprintf(`{"password":%q}`, goodPassword)
			}
			as := []string{"Host", byName, "Cookie", ann, "X-Holdfast-Request", "1"}
			var b v1.CeremonyBegin
			if err := json.Unmarshal([]byte(d.want(200, "POST", begin, body, as...)), &b); err != nil {
				t.Fatal(err)
			}
			resp, text := d.call("POST", path, fmt.Sprintf(`{"id":%q,"name":"x","answer":%s}`, b.ID, answer), as...)
			if path == "/v1/login/passkey" {
				resp, text = d.call("POST", path, fmt.Sprintf(`{"id":%q,"answer":%s}`, b.ID, answer), as...)
			}
			if resp.StatusCode < 400 || resp.StatusCode >= 500 {
				t.Errorf("%s with %.60s: %d %s", path, answer, resp.StatusCode, text)
			}
		}
	}
}

func TestTheAuthorityOfThePagesIsThereForEverybody(t *testing.T) {
	d := newDoor(t)
	var p v1.Pages
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/pages", "", "Host", "FIELD.local")), &p); err != nil || !p.Named || p.Names[0] != "field.local" {
		t.Fatalf("%+v, %v", p, err)
	}
	resp, der := d.call("GET", "/v1/pages/authority", "")
	block, _ := pem.Decode([]byte(p.Authority.Certificate))
	if block == nil || string(block.Bytes) != der || resp.Header.Get("Content-Type") != "application/x-x509-ca-cert" || !strings.Contains(resp.Header.Get("Content-Disposition"), "field.local.crt") {
		t.Errorf("%v", resp.Header)
	}
	if ca, err := x509.ParseCertificate([]byte(der)); err != nil || !ca.IsCA || len(p.Authority.SHA256) != 95 {
		t.Errorf("%v, %s", err, p.Authority.SHA256)
	}
	d.want(401, "PUT", "/v1/pages", `{"names":["a.local"]}`)
	d.want(403, "PUT", "/v1/pages", `{"names":["a.local"]}`, "Authorization", "Bearer "+d.token(account.Operator, ""))
	admin := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	for _, bad := range []string{`{"names":[]}`, `{"names":["a"]}`, `{"names":["A.local"]}`, `{"names":null}`, `{"names":["a.local","a.local"]}`} {
		if resp, text := d.call("PUT", "/v1/pages", bad, admin...); resp.StatusCode != 400 && resp.StatusCode != 422 {
			t.Errorf("%s: %d %s", bad, resp.StatusCode, text)
		}
	}
	var now v1.Pages
	if err := json.Unmarshal([]byte(d.want(200, "PUT", "/v1/pages", `{"names":["other.local"]}`, admin...)), &now); err != nil || now.Authority.SHA256 == p.Authority.SHA256 {
		t.Errorf("%v: another name under the authority of before", err)
	}
}

// siteSpec is a certificate of a site's own, and its key.
func siteSpec(t *testing.T, names ...string) string {
	certs, key := webtest.New(t, time.Now()).Site(names...)
	b, err := json.Marshal(v1.PagesSite{Certificate: string(certs), Key: string(key)})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestASiteGivesThePagesItsOwnCertificate(t *testing.T) {
	d := newDoor(t)
	spec := siteSpec(t, "pages.example.org", "*.site.example.org")
	d.want(401, "PUT", "/v1/pages/site", spec)
	d.want(403, "PUT", "/v1/pages/site", spec, "Authorization", "Bearer "+d.token(account.Operator, ""))
	admin := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	if text := d.want(400, "PUT", "/v1/pages/site", `{"certificate":"hello","key":"x"}`, admin...); !strings.Contains(text, "BEGIN CERTIFICATE") {
		t.Error(text)
	}
	d.want(422, "PUT", "/v1/pages/site", `{"certificate":"hello","key":"`+strings.Repeat("x", 16385)+`"}`, admin...)
	if text := d.want(200, "PUT", "/v1/pages/site", spec, admin...); strings.Contains(text, "PRIVATE KEY") || !strings.Contains(text, `"*.site.example.org"`) {
		t.Error(text)
	}
	for name, named := range map[string]bool{"pages.example.org": true, "b1.site.example.org": true, "field.local": true, "site.example.org": false, "a.b.site.example.org": false} {
		var p v1.Pages
		text := d.want(200, "GET", "/v1/pages", "", "Host", name)
		if err := json.Unmarshal([]byte(text), &p); err != nil || p.Named != named || p.Site == nil || len(p.Site.SHA256) != 95 || !strings.Contains(p.Site.Issuer, "Agency CA") || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("by %s: %+v, %v", name, p, err)
		}
	}
	d.want(204, "DELETE", "/v1/pages/site", "", admin...)
	if text := d.want(200, "GET", "/v1/pages", "", "Host", "pages.example.org"); strings.Contains(text, "Agency") {
		t.Error(text)
	}
}
