package tcp

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/transport/transporttest"
	"go.uber.org/goleak"
)

// lab is a cluster of loopback hosts with an authority of its own.
type lab struct {
	ca *auth.CA

	mu      sync.Mutex
	addrs   map[holdfast.HostID]string
	expired map[holdfast.HostID]bool // no members any more
}

func newLab(t testing.TB) *lab {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	ca, err := auth.NewCA(holdfast.ClusterID{UUID: transporttest.Host(200).UUID})
	if err != nil {
		t.Fatal(err)
	}
	return &lab{ca: ca, addrs: make(map[holdfast.HostID]string), expired: make(map[holdfast.HostID]bool)}
}

func (l *lab) Clock() clock.Clock { return clock.System{} }

func (l *lab) Run(_ *testing.T, f func()) { f() }

func (l *lab) Open(t *testing.T, id holdfast.HostID) transport.Network { return l.open(t, id) }

// credentials issues a host's certificate.
func (l *lab) credentials(t testing.TB, id holdfast.HostID) auth.Credentials {
	return issue(t, l.ca, func(csr []byte) (auth.Credentials, error) {
		cert, err := l.ca.SignHost(csr, id, []string{"127.0.0.1"})
		return auth.Credentials{CA: l.ca.Cert, Cert: cert}, err
	})
}

func issue(t testing.TB, ca *auth.CA, sign func(csr []byte) (auth.Credentials, error)) auth.Credentials {
	t.Helper()
	key, err := auth.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := auth.CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sign(csr)
	if err != nil {
		t.Fatal(err)
	}
	c.Key = key
	return c
}

// host is a network whose Start publishes its address.
type host struct {
	*Network
	l *lab
}

func (h host) Start() error {
	if err := h.Network.Start(); err != nil {
		return err
	}
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.l.addrs[h.cfg.Self] = h.Addr().String()
	return nil
}

func (l *lab) open(t testing.TB, id holdfast.HostID) host {
	c := l.credentials(t, id)
	return host{New(Config{
		Self: id, Listen: "127.0.0.1:0",
		Server: auth.ServerTLS(c, nil), Client: auth.ClientTLS(c, nil),
		Directory: l.directory, Member: l.member,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}), l}
}

func (l *lab) directory(id holdfast.HostID) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.addrs[id]
	return a, ok
}

func (l *lab) member(id auth.Identity) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.expired[id.Host]
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) { w.t.Logf("%s", b); return len(b), nil }

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.Lab { return newLab(t) })
}
