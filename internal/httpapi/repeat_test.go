package httpapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/once"
)

// fakeWall is the time that the fake backend lives in.
type fakeWall struct{ clock.System }

func (fakeWall) Wall() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// idOf is the identity in an answer.
func idOf(answer string) string {
	var is struct{ ID string }
	if json.Unmarshal([]byte(answer), &is) != nil {
		return answer
	}
	return is.ID
}

// twoHosts are two servers of one cluster.
func twoHosts(t *testing.T) (a, b *plain, log *once.Log) {
	back := apitest.Three()
	srv := memkv.NewServer(memkv.Config{Clock: clock.System{}, Rand: func(string) *mrand.Rand { return mrand.New(mrand.NewPCG(1, 2)) }, MaxLatency: 1})
	log = &once.Log{KV: srv.Handle("a", clock.System{}), Clock: fakeWall{}}
	var hosts []*plain
	for range 2 {
		path := filepath.Join(t.TempDir(), "s")
		s := httpapi.New(httpapi.Options{Backend: back, Version: "test", Once: func() (*once.Log, error) { return log, nil }})
		if err := s.ServeUnix(path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		hosts = append(hosts, newPlain(t, path))
	}
	return hosts[0], hosts[1], log
}

func TestARequestWithAKeyIsDoneOnce(t *testing.T) {
	a, b, _ := twoHosts(t)
	const body = `{"name":"data","size":1048576}`
	status, h, first := a.do("POST", "/v1/volumes", body, "Idempotency-Key", "k1")
	if status != 201 || h.Get("Idempotency-Replayed") != "" {
		t.Fatalf("first: %d %s", status, first)
	}
	for _, host := range []*plain{a, b} {
		status, h, again := host.do("POST", "/v1/volumes", body, "Idempotency-Key", "k1")
		if status != 201 || h.Get("Idempotency-Replayed") != "true" || idOf(again) != idOf(first) {
			t.Errorf("again: %d %s", status, again)
		}
		status, _, refused := host.do("POST", "/v1/volumes", `{"name":"other","size":1048576}`, "Idempotency-Key", "k1")
		if status != 422 || !strings.Contains(refused, "header.Idempotency-Key") {
			t.Errorf("another request: %d %s", status, refused)
		}
	}
	// What was refused is not remembered: it may be put right.
	if status, _, _ := b.do("POST", "/v1/volumes", body, "Idempotency-Key", "k2"); status != 409 {
		t.Errorf("without the first key: %d", status)
	}
	if status, _, said := b.do("POST", "/v1/volumes", `{"name":"two","size":1048576}`, "Idempotency-Key", "k2"); status != 201 {
		t.Errorf("put right: %d %s", status, said)
	}
	// A snapshot is made below its volume, and what is gone is not made anew.
	const snap = `{"name":"monday"}`
	at := "/v1/volumes/data/snapshots"
	_, _, one := a.do("POST", at, snap, "Idempotency-Key", "k3")
	if status, _, again := b.do("POST", at, snap, "Idempotency-Key", "k3"); status != 201 || idOf(again) != idOf(one) {
		t.Errorf("a snapshot: %d %s, not %s", status, again, one)
	}
	if status, _, _ := a.do("DELETE", at+"/monday", ""); status != 204 {
		t.Fatal(status)
	}
	if status, _, said := b.do("POST", at, snap, "Idempotency-Key", "k3"); status != 409 || !strings.Contains(said, "cannot be read any more") {
		t.Errorf("a snapshot that was deleted: %d %s", status, said)
	}
	for _, c := range []struct{ method, path, key string }{
		{"POST", "/v1/volumes", ""}, {"POST", "/v1/volumes", "a b"}, {"POST", "/v1/volumes", strings.Repeat("x", 129)},
		{"POST", "/v1/volumes/data/grow", "k"}, {"DELETE", "/v1/volumes/data", "k"},
	} {
		if status, _, said := a.do(c.method, c.path, `{}`, "Idempotency-Key", c.key); status != 422 || !strings.Contains(said, "header.Idempotency-Key") {
			t.Errorf("%+v: %d %s", c, status, said)
		}
	}
}

// The host that was asked made it and was lost before it could say so.
func TestWhatALostHostMadeIsNotMadeAgain(t *testing.T) {
	a, b, log := twoHosts(t)
	const body = `{"name":"data","size":1048576}`
	h := sha256.New()
	fmt.Fprintf(h, "POST /v1/volumes %d\n%s", len(body), body)
	c, _, err := log.Begin("socket ", "k", [sha256.Size]byte(h.Sum(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if status, _, said := b.do("POST", "/v1/volumes", body, "Idempotency-Key", "k"); status != 409 || !strings.Contains(said, "under way") {
		t.Errorf("while it is under way: %d %s", status, said)
	}
	status, _, first := a.do("POST", "/v1/volumes", body)
	c.Abandon()
	if status != 201 {
		t.Fatal(first)
	}
	for range 2 {
		status, h, said := b.do("POST", "/v1/volumes", body, "Idempotency-Key", "k")
		if status != 201 || h.Get("Idempotency-Replayed") != "true" || idOf(said) != idOf(first) {
			t.Errorf("at the other host: %d %s", status, said)
		}
	}
}

// A task that was begun is told of again, and not begun twice.
func TestATaskIsBegunOnce(t *testing.T) {
	web, begun := hanging(t)
	h := newLongHost(t, web)
	body := fmt.Sprintf(`{"name":"deb","url":%q}`, web.URL)
	p := newPlain(t, h.socket)
	status, head, first := p.do("POST", "/v1/image-imports", body, "Idempotency-Key", "k1")
	if status != 202 || head.Get("Location") != "/v1/tasks/"+idOf(first) {
		t.Fatalf("%d %v %s", status, head, first)
	}
	<-begun
	status, head, again := p.do("POST", "/v1/image-imports", body, "Idempotency-Key", "k1")
	if status != 202 || head.Get("Idempotency-Replayed") != "true" || idOf(again) != idOf(first) {
		t.Errorf("again: %d %s", status, again)
	}
	if all := h.long.All(); len(all) != 1 {
		t.Errorf("%d tasks", len(all))
	}
}

// The Go client finds out what came of a request whose answer was lost on the way.
func TestALostAnswerIsAskedForAgain(t *testing.T) {
	h := newLongHost(t, nil)
	path := filepath.Join(t.TempDir(), "p")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	defer served.Wait()
	defer l.Close()
	answers := 0
	served.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", h.socket)
			if err != nil {
				t.Error(err)
				in.Close()
				return
			}
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			first := make([]byte, 1)
			_, err = out.Read(first) // it was done, and is answered
			if answers++; answers > 1 && err == nil {
				_, _ = in.Write(first)
				_, _ = io.Copy(in, out)
			}
			in.Close()
			out.Close()
		}
	})
	c := client.Socket(path)
	v, err := c.CreateVolume(t.Context(), v1.VolumeSpec{Name: "data", Size: 1 << 20})
	c.Close()
	if err != nil || v.Name != "data" {
		t.Errorf("%+v, %v", v, err)
	}
	if all, err := h.c.Volumes(t.Context()); err != nil || len(all) != 1 || all[0].ID != v.ID {
		t.Errorf("%+v, %v", all, err)
	}
}
