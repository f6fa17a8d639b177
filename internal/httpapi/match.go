package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// A request that changes something may name, with If-Match, the ETag of what it
// was decided on. What is looked at is the object that the path names, or that the
// deed belongs to (POST /v1/vms/db1/stop: /v1/vms/db1). Such requests of one host
// come one after the other; another host may change it in the moment between the
// look and the deed.

// ifMatch lets a request through unless it names what is not so any more.
func (s *Server) ifMatch(w http.ResponseWriter, r *http.Request, next http.Handler) {
	want := r.Header.Values("If-Match")
	if len(want) == 0 {
		next.ServeHTTP(w, r)
		return
	}
	at, ok := s.objectOf(r.URL.EscapedPath())
	if !ok {
		write(w, v1.Changed("If-Match: there is nothing at "+clip(r.URL.Path)+" that could have changed; leave the header out"))
		return
	}
	defer s.matching.lock(at)()
	now, status := s.ask(r, at)
	switch {
	case now == nil && status == http.StatusNotFound: // the deed says so
		next.ServeHTTP(w, r)
		return
	case now == nil:
		write(w, v1.Changed(fmt.Sprintf("nothing was done: whether %s is what it was cannot be seen now (a GET of it is answered with %d)", clip(at), status)))
		return
	case among(want, now.tag):
		next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("ETag", now.tag)
	p := v1.Changed(fmt.Sprintf("%s is not what it was when it was read, and nothing was done; read it again", clip(at)))
	for _, tag := range want {
		if was := s.answers.was(tag); was != nil {
			p.Errors = differences(was, now.body)
		}
	}
	write(w, p)
}

// objectOf is the path of what a request is about: the longest beginning of its
// path that can be read.
func (s *Server) objectOf(p string) (string, bool) {
	for ; len(p) > len("/v1/"); p = p[:max(0, strings.LastIndexByte(p, '/'))] {
		if rc := chi.NewRouteContext(); s.router.Match(rc, http.MethodGet, p) {
			if item := s.api.OpenAPI().Paths[rc.RoutePattern()]; item != nil && item.Get != nil {
				return p, true
			}
		}
	}
	return "", false
}

// ask reads what is at a path, for whoever sent r; nil: it cannot be read, with the
// status that says so.
func (s *Server) ask(r *http.Request, at string) (*tagged, int) {
	ctx := context.WithValue(r.Context(), chi.RouteCtxKey, (*chi.Context)(nil))
	where, err := url.ParseRequestURI(at)
	if err != nil {
		return nil, http.StatusNotFound
	}
	get := r.Clone(ctx) // by the same caller
	get.Method, get.URL, get.RequestURI = http.MethodGet, where, at
	get.Body, get.ContentLength = http.NoBody, 0
	for _, name := range []string{"If-Match", "If-None-Match", "Content-Type", "Content-Length"} {
		get.Header.Del(name)
	}
	h := &held{ResponseWriter: discarded{http.Header{}}}
	s.router.ServeHTTP(h, get)
	if !h.holds {
		return nil, h.status
	}
	return &tagged{tag: tagOf(h.body.Bytes()), body: h.body.Bytes()}, h.status
}

// turns has requests that change one thing come one after the other.
type turns struct {
	mu  sync.Mutex
	all map[string]*turn
}

type turn struct {
	sync.Mutex
	wanted int // by how many; under turns.mu
}

// lock waits for the turn of whoever calls, and returns what ends it.
func (t *turns) lock(what string) (end func()) {
	t.mu.Lock()
	if t.all == nil {
		t.all = map[string]*turn{}
	}
	x := t.all[what]
	if x == nil {
		x = &turn{}
		t.all[what] = x
	}
	x.wanted++
	t.mu.Unlock()
	x.Lock()
	return func() {
		x.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if x.wanted--; x.wanted == 0 {
			delete(t.all, what)
		}
	}
}

// discarded is where an answer goes that nobody sees.
type discarded struct{ h http.Header }

func (d discarded) Header() http.Header         { return d.h }
func (d discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d discarded) WriteHeader(int)             {}

// differences are the fields in which two objects differ.
func differences(was, is []byte) (out []v1.Mistake) {
	var a, b map[string]any
	if json.Unmarshal(was, &a) != nil || json.Unmarshal(is, &b) != nil {
		return nil
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !reflect.DeepEqual(a[name], b[name]) {
			out = append(out, v1.Mistake{Where: name, What: "it was " + shown(a, name) + ", and is " + shown(b, name)})
		}
	}
	return out
}

// shown is a field for people.
func shown(of map[string]any, name string) string {
	v, ok := of[name]
	if !ok {
		return "not there"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return clip(string(b))
}
