package serve

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// echoes is a member of the control plane that says everything back.
func echoes(t *testing.T) (socket string) {
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return socket
}

func newCA(t *testing.T, cluster byte) *auth.CA {
	t.Helper()
	ca, err := auth.NewCA(holdfast.ClusterID{UUID: holdfast.UUID{cluster, 6: 0x40, 8: 0x80}})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func hostCreds(t *testing.T, ca *auth.CA, id byte) auth.Credentials {
	t.Helper()
	key, err := auth.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := auth.CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.SignHost(csr, holdfast.HostID{UUID: holdfast.UUID{id, 6: 0x40, 8: 0x80}}, []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return auth.Credentials{CA: ca.Cert, Cert: cert, Key: key}
}

// said reports whether a gate lets one through, from an address: whether what
// is said comes back.
func said(addr string, conf *tls.Config, text string, from ...*net.TCPAddr) (*tls.Conn, error) {
	d := &net.Dialer{Timeout: time.Minute}
	for _, a := range from {
		d.LocalAddr = a
	}
	c, err := tls.DialWithDialer(d, "tcp", addr, conf)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err = io.WriteString(c, text); err == nil {
		_, err = io.ReadFull(c, make([]byte, len(text)))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func TestAGateLetsInWhomTheRecordsName(t *testing.T) {
	ca := newCA(t, 1)
	here, member, forged := hostCreds(t, ca, 1), hostCreds(t, ca, 2), hostCreds(t, ca, 2)
	var removed atomic.Bool
	allow := func(id auth.Identity) error {
		if removed.Load() || !auth.SameHash(id.KeyHash, auth.KeyHash(member.Cert)) {
			return holdfast.Errorf(holdfast.Denied, "no member")
		}
		return nil
	}
	g, err := openGate("127.0.0.1:0", echoes(t), auth.ServerTLS(here, allow), allow, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	addr := g.ln.Addr().String()
	for what, creds := range map[string]auth.Credentials{
		"another key for the same host, though the authority signed it": forged,
		"a certificate of another cluster":                              hostCreds(t, newCA(t, 2), 2),
	} {
		conf := auth.ClientTLS(creds, nil)
		conf.RootCAs = nil
		conf.InsecureSkipVerify, conf.VerifyConnection = true, nil
		if c, err := said(addr, conf, "let me in"); err == nil {
			c.Close()
			t.Errorf("let in: %s", what)
		}
	}
	if c, err := said(addr, &tls.Config{InsecureSkipVerify: true}, "let me in"); err == nil {
		c.Close()
		t.Error("let in: nobody")
	}
	c, err := said(addr, auth.ClientTLS(member, nil), "let me in")
	if err != nil {
		t.Fatalf("a member is not let in: %v", err)
	}
	defer c.Close()
	// The member behind it never sees a cable that is cut: the gate has to.
	g.mu.Lock()
	for in := range g.conns {
		raw, err := in.(*net.TCPConn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				if !socket.NoticesDeath(fd) {
					t.Error("a gate does not notice that a host is gone")
				}
			})
		}
		if err != nil {
			t.Error(err)
		}
	}
	g.mu.Unlock()
	removed.Store(true)
	if _, err := io.ReadFull(c, make([]byte, 1)); err == nil || isTimeout(err) {
		t.Fatalf("a host that is no member any more is not cut off: %v", err)
	}
	if c, err := said(addr, auth.ClientTLS(member, nil), "let me in"); err == nil {
		c.Close()
		t.Error("let in: a host that is no member any more")
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// Whoever connects and says nothing takes up a place only for a while, and not
// the gate.
func TestAGateClosesWithStrangersAtIt(t *testing.T) {
	ca := newCA(t, 1)
	here := hostCreds(t, ca, 1)
	allow := func(auth.Identity) error { return nil }
	g, err := openGate("127.0.0.1:0", filepath.Join(t.TempDir(), "nobody"), auth.ServerTLS(here, allow), allow, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.Dial("tcp", g.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	}
	if c, err := said(g.ln.Addr().String(), auth.ClientTLS(here, nil), "hello"); err == nil {
		c.Close()
		t.Error("somebody answered for a member that is not there")
	}
	g.close()
}

// A stranger who connects as often as it can and says nothing does not keep a
// member out who comes from elsewhere.
func TestAStrangerDoesNotFillTheGate(t *testing.T) {
	ca := newCA(t, 1)
	here, member := hostCreds(t, ca, 1), hostCreds(t, ca, 2)
	allow := func(auth.Identity) error { return nil }
	g, err := openGate("127.0.0.1:0", echoes(t), auth.ServerTLS(here, allow), allow, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	addr := g.ln.Addr().String()
	for range 300 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	elsewhere := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	c, err := said(addr, auth.ClientTLS(member, nil), "let me in", elsewhere)
	if err != nil {
		t.Fatalf("a member is not let in: %v", err)
	}
	c.Close()
}
