package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// plain is a client that sends and shows headers.
type plain struct {
	t    testing.TB
	http *http.Client
}

func newPlain(t testing.TB, socket string) *plain {
	tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &plain{t, &http.Client{Transport: tr}}
}

// do sends a request with headers, given as names and values.
func (p *plain) do(method, path, body string, headers ...string) (status int, got http.Header, answer string) {
	p.t.Helper()
	req, err := http.NewRequest(method, "http://h"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// steady is a backend whose picture stays the same one until it is told.
type steady struct {
	*apitest.Backend
	st atomic.Pointer[cluster.State]
}

func (b *steady) State(context.Context) (*cluster.State, error) { return b.st.Load(), nil }

func (b *steady) look(t testing.TB) {
	st, err := b.Backend.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.st.Store(st)
}

func TestWhatIsTheSameIsNotSentAgain(t *testing.T) {
	b := &steady{Backend: apitest.Three()}
	b.look(t)
	path := filepath.Join(t.TempDir(), "s")
	s := httpapi.New(httpapi.Options{Backend: b, Version: "test"})
	if err := s.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	p := newPlain(t, path)
	for _, at := range []string{"/v1/volumes", "/v1/hosts", "/v1/hosts/alpha", "/v1/cluster", "/v1/status", "/openapi.json"} {
		status, h, first := p.do("GET", at, "")
		tag := h.Get("ETag")
		if at == "/openapi.json" && tag == "" {
			continue // it is not the API's own
		}
		if status != 200 || len(tag) != 34 || first == "" {
			t.Fatalf("%s: %d, ETag %s", at, status, tag)
		}
		for _, has := range []string{tag, `"other", W/` + tag, "*"} {
			if status, h, body := p.do("GET", at, "", "If-None-Match", has); status != 304 || body != "" || h.Get("ETag") != tag {
				t.Errorf("%s, who has %s: %d %q", at, has, status, body)
			}
		}
		if status, _, again := p.do("GET", at, "", "If-None-Match", `"other"`); status != 200 || again != first {
			t.Errorf("%s, who has another one: %d %q", at, status, again)
		}
	}
	_, h, _ := p.do("GET", "/v1/volumes", "")
	if _, err := b.CreateVolume(context.Background(), httpapi.NewVolume{Name: "new", Blocks: 8, Durability: cluster.OnFlush}); err != nil {
		t.Fatal(err)
	}
	b.look(t)
	if status, now, body := p.do("GET", "/v1/volumes", "", "If-None-Match", h.Get("ETag")); status != 200 || now.Get("ETag") == h.Get("ETag") || !strings.Contains(body, `"new"`) {
		t.Errorf("after a change: %d %s", status, body)
	}
	if status, h, _ := p.do("GET", "/v1/volumes/none", ""); status != 404 || h.Get("ETag") != "" {
		t.Errorf("what is not there: %d, ETag %s", status, h.Get("ETag"))
	}
}

func TestAChangeNamesWhatItWasDecidedOn(t *testing.T) {
	ctx := context.Background()
	c, socket := serve(t, apitest.Three())
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "deb", Size: -1}, strings.NewReader("disk")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVM(ctx, v1.VMSpec{Name: "db1", Image: "deb"}); err != nil {
		t.Fatal(err)
	}
	p := newPlain(t, socket)
	_, h, _ := p.do("GET", "/v1/vms/db1", "")
	first := h.Get("ETag")
	status, _, body := p.do("PATCH", "/v1/vms/db1", `{"cpus":2}`, "If-Match", first)
	if status != 200 {
		t.Fatalf("on what it is: %d %s", status, body)
	}
	for _, deed := range [][3]string{{"PATCH", "/v1/vms/db1", `{"cpus":3}`}, {"POST", "/v1/vms/db1/stop", `{}`}, {"DELETE", "/v1/vms/db1", ""}} {
		status, h, body := p.do(deed[0], deed[1], deed[2], "If-Match", first)
		if status != 412 || h.Get("ETag") == first || !strings.Contains(body, "urn:holdfast:problem:changed") ||
			!strings.Contains(body, `{"where":"cpus","what":"it was 1, and is 2"}`) {
			t.Errorf("%v on what it was: %d %s", deed, status, body)
		}
	}
	if vm, err := c.VM(ctx, "db1"); err != nil || vm.CPUs != 2 || vm.Power != "on" {
		t.Errorf("it was changed all the same: %+v, %v", vm, err)
	}
	if status, _, body := p.do("PATCH", "/v1/vms/db1", `{"cpus":3}`, "If-Match", `"never told"`); status != 412 || strings.Contains(body, "errors") {
		t.Errorf("on what nobody knows: %d %s", status, body)
	}
	if status, _, _ := p.do("PATCH", "/v1/vms/db2", `{"cpus":3}`, "If-Match", first); status != 404 {
		t.Errorf("of what is not there: %d", status)
	}
	_, h, _ = p.do("GET", "/v1/vms/db1", "")
	if status, _, body := p.do("POST", "/v1/vms/db1/stop", `{}`, "If-Match", h.Get("ETag")); status != 200 {
		t.Errorf("on what it is now: %d %s", status, body)
	}
	if k := v1.KindOfType(v1.Changed("x").Type); k != holdfast.Conflict {
		t.Errorf("to a client it is %v", k)
	}
}

// listed is a server with 60 VMs on 3 hosts.
func listed(b *testing.B) (*plain, *steady) {
	back := &steady{Backend: apitest.Three()}
	ctx := context.Background()
	for i := range 60 {
		v, err := back.CreateVolume(ctx, httpapi.NewVolume{Name: fmt.Sprintf("boot%d", i), Blocks: 8, Durability: cluster.OnFlush})
		if err == nil {
			_, err = back.CreateVM(ctx, httpapi.NewVM{Name: fmt.Sprintf("vm%d", i), Volume: v.ID, CPUs: 1, MemoryMiB: 256, Power: cluster.On})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	back.look(b)
	path := filepath.Join(b.TempDir(), "s")
	s := httpapi.New(httpapi.Options{Backend: back, Version: "test"})
	if err := s.ServeUnix(path); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(ctx) })
	return newPlain(b, path), back
}

func BenchmarkListOf60VMs(b *testing.B) {
	p, _ := listed(b)
	for b.Loop() {
		if status, _, _ := p.do("GET", "/v1/vms", ""); status != 200 {
			b.Fatal(status)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// The picture is another one for every call: all is rendered anew.
func BenchmarkListOf60VMsThatChange(b *testing.B) {
	p, back := listed(b)
	for b.Loop() {
		st := *back.st.Load()
		back.st.Store(&st)
		if status, _, _ := p.do("GET", "/v1/vms", ""); status != 200 {
			b.Fatal(status)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func BenchmarkListOf60VMsWithETag(b *testing.B) {
	p, _ := listed(b)
	_, h, _ := p.do("GET", "/v1/vms", "")
	for b.Loop() {
		if status, _, _ := p.do("GET", "/v1/vms", "", "If-None-Match", h.Get("ETag")); status != 304 {
			b.Fatal(status)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
