package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/once"
)

// A request that makes something may have a key of its caller's, Idempotency-Key.
// Sent again it is not done again: the answer is what it made, as that is now.

const (
	keyHeader = "Idempotency-Key"
	maxKey    = 128
	// clockSpare is by how much the clocks of two hosts may differ when it is told
	// whether a thing was there before a request came.
	clockSpare = time.Minute
)

// repeats sees to keys.
func (s *Server) repeats(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values(keyHeader)) == 0 || r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		c, was, err := s.claim(w, r)
		switch {
		case err != nil:
			if holdfast.IsKind(err, holdfast.Busy) { // the same request is under way
				w.Header().Set("Retry-After", "1")
			}
			writeProblem(w, err)
		case was != nil:
			s.replay(w, r, was)
		default:
			s.once(w, r, next, c)
		}
	})
}

// claim checks the key of a request and claims it.
func (s *Server) claim(w http.ResponseWriter, r *http.Request) (*once.Claim, *once.Record, error) {
	keys := r.Header.Values(keyHeader)
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, nil, mistake("header."+keyHeader, fmt.Sprintf("one key of 1 to %d printable characters without spaces is expected, a UUID for example", maxKey))
	}
	rc := chi.NewRouteContext()
	if s.router.Match(rc, r.Method, r.URL.EscapedPath()) {
		if op := s.described(r.Method, rc.RoutePattern()); op == nil || op.DefaultStatus != http.StatusCreated && op.DefaultStatus != http.StatusAccepted {
			return nil, nil, mistake("header."+keyHeader, "only what makes something takes a key; other calls may be repeated, or take If-Match")
		}
	}
	if s.o.Once == nil {
		return nil, nil, noKeys(holdfast.Errorf(holdfast.Unavailable, "this host remembers no keys; send the request without one"))
	}
	log, err := s.o.Once()
	if err != nil {
		return nil, nil, err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // where it cannot be set, the connection's own holds
	first, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, nil, holdfast.Errorf(holdfast.Invalid, "the body did not come: %w", err)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	rest := r.Body
	r.Body = &reread{io.MultiReader(bytes.NewReader(first), rest), rest, first}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %d\n", r.Method, r.URL.RequestURI(), r.ContentLength)
	h.Write(first) // of what is longer, an image say, the beginning and the length must do
	whose := ""
	if who := principal(r.Context()); who != nil {
		whose = who.Kind + " " + who.Name
	}
	c, was, err := log.Begin(whose, key, [sha256.Size]byte(h.Sum(nil)))
	switch holdfast.KindOf(err) {
	case holdfast.Invalid:
		err = mistake("header."+keyHeader, err.Error())
	case holdfast.NoSpace:
		err = noKeys(err)
	}
	return c, was, err
}

// noKeys says that it is the key that is not taken, and not what is asked for.
func noKeys(err error) error {
	p := v1.NewProblem(err)
	p.Errors = []v1.Mistake{{Where: "header." + keyHeader, What: p.Detail}}
	p.Detail = "the key is not taken"
	return p
}

// once does a request that was claimed, and notes what came of it.
func (s *Server) once(w http.ResponseWriter, r *http.Request, next http.Handler, c *once.Claim) {
	got := &gathered{ResponseWriter: w}
	ended := false
	defer func() {
		if !ended { // a panic
			c.Abandon()
		}
	}()
	next.ServeHTTP(got, r)
	ended = true
	switch {
	case got.status < 300:
		where := w.Header().Get("Location")
		if where == "" {
			where = s.madeAt(r, got.body.Bytes())
		}
		s.finish(c, got.status, where)
	case got.status >= 500:
		c.Abandon()
	case c.Again && got.status == http.StatusConflict:
		if t, where := s.madeBefore(r, c.At); t != nil { // by the one who was lost
			s.finish(c, http.StatusCreated, where)
			w.Header().Set("Idempotency-Replayed", "true")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(t.body)
			return
		}
		c.Abandon()
	default:
		c.Release()
	}
	w.WriteHeader(got.status)
	_, _ = w.Write(got.body.Bytes()) // the client may be gone, which is its own affair
}

func (s *Server) finish(c *once.Claim, status int, where string) {
	if err := c.Finish(status, where); err != nil {
		s.o.Log.Warn("that a request is done could not be noted; sent again, it is tried again", "error", err)
	}
}

// replay answers a request that was done before.
func (s *Server) replay(w http.ResponseWriter, r *http.Request, was *once.Record) {
	if was.Where == "" {
		writeProblem(w, holdfast.Errorf(holdfast.Conflict, "this was done at %s, and its answer is not kept", was.At.Format(time.RFC3339)))
		return
	}
	t, status := s.ask(r, was.Where)
	if t == nil {
		writeProblem(w, holdfast.Errorf(holdfast.Conflict, "this was done at %s; what it made (%s) cannot be read any more (%d)", was.At.Format(time.RFC3339), was.Where, status))
		return
	}
	h := w.Header()
	h.Set("Idempotency-Replayed", "true")
	h.Set("Content-Type", "application/json")
	w.WriteHeader(was.Status)
	_, _ = w.Write(t.body)
}

// madeAt is where that can be read which an answer says was made: below the path of
// the request, or beside what that is about. "": nowhere.
func (s *Server) madeAt(r *http.Request, answer []byte) string {
	var made struct{ ID, Name string }
	if json.Unmarshal(answer, &made) != nil {
		return ""
	}
	for _, ref := range []string{made.ID, made.Name} {
		for p := r.URL.EscapedPath(); ref != "" && len(p) > len("/v1/"); p = p[:max(0, strings.LastIndexByte(p, '/'))] {
			at := p + "/" + url.PathEscape(ref)
			if found, ok := s.objectOf(at); ok && found == at {
				if t, _ := s.ask(r, at); t != nil {
					return at
				}
			}
		}
	}
	return ""
}

// madeBefore finds what a request makes that has its name and was made since.
func (s *Server) madeBefore(r *http.Request, since time.Time) (*tagged, string) {
	body, ok := r.Body.(*reread)
	var ask struct{ Name string }
	if !ok || json.Unmarshal(body.first, &ask) != nil || ask.Name == "" {
		return nil, ""
	}
	at := r.URL.EscapedPath() + "/" + url.PathEscape(ask.Name)
	t, _ := s.ask(r, at)
	var is struct {
		ID      string
		Created time.Time
	}
	if t == nil || json.Unmarshal(t.body, &is) != nil || is.ID == "" || is.Created.Before(since.Add(-clockSpare)) {
		return nil, ""
	}
	return t, r.URL.EscapedPath() + "/" + is.ID
}

// reread is a body whose beginning was read before.
type reread struct {
	io.Reader
	io.Closer
	first []byte
}

// gathered is an answer that waits until what came of the request is noted.
type gathered struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (g *gathered) WriteHeader(status int) {
	if g.status == 0 {
		g.status = status
	}
}

// Write implements http.ResponseWriter.
func (g *gathered) Write(p []byte) (int, error) {
	g.WriteHeader(http.StatusOK)
	if g.body.Len()+len(p) > maxWhole {
		return 0, errors.New("the answer is too long")
	}
	return g.body.Write(p)
}

// Unwrap is for http.ResponseController.
func (g *gathered) Unwrap() http.ResponseWriter { return g.ResponseWriter }
