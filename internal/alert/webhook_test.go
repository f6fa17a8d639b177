package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// hook is somebody's web server.
func hook(t *testing.T, f http.HandlerFunc) (*httptest.Server, Receiver) {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	s.StartTLS()
	t.Cleanup(s.Close)
	r := ops()
	r.URL, r.Private = account.Secret(s.URL+"/hook/"+secret+"?key="+secret), true
	r.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	return s, r
}

func message() *Message {
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &Message{Version: 1, ID: "ops-7-0badcafe", Kind: News, At: since, Cluster: "field", Host: "a1", Receiver: "ops", Sentence: "1 of 12 VMs not running.", Open: 1,
		Alerts: []Alert{{ID: "rack-away/b", Change: Raised, Severity: "error", Text: "rack b is away (b1): 1 VM not running", Since: &since, Runbook: "rack-away",
			Effects: []Effect{{ID: "vm-down/db1", Severity: "error", Text: "VM db1 does not run"}}}}}
}

// A receiver checks the signature as docs/alerts.md says.
func TestAWebhookGetsASignedMessage(t *testing.T) {
	at := time.Unix(1772366400, 0)
	var got Message
	_, r := hook(t, func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil || json.Unmarshal(body, &got) != nil {
			t.Errorf("%s, %v", body, err)
		}
		stamp, sum, ok := strings.Cut(strings.TrimPrefix(q.Header.Get("Holdfast-Signature"), "t="), ",v1=")
		h := hmac.New(sha256.New, []byte(secret))
		h.Write([]byte(stamp + "." + string(body)))
		if want := hex.EncodeToString(h.Sum(nil)); !ok || sum != want || stamp != "1772366400" {
			t.Errorf("signature %q, want %s", q.Header.Get("Holdfast-Signature"), want)
		}
		if q.Method != "POST" || q.URL.Path != "/hook/"+secret || q.URL.Query().Get("key") != secret || q.Header.Get("Content-Type") != "application/json" || q.Header.Get("Holdfast-Message") != "ops-7-0badcafe" {
			t.Errorf("%s %s %v", q.Method, q.URL, q.Header)
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, "thanks\r\nSet-Cookie: x")
	})
	answer, err := Send(t.Context(), &r, message(), at)
	if err != nil || answer != "202 Accepted thanks  Set-Cookie: x" {
		t.Errorf("%q, %v", answer, err)
	}
	if want := message(); string(encode(got)) != string(encode(want)) {
		t.Errorf("%+v", got)
	}
}

// What a server does is said, and nothing of what is secret.
func TestWhatAWebhookAnswers(t *testing.T) {
	for _, c := range []struct {
		what string
		do   http.HandlerFunc
		kind holdfast.Kind
		says string
	}{
		{"it is busy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "later", http.StatusServiceUnavailable) }, holdfast.Unavailable, "503 Service Unavailable later"},
		{"too often", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, holdfast.Unavailable, "429"},
		{"it does not want it", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad signature", http.StatusUnauthorized) }, holdfast.Invalid, "bad signature"},
		{"it leads elsewhere", func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "/other", http.StatusTemporaryRedirect)
		}, holdfast.Invalid, "307"},
		{"it leads to metadata", func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "http://169.254.169.254/latest", http.StatusFound)
		}, holdfast.Invalid, "not followed"},
		{"it says very much", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			w.Write(bytes.Repeat([]byte("x"), 1<<20))
		}, holdfast.Unavailable, "500"},
		{"it hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, holdfast.Unavailable, "cannot be reached"},
		{"its headers do not end", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, holdfast.Unavailable, "cannot be reached"},
	} {
		asked := 0
		s, r := hook(t, func(w http.ResponseWriter, q *http.Request) { asked++; c.do(w, q) })
		answer, err := Send(t.Context(), &r, message(), time.Now())
		if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) || strings.Contains(fmt.Sprint(answer, err), secret) || len(fmt.Sprint(answer, err)) > 700 || asked != 1 {
			t.Errorf("%s: asked %d times, %q, %v", c.what, asked, answer, err)
		}
		s.Close()
		if _, err := Send(t.Context(), &r, message(), time.Now()); !holdfast.IsKind(err, holdfast.Unavailable) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s, and it is gone: %v", c.what, err)
		}
	}
}

// A server that is not who it should be, or that no alert may go to, is not told.
func TestAWebhookElsewhereIsNotTold(t *testing.T) {
	asked := false
	s, r := hook(t, func(http.ResponseWriter, *http.Request) { asked = true })
	stranger := r
	stranger.CA = ""
	if _, err := Send(t.Context(), &stranger, message(), time.Now()); !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	// What a name leads to counts, and odd spellings of addresses, too.
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, host := range []string{"localhost", "127.1", "2130706433", "[::1]", "127.0.0.1"} {
		r := r
		r.Private, r.URL = false, account.Secret("https://"+host+port+"/"+secret)
		_, err := Send(t.Context(), &r, message(), time.Now())
		if err == nil || !holdfast.IsKind(err, holdfast.Denied) && !strings.Contains(err.Error(), "lookup") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if asked {
		t.Error("it was told all the same")
	}
}

// Who does not answer is not waited for when the host ends.
func TestAWebhookIsLetGo(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	end := make(chan struct{})
	_, r := hook(t, func(http.ResponseWriter, *http.Request) { stop(); <-end })
	if _, err := Send(ctx, &r, message(), time.Now()); err == nil {
		t.Error("it answered")
	}
	close(end)
}
