package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/alert"
	"github.com/holdfast-cloud/holdfast/internal/audit"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/image/fetch"
	"github.com/holdfast-cloud/holdfast/internal/oidc"
	"github.com/holdfast-cloud/holdfast/internal/once"
	"github.com/holdfast-cloud/holdfast/internal/passkey"
	"github.com/holdfast-cloud/holdfast/internal/task"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
	"github.com/holdfast-cloud/holdfast/internal/ui"
	"github.com/holdfast-cloud/holdfast/internal/web"
)

const (
	maxBody       = 256 << 10        // bytes of a JSON body
	bodyTimeout   = 10 * time.Second // to send one
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxSocketPath = 104 // bytes; sun_path has 108 on Linux, with its final zero
	joinPath      = "/v1/join"
)

// Options are what a Server needs.
type Options struct {
	Backend Backend
	Version string
	Log     *slog.Logger
	// Peer says who showed the certificate of a TLS connection: an administrator or
	// a member host. Its error is shown to the caller.
	Peer func(tls.ConnectionState) (*account.Principal, error)
	// Accounts are those of the cluster; Unavailable while the host is in none.
	Accounts func() (*account.Store, error)
	// Pages are the names by which people open the pages, and what this host shows of
	// them; Unavailable while the host is in no cluster. Nil: it has none.
	Pages func() (*web.Store, *web.Page, error)
	// Audit is the cluster's; Unavailable while the host is in none. Nil: what is
	// done is not recorded.
	Audit func() (*audit.Log, error)
	// Once remembers the keys of requests; Unavailable while the host is in no cluster.
	Once func() (*once.Log, error)
	// Tasks are those of the cluster; Unavailable while the host is in none. Nil: what
	// takes long is not noted, and images are not fetched.
	Tasks func() (*task.Store, error)
	// Trace begins to tell of a call, and end tells what it was; "": of none. Nil:
	// nobody is told.
	Trace func(*http.Request) (with *http.Request, end func(operation string, status int))
	// Alerts are who is told what is wrong; Unavailable while the host is in no
	// cluster. Nil: nobody is.
	Alerts func() (*alert.Store, error)
	// AlertLost says that one of them cannot be reached, as a condition of this host;
	// an empty text takes it back.
	AlertLost func(receiver, text string)
	// Fetch says from where images are fetched.
	Fetch fetch.Policy
}

// Server serves the API. Its methods may be called from any goroutine.
type Server struct {
	o   Options
	api huma.API
	mux http.Handler

	router   chi.Router
	answers  answers
	matching turns // of requests with If-Match, from the look to the deed
	metrics  *telemetry.Registry
	oidc     *oidc.Client
	passkeys *passkey.Desk
	journals journals

	fetches chan struct{} // one for each image that is being fetched

	strangers few // in the audit log
	refused   few // likewise: calls that were to change nothing, and got nothing

	base context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	servers []*http.Server
	closed  bool
	keeps   bool // tasks of the cluster are looked after
	tells   bool // receivers are told what is wrong
	serving sync.WaitGroup
}

// New makes a server; nothing listens yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, fetches: make(chan struct{}, maxFetches)}
	s.oidc = oidc.New(oidc.Config{Clock: clock.System{}, Rand: rand.Reader})
	s.passkeys = passkey.New(passkey.Config{Clock: clock.System{}, Rand: rand.Reader, Title: "Holdfast"})
	s.base, s.stop = context.WithCancel(context.Background())
	s.metrics = telemetry.New(s.gather)
	s.journals.of = make(map[string]followed)
	r := chi.NewMux()
	r.Use(s.counted, s.permitted(r), s.dryRun, s.repeats, s.tags)
	r.NotFound(s.noRoute)
	r.MethodNotAllowed(s.noMethod)
	s.api = humachi.New(r, config(o.Version))
	s.router = r
	s.routes(r)
	s.mux = s.guard(withPages(r))
	return s
}

// withPages serves the web interface beside the API.
func withPages(api http.Handler) http.Handler {
	pages := ui.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ui.Public(r) {
			pages.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

func config(version string) huma.Config {
	c := huma.DefaultConfig("Holdfast", version)
	c.Info.Description = "The API of one Holdfast host; any host of a cluster answers for all of it."
	c.DocsPath, c.SchemasPath = "", "" // the built-in pages load scripts from the internet
	c.CreateHooks = nil
	c.Formats = map[string]huma.Format{"application/json": strictJSON(), "json": strictJSON()}
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{problems}
	return c
}

// OpenAPI returns the description that /openapi.json serves.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().MarshalJSON() }

// Handler serves requests of somebody who is already known to be allowed.
func (s *Server) Handler() http.Handler { return trusted(s.mux) }

// operation describes an endpoint, with the problem type as its error answer.
func (s *Server) operation(method, path, id, summary string, status int) huma.Operation {
	problem := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(v1.Problem{}), true, "Problem")
	answers := map[string]*huma.Response{"default": {
		Description: "Problem (RFC 9457)",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
	}, "400": {
		Description: "The request is not understood",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
	}}
	return huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary, DefaultStatus: status,
		Responses: answers, MaxBodyBytes: maxBody, BodyReadTimeout: bodyTimeout}
}

// ServeUnix serves on a unix socket that only its owner may open, and returns
// once it listens. A socket left by a dead process is replaced; one that
// answers is not.
func (s *Server) ServeUnix(path string) error {
	if len(path) > maxSocketPath {
		return holdfast.Errorf(holdfast.Invalid, "socket %s: %d bytes are too long for a unix socket, at most %d; set 'socket' to a shorter path", path, len(path), maxSocketPath)
	}
	if err := clearSocket(path); err != nil {
		return err
	}
	l, err := listenAlone(path)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "listen on socket %s: %w", path, err)
	}
	s.serve(&http.Server{Handler: trusted(s.mux)}, l)
	return nil
}

// listenAlone makes a socket that is never open to others, not even for a moment: in
// a directory that only its owner may enter, from where it is moved to its place. The
// umask would be that of the whole process, and files that others make meanwhile
// would lack bits, too.
func listenAlone(path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/s", d.Fd())) // however long the path is
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // under its first name
	made := filepath.Join(dir, "s")
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return removed{l, path}, nil
}

// removed is a listener whose socket goes when it is closed.
type removed struct {
	net.Listener
	path string
}

func (l removed) Close() error {
	err := l.Listener.Close()
	os.Remove(l.path)
	return err
}

func clearSocket(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "socket: %w", err)
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return holdfast.Errorf(holdfast.Exists, "socket %s: a file that is not a socket is in the way; move it or set 'socket' to another path", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return holdfast.Errorf(holdfast.Busy, "socket %s: another process answers there; is this host served already?", path)
	}
	if err := os.Remove(path); err != nil {
		return holdfast.Errorf(holdfast.IO, "socket: %w", err)
	}
	return nil
}

// ServeTLS serves HTTPS on l with the given configuration, which decides which
// certificates are believed (it must ask for a client certificate without
// requiring one, for browsers, programs with tokens and joining hosts have none). It returns at once; Close ends
// it.
func (s *Server) ServeTLS(l net.Listener, conf *tls.Config) {
	conf = conf.Clone()
	conf.NextProtos = []string{"http/1.1"} // consoles need a connection of their own
	s.serve(&http.Server{Handler: s.identified(s.mux)}, tls.NewListener(l, conf))
}

func (s *Server) serve(h *http.Server, l net.Listener) {
	h.ReadHeaderTimeout, h.IdleTimeout = headerTimeout, idleTimeout
	h.MaxHeaderBytes = 64 << 10
	h.BaseContext = func(net.Listener) context.Context { return s.base }
	h.ErrorLog = slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return
	}
	s.servers = append(s.servers, h)
	if !s.keeps && s.o.Tasks != nil {
		s.keeps = true
		s.serving.Go(s.keep)
	}
	if !s.tells && s.o.Alerts != nil {
		s.tells = true
		s.serving.Go(s.tellAlerts)
	}
	s.serving.Go(func() {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.o.Log.Error("the API stopped listening", "addr", l.Addr().String(), "err", err)
		}
	})
}

// Close stops listening, gives running requests until ctx ends, then cuts
// them off together with consoles, and waits until all listeners are gone.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	servers := s.servers
	s.mu.Unlock()
	s.stop()
	for _, h := range servers {
		if h.Shutdown(ctx) != nil {
			h.Close()
		}
	}
	s.serving.Wait()
	s.oidc.Close()
}

// guard turns a panic in a handler into an answer and a log line, never into
// a dead host.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				s.o.Log.Error("request failed badly", "method", r.Method, "path", r.URL.Path, "panic", v)
				writeProblem(w, holdfast.Errorf(holdfast.Other, "the host made a mistake while answering; its log says more"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, holdfast.Errorf(holdfast.NotFound, "there is nothing at %s; /openapi.json lists what there is", clip(r.URL.Path)))
}

func (s *Server) noMethod(w http.ResponseWriter, r *http.Request) {
	p := v1.NewProblem(holdfast.Errorf(holdfast.Invalid, "%s cannot be done with %s; /openapi.json lists what can", clip(r.Method), clip(r.URL.Path)))
	p.Status = http.StatusMethodNotAllowed
	write(w, p)
}

func writeProblem(w http.ResponseWriter, err error) { write(w, v1.NewProblem(err)) }

func write(w http.ResponseWriter, p *v1.Problem) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	var b strings.Builder
	if strictJSON().Marshal(&b, p) == nil {
		_, _ = w.Write([]byte(b.String())) // the client may be gone, which is its own affair
	}
}
