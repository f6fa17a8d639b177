// Package etcdtest is an etcd for tests as somebody else would run it: with an
// authority of its own, for whoever shows a certificate of that.
package etcdtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// patience bounds the wait for a leader; it only ends a hang.
const patience = 2 * time.Minute

// Etcd is an etcd inside the test's process.
type Etcd struct {
	URL           string   // of the first member
	URLs          []string // of all
	CA, Cert, Key string   // PEM files for a client

	t       testing.TB
	configs []etcd.MemberConfig
	members []*etcd.Member
}

// Start starts an etcd of one member that ends with the test.
func Start(t testing.TB) *Etcd {
	t.Helper()
	return StartOf(t, 1, 0)
}

// StartOf starts an etcd of so many members, whose data may take so many bytes
// (0: as many as our own), and which ends with the test.
func StartOf(t testing.TB, members int, quota int64) *Etcd {
	t.Helper()
	a, dir := NewAuthority(t), t.TempDir()
	e := &Etcd{t: t, CA: a.File("ca.crt"), members: make([]*etcd.Member, members)}
	e.Cert, e.Key = a.Issue("client")
	cert, key := a.Issue("server")
	t.Cleanup(e.End)
	for i := range members {
		name := fmt.Sprint("other", i+1)
		c := etcd.MemberConfig{Name: name, DataDir: filepath.Join(dir, name), Token: "somebody-else", Quota: quota,
			ListenPeer: free(t), ListenClient: free(t), TLS: etcd.TLSFiles{Cert: cert, Key: key, CA: e.CA}}
		e.configs, e.URLs = append(e.configs, c), append(e.URLs, c.ListenClient)
		if i > 0 {
			e.grow(i)
			continue
		}
		e.URL = c.ListenClient
		e.Begin()
	}
	return e
}

// grow adds a member to those that are there.
func (e *Etcd) grow(i int) {
	e.t.Helper()
	st := e.Dial()
	defer st.Close()
	c := &e.configs[i]
	var id uint64
	e.within("a member more", func() (err error) {
		id, c.InitialCluster, err = st.AddLearner(c.Name, c.ListenPeer)
		return err
	})
	c.Join = true
	e.BeginOne(i)
	e.within("its vote", func() error { return st.Promote(id) })
}

func (e *Etcd) within(what string, f func() error) {
	e.t.Helper()
	const pause = 100 * time.Millisecond
	var err error
	for range patience / pause {
		if err = f(); err == nil {
			return
		}
		clock.Sleep(clock.System{}, pause)
	}
	e.t.Fatalf("waited %v for %s of the etcd: %v", patience, what, err)
}

// Dial opens it as its owner does, who sees all keys.
func (e *Etcd) Dial() *etcd.Store {
	e.t.Helper()
	cert, err := tls.LoadX509KeyPair(e.Cert, e.Key)
	if err != nil {
		e.t.Fatal(err)
	}
	ca, err := os.ReadFile(e.CA)
	if err != nil {
		e.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	st, err := etcd.Dial(etcd.DialConfig{Endpoints: e.URLs, TLS: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS13}})
	if err != nil {
		e.t.Fatal(err)
	}
	return st
}

// Fill writes the same key over and over, as another user of it whose history nobody
// compacts, until so much of the quota, in percent, is used, or it is full.
func (e *Etcd) Fill(percent int64) {
	e.t.Helper()
	st := e.Dial()
	defer st.Close()
	value := bytes.Repeat([]byte("history "), 32<<10)
	for range 10_000 {
		s := st.Look()[0]
		if s.Err == nil && (s.Full || s.Used*100 > s.Quota*percent) {
			return
		}
		if _, err := st.Commit(nil, []kv.Op{{Key: "other/user", Value: value}}); err != nil && percent <= 100 {
			e.t.Fatal(err)
		}
	}
	e.t.Fatal("the etcd takes more than it may")
}

// Begin starts all members again after End.
func (e *Etcd) Begin() {
	e.t.Helper()
	for i := range e.configs {
		e.start(i)
	}
	for _, m := range e.members[:len(e.configs)] {
		if err := m.WaitReady(patience); err != nil {
			e.t.Fatal(err)
		}
	}
}

// BeginOne starts a member again after EndOne.
func (e *Etcd) BeginOne(i int) {
	e.t.Helper()
	e.start(i)
	if err := e.members[i].WaitReady(patience); err != nil {
		e.t.Fatal(err)
	}
}

func (e *Etcd) start(i int) {
	e.t.Helper()
	if e.members[i] != nil {
		return
	}
	m, err := etcd.StartMember(e.configs[i])
	if err != nil {
		e.t.Fatal(err)
	}
	e.members[i] = m
}

// End stops all members; their data stay.
func (e *Etcd) End() {
	for i := range e.members {
		e.EndOne(i)
	}
}

// EndOne stops a member; its data stay.
func (e *Etcd) EndOne(i int) {
	if m := e.members[i]; m != nil {
		m.Close()
		e.members[i] = nil
	}
}

// Keys returns all keys that are in it.
func (e *Etcd) Keys() (keys []string) {
	e.t.Helper()
	items, _, err := e.members[0].Local("")
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
