package nbd

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

func TestTCPWithoutCertificate(t *testing.T) {
	s, ca, stranger := newServer(t, Limits{}), newAuthority(t), newAuthority(t)
	if _, err := s.Publish(newID(), "vol", newTarget(t, mib, false)); err != nil {
		t.Fatal(err)
	}
	addr, err := s.ListenTLS("127.0.0.1:0", ca.server(t))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(2 * time.Minute))
	defer nc.Close()
	w := &wire{t: t, nc: nc}
	w.greet()
	for _, opt := range []uint32{optList, optInfo, optGo, optStructuredReply, optSetMetaContext, 99} {
		if typ := w.option(opt, appendGo(nil, "vol")); typ != repErrTLSReqd {
			t.Errorf("option %d in plain text is answered with %#x, want TLS_REQD", opt, typ)
		}
	}
	w.send(optionBytes(optExportName, []byte("vol")))
	w.wantEnd()

	for _, c := range []struct {
		name string
		cfg  *tls.Config
	}{
		{"no TLS", nil},
		{"no certificate", &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1"}},
		{"a certificate of a stranger", &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{stranger.issue(t)}}},
	} {
		if c, err := Dial("tcp", addr.String(), "vol", c.cfg); err == nil {
			c.Close()
			t.Errorf("a client got in")
		} else if k := holdfast.KindOf(err); k != holdfast.Denied && k != holdfast.Unavailable && k != holdfast.Other {
			t.Errorf("a client is refused with %v", err)
		}
	}
	if _, err := Dial("tcp", addr.String(), "vol", stranger.client(t)); err == nil {
		t.Error("the client trusted a server of another authority")
	}
	c, err := Dial("tcp", addr.String(), "vol", ca.client(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := Dial("tcp", addr.String(), "nothing", ca.client(t)); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
}

// Plaintext that follows STARTTLS must not be taken for what TLS protects.
func TestPlaintextSmuggledBehindStartTLS(t *testing.T) {
	s, ca := newServer(t, Limits{}), newAuthority(t)
	addr, err := s.ListenTLS("127.0.0.1:0", ca.server(t))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(2 * time.Minute))
	defer nc.Close()
	w := &wire{t: t, nc: nc}
	w.greet()
	w.send(append(optionBytes(optStartTLS, nil), optionBytes(optList, nil)...))
	w.wantEnd()
}

func TestListenersThatWouldLetAnyoneIn(t *testing.T) {
	s, ca := newServer(t, Limits{}), newAuthority(t)
	for name, change := range map[string]func(*tls.Config){
		"no client certificate":         func(c *tls.Config) { c.ClientAuth = tls.NoClientCert },
		"an optional certificate":       func(c *tls.Config) { c.ClientAuth = tls.VerifyClientCertIfGiven },
		"a certificate nobody verifies": func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert },
		"the system's authorities":      func(c *tls.Config) { c.ClientCAs = nil },
	} {
		cfg := ca.server(t)
		change(cfg)
		if _, err := s.ListenTLS("127.0.0.1:0", cfg); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	if _, err := s.ListenTLS("127.0.0.1:0", nil); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("no TLS at all: %v", err)
	}
}
