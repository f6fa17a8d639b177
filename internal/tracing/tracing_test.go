package tracing

import (
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
)

// sink is a collector.
type sink struct {
	*httptest.Server

	mu      sync.Mutex
	spans   []*spans.Span
	headers http.Header
}

func newSink(t *testing.T) *sink {
	s := &sink{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var got collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(b, &got) != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.headers = r.Header
		for _, of := range got.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				s.spans = append(s.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(s.Server.Close)
	return s
}

// open makes a tracer that tells the sink.
func (s *sink) open(t *testing.T, share float64) *Tracer {
	t.Helper()
	ca, headers := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "headers")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for path, b := range map[string][]byte{ca: cert, headers: []byte("# of the collector\nAuthorization: Bearer 123\n")} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := Open(Config{Endpoint: s.URL, CA: ca, HeaderFile: headers, Share: share, Host: "a1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (s *sink) named(name string) *spans.Span {
	i := slices.IndexFunc(s.spans, func(x *spans.Span) bool { return x.Name == name })
	if i < 0 {
		return nil
	}
	return s.spans[i]
}

func TestACallAndWhatItAsksOthersAreOneTrace(t *testing.T) {
	s := newSink(t)
	tr := s.open(t, 0) // of calls that begin here none; this one began elsewhere
	var asked string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Traceparent")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer other.Close()
	const begun = "4bf92f3577b34da6a3ce929d0e0e4736"
	r := httptest.NewRequest(http.MethodGet, "/v1/vms/secret", nil)
	r.Header.Set("Traceparent", "00-"+begun+"-00f067aa0ba902b7-01")
	r, end := tr.Call(r)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, other.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: tr.Through(http.DefaultTransport)}
	answer, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	end("get-vm", http.StatusOK)
	for _, share := range []string{"", "list-vms"} { // a stream, and a call that is not in the share
		_, end := tr.Call(httptest.NewRequest(http.MethodGet, "/v1/watch", nil))
		end(share, http.StatusOK)
	}
	tr.Close()

	call, ask := s.named("get-vm"), s.named("ask "+strings.TrimPrefix(other.URL, "http://"))
	switch {
	case len(s.spans) != 2 || call == nil || ask == nil:
		t.Fatalf("%v", s.spans)
	case hex(call.TraceId) != begun || hex(ask.TraceId) != begun || hex(call.ParentSpanId) != "00f067aa0ba902b7" || hex(ask.ParentSpanId) != hex(call.SpanId):
		t.Errorf("not one trace: %v, %v", call, ask)
	case asked != "00-"+begun+"-"+hex(ask.SpanId)+"-01":
		t.Errorf("the other host was told %q", asked)
	case call.Status.GetCode() == spans.Status_STATUS_CODE_ERROR || ask.Status.GetCode() != spans.Status_STATUS_CODE_ERROR:
		t.Errorf("%v, %v", call.Status, ask.Status)
	case s.headers.Get("Authorization") != "Bearer 123":
		t.Errorf("%v", s.headers)
	}
	for _, x := range s.spans {
		if strings.Contains(x.String(), "secret") {
			t.Errorf("it tells of a path: %v", x)
		}
	}
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, x := range b {
		out.WriteByte(digits[x>>4])
		out.WriteByte(digits[x&15])
	}
	return out.String()
}

func TestAFailOverIsOneTrace(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	step := func(after time.Duration, what, text string) cluster.Step {
		return cluster.Step{At: at.Add(after), What: what, Text: text}
	}
	end := at.Add(time.Minute)
	inc := cluster.Incident{ID: "000000000123-b1", Racks: []string{"b"}, Opened: at, Closed: &end, Steps: []cluster.Step{
		step(0, ha.Lost, "rack b whole: b1"), step(time.Second, ha.Held, "2 of 3 hosts vanished"), step(3*time.Second, ha.Released, "restarts go ahead"),
		step(4*time.Second, ha.Assigned, ha.AssignedText("db1", "c1", 3)), step(6*time.Second, ha.Running, "db1 on host c1 (generation 3)"),
		step(7*time.Second, ha.Assigned, ha.AssignedText("web", "a1", 2)), step(20*time.Second, ha.Rebuild, "db1 on host d1"), step(time.Minute, ha.Mended, "everything runs"),
	}}
	s := newSink(t)
	for range 2 { // by two leaders
		tr := s.open(t, 0)
		tr.FailOver(inc, []string{"b1"})
		tr.Close()
	}
	if len(s.spans) != 10 {
		t.Fatalf("%d spans: %v", len(s.spans), s.spans)
	}
	root := s.named("fail-over")
	if root == nil || len(root.Events) != len(inc.Steps) || root.EndTimeUnixNano-root.StartTimeUnixNano != uint64(time.Minute) {
		t.Fatalf("%v", root)
	}
	for name, lasts := range map[string]time.Duration{"start db1": 2 * time.Second, "start web": 53 * time.Second, "the brake holds": 2 * time.Second, "rebuild copies": 40 * time.Second} {
		x := s.named(name)
		if x == nil || hex(x.TraceId) != hex(root.TraceId) || hex(x.ParentSpanId) != hex(root.SpanId) || x.EndTimeUnixNano-x.StartTimeUnixNano != uint64(lasts) {
			t.Errorf("%s: %v", name, x)
		}
	}
	for i, x := range s.spans[:5] {
		if y := s.spans[i+5]; hex(x.SpanId) != hex(y.SpanId) || hex(x.TraceId) != hex(y.TraceId) {
			t.Errorf("told differently a second time: %v, %v", x, y)
		}
	}
}

// TestNobodyWaitsForTheCollector: calls end though it is not there, and so does the host.
func TestNobodyWaitsForTheCollector(t *testing.T) {
	s := newSink(t)
	tr := s.open(t, 1)
	s.Server.Close()
	for range 3 * maxQueue {
		_, end := tr.Call(httptest.NewRequest(http.MethodGet, "/v1/vms", nil))
		end("list-vms", http.StatusOK)
	}
	tr.Close()
	var none *Tracer
	_, end := none.Call(httptest.NewRequest(http.MethodGet, "/v1/vms", nil).WithContext(context.Background()))
	end("list-vms", http.StatusOK)
	none.FailOver(cluster.Incident{}, nil)
	none.Close()
}

func TestWhatCannotBeUsedIsRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for what, c := range map[string]Config{
		"traces.ca: open":                          {CA: filepath.Join(dir, "none")},
		"there is no certificate in it":            {CA: write("ca", "hello", 0o600)},
		"traces.header_file: open":                 {HeaderFile: filepath.Join(dir, "none")},
		"others may read it":                       {HeaderFile: write("open", "A: b", 0o644)},
		"line 2 is not like":                       {HeaderFile: write("line", "A: b\nC", 0o600)},
		"token too long":                           {HeaderFile: write("long", strings.Repeat("a", 2*maxHeader), 0o600)},
		"line 17 is not like 'Name: value', or th": {HeaderFile: write("many", strings.Repeat("A: b\n", 0)+manyHeaders(17), 0o600)},
	} {
		c.Endpoint, c.Log = "https://127.0.0.1:1", slog.New(slog.DiscardHandler)
		if tr, err := Open(c); err == nil || !strings.Contains(err.Error(), what) || holdfast.KindOf(err) == holdfast.Other {
			t.Errorf("%q: %v, %v", what, tr, err)
		}
	}
}

func manyHeaders(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("A" + strings.Repeat("x", i) + ": b\n")
	}
	return b.String()
}

func TestTheWayToTheCollector(t *testing.T) {
	for from, to := range map[string]string{
		"https://c:4318": "https://c:4318/v1/traces", "http://c:4318/": "http://c:4318/v1/traces", "https://c/otlp/v1/traces": "https://c/otlp/v1/traces",
	} {
		if got := withPath(from); got != to {
			t.Errorf("%s: %s, want %s", from, got, to)
		}
	}
}
