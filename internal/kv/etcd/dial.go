package etcd

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// maxEndpoints bounds the list of members.
const maxEndpoints = 64

// DialConfig describes the members to call.
type DialConfig struct {
	// Endpoints are client URLs, https://ADDRESS:PORT, in the order of
	// preference: the host's own member first.
	Endpoints []string
	// TLS holds the host's certificate, the cluster's authority and the server
	// name to expect.
	TLS *tls.Config
	// Prefix stands before every key, which callers do not see: so several
	// clusters share an etcd that somebody else runs.
	Prefix string
	// Check is asked, with a way to read single keys, whether an etcd is the
	// right one before anything else is asked of it; nil: it is. With it, all
	// endpoints must be members of one etcd.
	Check func(get func(key string) (value []byte, found bool, err error)) error
	// Fence is a key that ends the control plane: no commit is made once it exists,
	// whoever asks. Empty: there is none.
	Fence string
	// Login returns the user to enter as, and the password, every time that the
	// etcd wants to know; nil: the certificate is enough.
	Login func() (user, password string, err error)
	Log   *slog.Logger // nil: silent
}

// Store is a client; it implements kv.Store, whose calls may be made from any
// goroutine.
type Store struct {
	tls    *tls.Config
	log    *slog.Logger
	prefix string
	fence  string    // with the prefix; empty: none
	same   *sameEtcd // nil: whoever answers is the right one
	login  func() (user, password string, err error)

	mu     sync.Mutex
	eps    []*endpoint // replaced whole, never changed
	closed chan struct{}
	done   bool

	last atomic.Int64 // when every call ends at the latest (nanoseconds of monotonic), zero: no such time
}

var _ kv.Store = (*Store)(nil)

// endpoint is one member and what is known of it.
type endpoint struct {
	url      string
	tls      *tls.Config
	conn     *grpc.ClientConn
	shunned  atomic.Int64 // not chosen before this time (UnixNano of a monotonic base)
	failures atomic.Int32 // in a row
}

// Dial returns a client at once and connects in the background. Kind Invalid
// for endpoints that cannot be dialled.
func Dial(c DialConfig) (*Store, error) {
	if c.TLS == nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "the control plane is never called without TLS")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{tls: c.TLS, log: c.Log.With("part", "kv"), prefix: c.Prefix, login: c.Login, closed: make(chan struct{})}
	if c.Fence != "" {
		s.fence = c.Prefix + c.Fence
	}
	if c.Check != nil {
		s.same = &sameEtcd{prefix: c.Prefix, check: c.Check}
	}
	return s, s.SetEndpoints(c.Endpoints)
}

// SetEndpoints replaces the members to call, as they join and leave. Calls
// under way on a member that is dropped end as if it had died.
func (s *Store) SetEndpoints(urls []string) error {
	if len(urls) == 0 || len(urls) > maxEndpoints {
		return holdfast.Errorf(holdfast.Invalid, "%d control plane endpoints: 1 to %d are allowed", len(urls), maxEndpoints)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return errClosed()
	}
	var next, fresh []*endpoint
	for _, u := range urls {
		if slices.ContainsFunc(next, func(e *endpoint) bool { return e.url == u }) {
			continue
		}
		if i := slices.IndexFunc(s.eps, func(e *endpoint) bool { return e.url == u }); i >= 0 {
			next = append(next, s.eps[i])
			continue
		}
		e, err := newEndpoint(u, s.tls, s.same, s.login)
		if err != nil {
			closeAll(fresh)
			return err
		}
		next, fresh = append(next, e), append(fresh, e)
	}
	old := s.eps
	s.eps = next
	closeAll(slices.DeleteFunc(slices.Clone(old), func(e *endpoint) bool { return slices.Contains(next, e) }))
	return nil
}

func newEndpoint(text string, conf *tls.Config, same *sameEtcd, login func() (string, string, error)) (*endpoint, error) {
	u, err := parseURL("control plane", text)
	if err != nil {
		return nil, err
	}
	conf = conf.Clone()
	if conf.ServerName == "" {
		conf.ServerName = u.Hostname()
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20)),
	}
	if same != nil {
		options = append(options, same.options(text)...)
	}
	if login != nil {
		options = append(options, (&ticket{url: text, login: login}).options()...)
	}
	conn, err := grpc.NewClient("passthrough:///"+hostPort(u), options...)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "control plane endpoint %q: %w", text, err)
	}
	conn.Connect()
	return &endpoint{url: text, tls: conf, conn: conn}, nil
}

func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), u.Port()) }

func closeAll(eps []*endpoint) {
	for _, e := range eps {
		e.conn.Close()
	}
}

// Hurry has every call end within d from now, or when the member that it is
// asking by then has had its time: for a program that ends, which is not to wait
// out one call after another that nobody answers.
func (s *Store) Hurry(d time.Duration) { s.last.Store(int64(monotonic() + d)) }

// left is what is left until end.
func (s *Store) left(end time.Duration) time.Duration {
	if last := time.Duration(s.last.Load()); last != 0 {
		end = min(end, last)
	}
	return end - monotonic()
}

// Close implements kv.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil
	}
	s.done = true
	close(s.closed)
	closeAll(s.eps)
	return nil
}

func (s *Store) endpoints() ([]*endpoint, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eps, !s.done
}

// shunning after failures in a row: long enough not to hang every call on a
// frozen member, short enough to come back to one's own.
const (
	shunMin = time.Second
	shunMax = 15 * time.Second
)

func (e *endpoint) fail() {
	n := min(e.failures.Add(1), 5)
	e.shunned.Store(int64(monotonic() + min(shunMin<<(n-1), shunMax)))
}

func (e *endpoint) succeed() {
	e.failures.Store(0)
	e.shunned.Store(0)
}

// pick returns the first connected member in the order of preference that has
// not just failed, else the connected one whose failure is longest ago, else
// nil; it has every other one connect.
func pick(eps []*endpoint, avoid map[*endpoint]bool) *endpoint {
	var best *endpoint
	now := int64(monotonic())
	for _, e := range eps {
		if e.conn.GetState() != connectivity.Ready {
			e.conn.Connect()
			continue
		}
		if e.shunned.Load() <= now && !avoid[e] {
			return e
		}
		if best == nil || e.shunned.Load() < best.shunned.Load() {
			best = e
		}
	}
	return best
}
