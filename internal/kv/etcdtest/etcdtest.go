// Package etcdtest is an etcd for tests as somebody else would run it: with an
// authority of its own, for whoever shows a certificate of that.
package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// patience bounds the wait for a leader; it only ends a hang.
const patience = 2 * time.Minute

// Etcd is an etcd of one member inside the test's process.
type Etcd struct {
	URL           string
	CA, Cert, Key string // PEM files for a client

	t      testing.TB
	cfg    etcd.MemberConfig
	member *etcd.Member
}

// Start starts an etcd that ends with the test.
func Start(t testing.TB) *Etcd {
	t.Helper()
	a := NewAuthority(t)
	e := &Etcd{t: t, CA: a.File("ca.crt")}
	e.Cert, e.Key = a.Issue("client")
	cert, key := a.Issue("server")
	e.cfg = etcd.MemberConfig{Name: "other", DataDir: filepath.Join(t.TempDir(), "etcd"), Token: "somebody-else",
		ListenPeer: free(t), ListenClient: free(t), TLS: etcd.TLSFiles{Cert: cert, Key: key, CA: e.CA}}
	e.URL = e.cfg.ListenClient
	e.Begin()
	t.Cleanup(e.End)
	return e
}

// Begin starts it again after End.
func (e *Etcd) Begin() {
	e.t.Helper()
	m, err := etcd.StartMember(e.cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.member = m
	if err := m.WaitReady(patience); err != nil {
		e.t.Fatal(err)
	}
}

// End stops it; its data stay.
func (e *Etcd) End() {
	if e.member != nil {
		e.member.Close()
		e.member = nil
	}
}

// Keys returns all keys that are in it.
func (e *Etcd) Keys() (keys []string) {
	e.t.Helper()
	items, _, err := e.member.Local("")
	if err != nil {
		e.t.Fatal(err)
	}
	for _, it := range items {
		keys = append(keys, it.Key)
	}
	return keys
}

// free finds a port at an address that no other test process has.
func free(t testing.TB) string {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 100+pid>>16&7, pid>>8&255, pid&255))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// Authority issues certificates into a directory of the test.
type Authority struct {
	t    testing.TB
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	next int64
}

// NewAuthority makes one; its certificate is File("ca.crt").
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir()}
	a.cert, _ = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// File is the path of a file of the authority's.
func (a *Authority) File(name string) string { return filepath.Join(a.dir, name) }

// Issue makes a certificate for any loopback address of this test process, and
// returns the paths of it and of its key.
func (a *Authority) Issue(name string) (cert, key string) {
	a.t.Helper()
	u := free(a.t)
	host, _, _ := net.SplitHostPort(u[len("https://"):])
	a.issue(name, &x509.Certificate{IPAddresses: []net.IP{net.ParseIP(host)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	return a.File(name + ".crt"), a.File(name + ".key")
}

func (a *Authority) issue(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	c.SerialNumber, c.Subject = big.NewInt(a.next), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	if a.key == nil { // the authority's own
		a.key, a.cert = key, c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: kder},
	} {
		if err := os.WriteFile(a.File(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}
