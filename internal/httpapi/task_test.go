package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"io"
	"log"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/image/fetch"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/once"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

// longHost serves a backend with tasks; web is a server that it may fetch from.
type longHost struct {
	*testing.T
	b    *apitest.Backend
	c    *client.Client
	long *task.Store
	end  func()

	socket string
}

func newLongHost(t *testing.T, web *httptest.Server) *longHost {
	t.Helper()
	h := &longHost{T: t, b: apitest.Three()}
	h.b.Me.DataDir = t.TempDir()
	srv := memkv.NewServer(memkv.Config{Clock: clock.System{}, Rand: func(string) *mrand.Rand { return mrand.New(mrand.NewPCG(1, 2)) }, MaxLatency: 1})
	h.long = task.Open(task.Config{KV: srv.Handle("a", clock.System{}), Clock: clock.System{}, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), Host: h.b.Me.ID})
	o := httpapi.Options{Backend: h.b, Version: "test", Tasks: func() (*task.Store, error) { return h.long, nil },
		Once: func() (*once.Log, error) {
			return &once.Log{KV: srv.Handle("b", clock.System{}), Clock: clock.System{}}, nil
		}}
	if web != nil {
		o.Fetch = fetch.Policy{Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Roots: x509.NewCertPool()}
		o.Fetch.Roots.AddCert(web.Certificate())
	}
	s := httpapi.New(o)
	path := filepath.Join(t.TempDir(), "s")
	if err := s.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	h.c, h.socket = client.Socket(path), path
	over := false
	h.end = func() {
		if !over {
			over = true
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.Close(ctx)
		}
	}
	t.Cleanup(func() {
		h.end()
		h.c.Close()
		h.long.Close()
	})
	return h
}

// over waits for the end of a task.
func (h *longHost) over(id string) v1.Task {
	h.Helper()
	t, err := h.c.WaitTask(h.Context(), id, time.Second, nil)
	if err != nil {
		h.Fatal(err)
	}
	return t
}

func webOf(t *testing.T, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestAHostFetchesAnImage(t *testing.T) {
	disk := bytes.Repeat([]byte("a disk "), 9000)
	sum := sha256.Sum256(disk)
	web := webOf(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(disk) })
	h := newLongHost(t, web)
	is, err := h.c.FetchImage(t.Context(), v1.ImageFetch{Name: "debian", URL: web.URL + "/d.raw?secret=1", SHA256: strings.ToUpper(hex.EncodeToString(sum[:]))})
	if err != nil || is.Kind != "import" || is.Subject != "debian" || is.Who != "socket" || is.Host != "alpha" || is.Started == nil || strings.Contains(is.Detail, "secret") {
		t.Fatalf("%+v, %v", is, err)
	}
	end := h.over(is.ID)
	if end.State != "done" || end.Progress != 1 || end.Done != int64(len(disk)) || end.Ended == nil || end.Error != "" || len(end.Log) < 2 || end.Cancel {
		t.Errorf("%+v", end)
	}
	v, err := h.c.Image(t.Context(), "debian")
	if err != nil || v.State != "ok" {
		t.Fatalf("%+v, %v", v, err)
	}
	id, err := holdfast.ParseUUID(v.ID)
	if err != nil || !bytes.Equal(h.b.Content[holdfast.VolumeID{UUID: id}], disk) {
		t.Errorf("another disk: %v", err)
	}
	all, err := h.c.Tasks(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != is.ID || all[0].Log != nil {
		t.Errorf("the list: %+v, %v", all, err)
	}
	if err := h.c.CancelTask(t.Context(), is.ID); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("canceled though it is over: %v", err)
	}
	if _, err := h.c.FetchImage(t.Context(), v1.ImageFetch{Name: "debian", URL: web.URL}); !holdfast.IsKind(err, holdfast.Exists) {
		t.Errorf("again: %v", err)
	}
}

// What is refused leaves nothing behind, and nobody is asked.
func TestAHostIsNotSentAround(t *testing.T) {
	var asked atomic.Int32
	web := webOf(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	h := newLongHost(t, nil) // nothing is allowed
	_, port, _ := strings.Cut(strings.TrimPrefix(web.URL, "https://"), ":")
	for _, in := range []v1.ImageFetch{
		{Name: "x", URL: web.URL}, {Name: "x", URL: "https://[::1]:" + port}, {Name: "x", URL: "https://[::ffff:127.0.0.1]:" + port}, {Name: "x", URL: "https://2130706433:" + port},
		{Name: "x", URL: "https://0177.0.0.1:" + port}, {Name: "x", URL: "https://169.254.169.254/latest"}, {Name: "x", URL: "http://example.org"}, {Name: "x", URL: "file:///etc/shadow"}, {Name: "x", URL: ""},
		{Name: "../x", URL: "https://example.org"}, {Name: "x", URL: "https://example.org", SHA256: "12"}, {Name: "x", URL: "https://example.org", Copies: 9}, {Name: "x", URL: "https://example.org", Pool: "none"},
	} {
		if is, err := h.c.FetchImage(t.Context(), in); err == nil {
			t.Errorf("%+v was begun: %+v", in, is)
		} else if k := holdfast.KindOf(err); k != holdfast.Denied && k != holdfast.Invalid && k != holdfast.NotFound {
			t.Errorf("%+v: %v", in, err)
		}
	}
	// A name is judged when it is dialled: then the task says so.
	is, err := h.c.FetchImage(t.Context(), v1.ImageFetch{Name: "x", URL: "https://localhost:" + port})
	if err != nil {
		t.Fatal(err)
	}
	if end := h.over(is.ID); end.State != "failed" || !strings.Contains(end.Error, "loopback") {
		t.Errorf("a name that leads inside: %+v", end)
	}
	if asked.Load() != 0 {
		t.Error("a server inside was asked")
	}
	if all, err := h.c.Images(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("left behind: %+v, %v", all, err)
	}
}

func TestFetchesThatFail(t *testing.T) {
	endless := func(w http.ResponseWriter) {
		for b := make([]byte, 1<<16); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}
	web := webOf(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/inside":
			http.Redirect(w, r, "https://169.254.169.254/latest/meta-data", http.StatusFound)
		case "/endless":
			endless(w)
		case "/packed":
			_, _ = w.Write([]byte{0x1f, 0x8b, 8, 0, 1, 2, 3})
		case "/page":
			_, _ = io.WriteString(w, "<!doctype html><title>Please log in</title>")
		case "/empty":
		case "/disk":
			_, _ = io.WriteString(w, "disk")
		default:
			http.NotFound(w, r)
		}
	})
	h := newLongHost(t, web)
	for path, says := range map[string]string{"/inside": "link-local", "/endless": "too large", "/packed": "gzip", "/page": "web page", "/empty": "empty", "/none": "404", "/disk": "SHA-256"} {
		in := v1.ImageFetch{Name: "x", URL: web.URL + path, MaxSize: 1 << 20}
		if path == "/disk" {
			in.SHA256 = strings.Repeat("0", 64)
		}
		is, err := h.c.FetchImage(t.Context(), in)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if end := h.over(is.ID); end.State != "failed" || !strings.Contains(end.Error, says) {
			t.Errorf("%s: %+v", path, end)
		}
	}
	if all, err := h.c.Images(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("left behind: %+v, %v", all, err)
	}
}

// hanging is a server that begins to send, and then waits.
func hanging(t *testing.T) (web *httptest.Server, begun chan struct{}) {
	over := make(chan struct{})
	begun = make(chan struct{}, 16)
	web = webOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 1000))
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		<-over
	})
	t.Cleanup(func() { close(over) }) // before the server waits for its handlers
	return web, begun
}

func TestATaskIsCanceled(t *testing.T) {
	web, begun := hanging(t)
	h := newLongHost(t, web)
	is, err := h.c.FetchImage(t.Context(), v1.ImageFetch{Name: "x", URL: web.URL})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	if now, err := h.c.Task(t.Context(), is.ID); err != nil || now.State != "running" || !now.Cancel {
		t.Errorf("%+v, %v", now, err)
	}
	if err := h.c.CancelTask(t.Context(), is.ID); err != nil {
		t.Fatal(err)
	}
	if end := h.over(is.ID); end.State != "canceled" || end.Error != "canceled by socket" {
		t.Errorf("%+v", end)
	}
	for _, id := range []string{"00000000", "..", "x y", strings.Repeat("a", 32)} {
		if err := h.c.CancelTask(t.Context(), id); !holdfast.IsKind(err, holdfast.NotFound) {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := h.c.Task(t.Context(), id); !holdfast.IsKind(err, holdfast.NotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// An upload is a task, too, and ends when it is canceled though its client waits.
func TestAnUploadIsCanceled(t *testing.T) {
	h := newLongHost(t, nil)
	r, w := io.Pipe()
	defer w.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := h.c.ImportImage(h.Context(), client.NewImage{Name: "slow", Size: -1}, r)
		failed <- err
	}()
	if _, err := w.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	all := h.long.All()
	for ; len(all) == 0; all = h.long.All() {
		h.long.AwaitChange(t.Context(), h.long.Rev(), time.Second)
	}
	if len(all) != 1 || all[0].Kind != "import" || all[0].Subject != "slow" {
		t.Fatalf("%+v", all)
	}
	if err := h.c.CancelTask(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	if end := h.over(all[0].ID); end.State != "canceled" {
		t.Errorf("%+v", end)
	}
	w.Close()
	if err := <-failed; err == nil {
		t.Error("the upload was not ended")
	}
}

// What a host was at when it ended was interrupted, and only so many are begun.
func TestAHostThatEndsInterruptsItsTasks(t *testing.T) {
	web, begun := hanging(t)
	h := newLongHost(t, web)
	var ids []string
	for _, name := range []string{"a", "b", "c", "d"} {
		is, err := h.c.FetchImage(t.Context(), v1.ImageFetch{Name: name, URL: web.URL})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, is.ID)
		<-begun
	}
	if _, err := h.c.FetchImage(t.Context(), v1.ImageFetch{Name: "e", URL: web.URL}); !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("one more: %v", err)
	}
	h.end()
	for _, id := range ids {
		if end, ok := h.long.Find(id); !ok || end.State != task.Interrupted {
			t.Errorf("%+v", end)
		}
	}
}

// What the cluster does as a whole is noted when somebody asks for it, and the host
// that leads says how far it is.
func TestADrainIsATask(t *testing.T) {
	h := newLongHost(t, nil)
	ctx := t.Context()
	if _, err := h.c.Drain(ctx, "beta", v1.DrainSpec{On: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.c.Evacuate(ctx, "gamma:/dev/vdb", v1.EvacuationSpec{On: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.c.CreateVolume(ctx, v1.VolumeSpec{Name: "data", Size: 1 << 20, Copies: 2}); err != nil {
		t.Fatal(err)
	}
	find := func(kind string) v1.Task {
		t.Helper()
		all, err := h.c.Tasks(ctx)
		i := slices.IndexFunc(all, func(t v1.Task) bool { return t.Kind == kind })
		if err != nil || i < 0 {
			t.Fatalf("no %s: %+v, %v", kind, all, err)
		}
		return all[i]
	}
	if d := h.over(find("drain").ID); d.State != "done" || d.Subject != "beta" || d.Host != "" || d.Who != "socket" || d.Progress != 1 {
		t.Errorf("%+v", d)
	}
	// Asked for again it is another one; taken back, that is canceled.
	if _, err := h.c.Evacuate(ctx, "alpha:/dev/vdb", v1.EvacuationSpec{On: true}); err != nil { // a copy stands on it
		t.Fatal(err)
	}
	e := find("evacuation")
	if e.Subject != "alpha:/dev/vdb" || e.State != "running" || !e.Cancel {
		t.Errorf("%+v", e)
	}
	if err := h.c.CancelTask(ctx, e.ID); err != nil {
		t.Fatal(err)
	}
	if now, err := h.c.Task(ctx, e.ID); err != nil || now.State != "canceled" || now.Error != "canceled by socket" {
		t.Errorf("%+v, %v", now, err)
	}
	if d, err := h.c.EvacuationPlan(ctx, "alpha:/dev/vdb"); err != nil || d.Evacuating {
		t.Errorf("it goes on: %+v, %v", d, err)
	}
	// The watch stream tells of them.
	enough := io.EOF
	told := 0
	err := h.c.Watch(ctx, "", func(x v1.Event) error {
		if x.Kind == "task" && x.Task != nil && x.Task.ID == x.ID {
			told++
		}
		if x.Kind == "ready" {
			return enough
		}
		return nil
	})
	if err != enough || told != 3 {
		t.Errorf("%d told of, %v", told, err)
	}
}

// Who waits for a task does not keep a host from ending, and waits no longer than asked.
func TestWaitingForATask(t *testing.T) {
	web, begun := hanging(t)
	h := newLongHost(t, web)
	is, err := h.c.FetchImage(t.Context(), v1.ImageFetch{Name: "x", URL: web.URL})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	if now, err := h.c.AwaitTask(t.Context(), is.ID, time.Second); err != nil || now.State != "running" {
		t.Errorf("%+v, %v", now, err)
	}
	if _, err := h.c.AwaitTask(t.Context(), is.ID, 61*time.Second); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("for too long: %v", err)
	}
	waits := make(chan struct{})
	go func() {
		_, _ = h.c.AwaitTask(context.Background(), is.ID, time.Minute) // it is told that the task is over, or that the host is gone
		close(waits)
	}()
	h.end()
	<-waits
}
