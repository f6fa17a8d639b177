package nbd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newServer returns a running server in a directory with a short path.
func newServer(t testing.TB, lim Limits) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Dir: dir, Limits: lim, Log: slog.New(slog.NewTextHandler(testLog{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		os.RemoveAll(dir)
	})
	return s
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) { l.t.Logf("%s", b); return len(b), nil }

func newID() holdfast.VolumeID {
	u, _ := holdfast.NewUUID(rand.Reader)
	return holdfast.VolumeID{UUID: u}
}

func newTarget(t testing.TB, size int64, readOnly bool) *memexport.Target {
	t.Helper()
	target, err := memexport.New(size, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// offering is one published memory volume with its faults.
type offering struct {
	srv    *Server
	id     holdfast.VolumeID
	path   string
	target *memexport.Target
	faults *memexport.Faults
}

// offer publishes a memory volume called "vol" on a server of its own.
func offer1(t testing.TB, size int64, lim Limits) *offering {
	t.Helper()
	o := &offering{srv: newServer(t, lim), id: newID(), target: newTarget(t, size, false), faults: &memexport.Faults{}}
	var err error
	if o.path, err = o.srv.Publish(o.id, "vol", memexport.Faulty(o.target, o.faults, clock.System{})); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *offering) dial(t testing.TB) *Client {
	t.Helper()
	c, err := Dial("unix", o.path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wire is a client of bytes, for what no decent client would send.
type wire struct {
	t  testing.TB
	nc net.Conn
}

func rawDial(t testing.TB, path string) *wire {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(2 * time.Minute)) // a hang fails, it does not decide
	return &wire{t: t, nc: nc}
}

// tlsDial is rawDial over TCP, greeted and past STARTTLS.
func tlsDial(t testing.TB, addr string, ca *authority) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(2 * time.Minute))
	w := &wire{t: t, nc: nc}
	w.greet()
	if typ := w.option(optStartTLS, nil); typ != repAck {
		t.Fatalf("STARTTLS is answered with %#x", typ)
	}
	w.nc = tls.Client(nc, ca.client(t))
	return w
}

func (w *wire) send(b []byte) {
	w.t.Helper()
	if _, err := w.nc.Write(b); err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

func (w *wire) recv(n int) []byte {
	w.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(w.nc, b); err != nil {
		w.t.Fatalf("receive %d bytes: %v", n, err)
	}
	return b
}

// wantEnd checks that the server closes the connection.
func (w *wire) wantEnd() {
	w.t.Helper()
	rest, err := io.ReadAll(w.nc)
	if ne, isNet := err.(net.Error); isNet && ne.Timeout() {
		w.t.Fatal("the server keeps the connection open")
	}
	if len(rest) > 0 {
		w.t.Fatalf("the server sends % x before it closes", rest[:min(len(rest), 64)])
	}
}

// greet does the first exchange.
func (w *wire) greet() {
	w.t.Helper()
	w.recv(18)
	w.send([]byte{0, 0, 0, flagFixedNewstyle | flagNoZeroes})
}

func optionBytes(opt uint32, data []byte) []byte {
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// option sends one option and returns the type of its last reply.
func (w *wire) option(opt uint32, data []byte) uint32 {
	w.t.Helper()
	w.send(optionBytes(opt, data))
	for {
		r := w.recv(20)
		if be.Uint64(r) != magicOptReply || be.Uint32(r[8:]) != opt {
			w.t.Fatalf("reply % x to option %d", r, opt)
		}
		w.recv(int(be.Uint32(r[16:])))
		if typ := be.Uint32(r[12:]); typ == repAck || typ&repErr != 0 {
			return typ
		}
	}
}

// enter goes into the transmission phase with simple replies.
func (w *wire) enter() *wire {
	w.t.Helper()
	w.greet()
	if typ := w.option(optGo, appendGo(nil, "")); typ != repAck {
		w.t.Fatalf("GO is answered with %#x", typ)
	}
	return w
}

// ask sends a request without payload and returns the error of its simple reply.
func (w *wire) ask(cmd request) errno {
	w.t.Helper()
	w.send(appendRequest(nil, cmd))
	return w.answer(cmd.cookie)
}

func (w *wire) answer(cookie uint64) errno {
	w.t.Helper()
	r := w.recv(simpleSize)
	if be.Uint32(r) != magicSimple || be.Uint64(r[8:]) != cookie {
		w.t.Fatalf("reply % x to request %d", r, cookie)
	}
	return errno(be.Uint32(r[4:]))
}

// authority signs certificates for the TLS tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate for 127.0.0.1 as server and client.
func (a *authority) issue(t testing.TB) tls.Certificate {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "host"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) server(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()}
}

func (a *authority) client(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue(t)}, RootCAs: a.pool(), ServerName: "127.0.0.1"}
}

// files writes what libnbd wants in a directory: CA, certificate and key.
func (a *authority) files(t testing.TB) string {
	dir := t.TempDir()
	cert := a.issue(t)
	key, _ := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	for name, block := range map[string]*pem.Block{
		"ca-cert.pem":     {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"client-cert.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		"client-key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// dialled is a volume seen through a server: each Open is a connection.
type dialled struct {
	network, addr, name string
	cfg                 *tls.Config
	ro                  string // path of a read-only offer of the same volume
	size                int64
}

func (d *dialled) Size() int64    { return d.size }
func (d *dialled) ReadOnly() bool { return false }

func (d *dialled) Open(readOnly bool) (export.Disk, error) {
	name := d.name
	addr := d.addr
	if readOnly {
		name += "-ro"
		if d.network == "unix" {
			addr = d.ro
		}
	}
	c, err := Dial(d.network, addr, name, d.cfg)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readOnlyView offers a writable volume for reading.
type readOnlyView struct{ export.Target }

func (v readOnlyView) ReadOnly() bool { return true }
