package client

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// at is a client of a server of a test.
func at(t *testing.T, h http.Handler) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := build(s.URL, "here", nil, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(s.URL, "http://"))
	})
	t.Cleanup(c.Close)
	return c
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	if status >= 300 {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// A connection that is lost before the answer came is no reason to make a thing twice,
// nor to leave it at that.
func TestWhatIsMadeIsMadeOnce(t *testing.T) {
	var n atomic.Int32
	keys := map[string]int{}
	c := at(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var s v1.VolumeSpec
		if json.Unmarshal(body, &s) != nil || s.Name != "data" {
			t.Errorf("asked for %s", body)
		}
		keys[r.Header.Get("Idempotency-Key")]++
		switch n.Add(1) {
		case 1: // done, and the answer is lost
			panic(http.ErrAbortHandler)
		case 2: // another host is asked, and the first may be at it
			w.Header().Set("Retry-After", "1")
			answer(w, 409, v1.NewProblem(holdfast.Errorf(holdfast.Busy, "under way")))
		case 3: // the answer breaks off
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"id":`)
			panic(http.ErrAbortHandler)
		default:
			answer(w, 201, v1.Volume{ID: "1", Name: "data"})
		}
	}))
	v, err := c.CreateVolume(t.Context(), v1.VolumeSpec{Name: "data"})
	if err != nil || v.ID != "1" || n.Load() != 4 {
		t.Errorf("%+v, %v, %d requests", v, err, n.Load())
	}
	if len(keys) != 1 || keys[""] != 0 {
		t.Errorf("under the keys %v", keys)
	}
}

func TestWhatIsRefusedIsNotAskedAgain(t *testing.T) {
	for status, err := range map[int]error{409: holdfast.Errorf(holdfast.Busy, "somebody holds it"), 507: holdfast.Errorf(holdfast.NoSpace, "full"), 503: holdfast.Errorf(holdfast.Unavailable, "no control plane"), 400: holdfast.Errorf(holdfast.Invalid, "no")} {
		var n atomic.Int32
		c := at(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			answer(w, status, v1.NewProblem(err))
		}))
		if _, is := c.CreateVM(t.Context(), v1.VMSpec{Name: "x"}); !holdfast.IsKind(is, holdfast.KindOf(err)) || n.Load() != 1 {
			t.Errorf("%v: %v, %d requests", err, is, n.Load())
		}
	}
	// What was lost before anything was refused is refused then.
	var n atomic.Int32
	c := at(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		answer(w, 409, v1.NewProblem(holdfast.Errorf(holdfast.Exists, "taken")))
	}))
	if _, err := c.CreateVM(t.Context(), v1.VMSpec{Name: "x"}); !holdfast.IsKind(err, holdfast.Exists) || n.Load() != 2 {
		t.Errorf("%v, %d requests", err, n.Load())
	}
}

// A host that remembers no keys makes things all the same; but then what is lost is
// not asked for again.
func TestHostsThatTakeNoKeys(t *testing.T) {
	var keyed, plain atomic.Int32
	c := at(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") != "" {
			keyed.Add(1)
			p := v1.NewProblem(holdfast.Errorf(holdfast.NoSpace, "the key is not taken"))
			p.Errors = []v1.Mistake{{Where: "header.Idempotency-Key", What: "too many"}}
			answer(w, 507, p)
			return
		}
		if plain.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		answer(w, 201, v1.Pool{Name: "fast"})
	}))
	if p, err := c.CreatePool(t.Context(), v1.PoolSpec{Name: "fast"}); err != nil || p.Name != "fast" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := c.CreatePool(t.Context(), v1.PoolSpec{Name: "fast"}); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("lost, without a key: %v", err)
	}
	if keyed.Load() != 2 || plain.Load() != 2 {
		t.Errorf("%d with, %d without", keyed.Load(), plain.Load())
	}
}

// A host that is not there is told of at once, and nobody waits who wants no more.
func TestNobodyWaitsInVain(t *testing.T) {
	c := build("http://here", "here", nil, func(context.Context) (net.Conn, error) {
		return nil, holdfast.Errorf(holdfast.Unavailable, "nobody is there")
	})
	if _, err := c.CreateVolume(t.Context(), v1.VolumeSpec{Name: "x"}); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c = at(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		panic(http.ErrAbortHandler)
	}))
	if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "x"}); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestTagsAreNotedAndNamed(t *testing.T) {
	c := at(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if r.Header.Get("If-Match") != "" {
				t.Error("a question has If-Match")
			}
			w.Header().Set("ETag", `"one"`)
			answer(w, 200, v1.Project{Name: "red"})
			return
		}
		if r.Header.Get("If-Match") != `"one"` {
			answer(w, 412, v1.Changed("it is another one"))
			return
		}
		answer(w, 200, v1.Project{Name: "red"})
	}))
	var tag string
	if _, err := c.Project(WithTag(t.Context(), &tag), "red"); err != nil || tag != `"one"` {
		t.Errorf("%q, %v", tag, err)
	}
	if _, err := c.SetProject(IfMatch(t.Context(), tag), "red", v1.ProjectChange{}); err != nil {
		t.Error(err)
	}
	if _, err := c.SetProject(IfMatch(t.Context(), `"two"`), "red", v1.ProjectChange{}); !holdfast.IsKind(err, holdfast.Conflict) || !IsChanged(err) {
		t.Errorf("of another one: %v", err)
	}
}
