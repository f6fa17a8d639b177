package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Every JSON answer to a GET carries the hash of its body as its ETag, and is not
// sent again to who has it. What is rendered from nothing but the picture is kept
// as long as that is the same one, so that it is rendered once.
const (
	maxKept  = 8 << 20  // bytes of answers that are kept, and of objects that were told
	maxWhole = 16 << 20 // of an answer that gets a tag; a longer one goes out as it comes
	maxTold  = 64 << 10 // of an object that is remembered for who changes it
)

// answers are those of one picture, and the objects that were told of late. It may
// be used from any goroutine.
type answers struct {
	mu   sync.Mutex
	of   *cluster.State
	kept map[string]*tagged // by path and query
	size int

	told  map[string]*tagged // objects, by tag
	order []string           // of told, the oldest first
	bytes int
}

// tagged is the body of an answer and its ETag.
type tagged struct {
	tag     string
	body    []byte
	pattern string // the route, for metrics
	link    string // to the next page
}

func tagOf(body []byte) string {
	h := sha256.Sum256(body)
	return `"` + hex.EncodeToString(h[:16]) + `"`
}

// find returns what was answered by a picture, or nil.
func (a *answers) find(st *cluster.State, key string) *tagged {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of != st {
		return nil
	}
	return a.kept[key]
}

// keep notes what was answered by a picture.
func (a *answers) keep(st *cluster.State, key string, t *tagged) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(key) + len(t.body)
	if a.of != st || a.size+n > maxKept {
		a.of, a.kept, a.size = st, map[string]*tagged{}, 0
	}
	if a.kept[key] == nil && n <= maxKept {
		a.kept[key] = t
		a.size += n
	}
}

// tell notes an object that somebody may want to change.
func (a *answers) tell(t *tagged) {
	if len(t.body) > maxTold || len(t.body) == 0 || t.body[0] != '{' {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told[t.tag] != nil {
		return
	}
	if a.told == nil {
		a.told = map[string]*tagged{}
	}
	a.told[t.tag] = t
	a.order = append(a.order, t.tag)
	for a.bytes += len(t.body); a.bytes > maxKept; a.order = a.order[1:] {
		a.bytes -= len(a.told[a.order[0]].body)
		delete(a.told, a.order[0])
	}
}

// was is the object that had a tag, nil if it is not known any more.
func (a *answers) was(tag string) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.told[tag]; t != nil {
		return t.body
	}
	return nil
}

// tags gives answers their tags.
func (s *Server) tags(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Header.Get("Upgrade") != "" {
			s.ifMatch(w, r, next)
			return
		}
		key := r.URL.RequestURI()
		if who := principal(r.Context()); who != nil { // should there be answers that differ by that
			key += fmt.Sprintf(" %s %s", who.Role, who.Project)
		}
		if st, err := s.o.Backend.State(r.Context()); err == nil {
			if t := s.answers.find(st, key); t != nil {
				route := chi.RouteContext(r.Context())
				route.RoutePatterns = append(route.RoutePatterns, t.pattern)
				t.answer(w, r)
				return
			}
		}
		h := &held{ResponseWriter: w}
		next.ServeHTTP(h, r.WithContext(context.WithValue(r.Context(), heldKey{}, h)))
		if !h.holds {
			return
		}
		t := &tagged{tagOf(h.body.Bytes()), h.body.Bytes(), chi.RouteContext(r.Context()).RoutePattern(), h.Header().Get("Link")}
		if h.of != nil {
			s.answers.keep(h.of, key, t)
		}
		s.answers.tell(t)
		t.answer(w, r)
	})
}

// answer sends the body, unless the client has it.
func (t *tagged) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", t.tag)
	h.Set("Cache-Control", "private, no-cache")
	if t.link != "" {
		h.Set("Link", t.link)
	}
	if among(r.Header.Values("If-None-Match"), t.tag) {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	_, _ = w.Write(t.body) // the client may be gone, which is its own affair
}

// among reports whether a tag is in the lists of a header (RFC 9110, 13.1); what
// is weak counts as strong, for nothing here is told weakly.
func among(lists []string, tag string) bool {
	for _, list := range lists {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

// held is an answer that is held back until all of it is there, if it is JSON.
type held struct {
	http.ResponseWriter
	begun, holds bool
	status       int
	body         bytes.Buffer
	of           *cluster.State // it is rendered from this and nothing else
}

type heldKey struct{}

// pure notes that the answer to a request is rendered from a picture alone.
func pure(ctx context.Context, st *cluster.State) {
	if h, ok := ctx.Value(heldKey{}).(*held); ok && projectOf(ctx) == "" { // a project's is made for the request
		h.of = st
	}
}

// WriteHeader implements http.ResponseWriter.
func (h *held) WriteHeader(status int) {
	if h.begun {
		return
	}
	h.begun, h.status = true, status
	h.holds = status == http.StatusOK && h.Header().Get("Content-Type") == "application/json"
	if !h.holds {
		h.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (h *held) Write(p []byte) (int, error) {
	if !h.begun {
		h.WriteHeader(http.StatusOK)
	}
	if !h.holds {
		return h.ResponseWriter.Write(p)
	}
	if h.body.Len()+len(p) > maxWhole {
		h.holds = false
		h.ResponseWriter.WriteHeader(http.StatusOK)
		if _, err := h.ResponseWriter.Write(h.body.Bytes()); err != nil {
			return 0, err
		}
		return h.ResponseWriter.Write(p)
	}
	return h.body.Write(p)
}

// Unwrap is for http.ResponseController.
func (h *held) Unwrap() http.ResponseWriter { return h.ResponseWriter }
