package httpapi_test

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/alert"
)

// told is a web server that gets messages, and what it got.
func told(t *testing.T) (s *httptest.Server, ca string, got chan *alert.Message) {
	got = make(chan *alert.Message, 16)
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		m := &alert.Message{}
		if err != nil || json.Unmarshal(b, m) != nil || r.Header.Get(alert.MessageHeader) != m.ID {
			t.Errorf("%s, %v", b, err)
		}
		got <- m
	}))
	t.Cleanup(s.Close)
	return s, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), got
}

// A receiver is made, tried, changed and removed, and never shows its secrets again.
func TestAReceiverOfAlerts(t *testing.T) {
	d := newDoor(t)
	web, ca, got := told(t)
	as := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	spec, err := json.Marshal(v1.AlertReceiverSpec{Name: "ops", Kind: "webhook", URL: web.URL + "/hook-of-many-letters", CA: ca, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	var r v1.AlertReceiver
	if err := json.Unmarshal([]byte(d.want(201, "POST", "/v1/alert-receivers", string(spec), as...)), &r); err != nil || len(r.Secret) < 40 || r.URL != web.URL || r.State != "new" || r.Bundle != 30 || r.Remind != 86400 {
		t.Fatalf("%+v, %v", r, err)
	}
	letter := `{"name":"mail","kind":"mail","server":"mail.example.org:465","user":"ann","password":"word-of-many-letters","from":"a@example.org","to":["b@example.org"]}`
	if text := d.want(201, "POST", "/v1/alert-receivers", letter, as...); !strings.Contains(text, `"tls":"tls"`) {
		t.Error(text)
	}
	var test v1.AlertTest
	if err := json.Unmarshal([]byte(d.want(200, "POST", "/v1/alert-receivers/ops/test", "", as...)), &test); err != nil || !test.OK || !strings.HasPrefix(test.Answer, "200 OK") || test.Host != "alpha" {
		t.Fatalf("%+v, %v", test, err)
	}
	if m := <-got; m.Kind != "test" || m.Receiver != "ops" || m.Host != "alpha" {
		t.Errorf("%+v", m)
	}
	resp, text := d.call("GET", "/v1/alert-receivers/ops", "", as...)
	tag := resp.Header.Get("ETag")
	d.want(200, "PATCH", "/v1/alert-receivers/ops", `{"private":true,"remind":0}`, append(as, "If-Match", tag)...)
	d.want(412, "PATCH", "/v1/alert-receivers/ops", `{"remind":60}`, append(as, "If-Match", tag)...)
	text += d.want(200, "GET", "/v1/alert-receivers", "", as...)
	// What it may not become.
	text += d.want(403, "PATCH", "/v1/alert-receivers/ops", `{"private":false}`, as...)
	text += d.want(400, "PATCH", "/v1/alert-receivers/mail", `{"server":"elsewhere.example.org:465"}`, as...)
	text += d.want(422, "PATCH", "/v1/alert-receivers/mail", `{"severity":"loud"}`, as...)
	text += d.want(400, "POST", "/v1/alert-receivers", strings.Replace(letter, `"mail",`, `"other",`, 1)[:20]+`er","kind":"webhook","url":"https://ann:word-of-many-letters@example.org"}`, as...)
	text += d.want(404, "POST", "/v1/alert-receivers/none/test", "", as...)
	// Its server is gone: that is the answer.
	web.Close()
	text += d.want(200, "POST", "/v1/alert-receivers/ops/test", "", as...)
	if !strings.Contains(text, `"ok":false`) || !strings.Contains(text, "cannot be reached") {
		t.Error(text)
	}
	d.mu.Lock()
	text += d.logged.String()
	d.mu.Unlock()
	for _, secret := range []string{r.Secret, "of-many-letters"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is told again:\n%s", secret, text)
		}
	}
	d.want(204, "DELETE", "/v1/alert-receivers/ops", "", as...)
	d.want(404, "GET", "/v1/alert-receivers/ops", "", as...)
	d.want(403, "GET", "/v1/alert-receivers", "", "Authorization", "Bearer "+d.token(account.Operator, ""))
	d.want(403, "GET", "/v1/alert-receivers", "", "Authorization", "Bearer "+d.token(account.TenantAdmin, "red"))
}

// The host that leads tells what the status says, by itself.
func TestTheLeaderTellsWhatTheStatusSays(t *testing.T) {
	d := newDoor(t)
	web, ca, got := told(t)
	r, err := d.alerts.Prepare(alert.Receiver{Name: "ops", Kind: alert.Webhook, Severity: "info", URL: account.Secret(web.URL), CA: ca, Private: true})
	if err == nil {
		err = d.alerts.Add(r, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.b.Lose("beta")
	var st v1.Status
	as := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/status", "", as...)), &st); err != nil || len(st.Conditions) == 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	d.srv.AlertStep(t.Context(), d.alerts)
	m := <-got
	if m.Kind != alert.News || len(m.Alerts) != len(st.Conditions) || m.Sentence != st.Sentence || m.Cluster == "" || m.Host != "alpha" {
		t.Errorf("%+v\n%+v", m, st)
	}
}
