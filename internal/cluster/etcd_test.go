package cluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// selfSigned makes a certificate that is its own authority.
func selfSigned(t *testing.T, dir string) (etcd.TLSFiles, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"host.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kder, _ := x509.MarshalPKCS8PrivateKey(key)
	crt, pkey := filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")
	os.WriteFile(crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	os.WriteFile(pkey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder}), 0o600)
	pool := x509.NewCertPool()
	cert, _ := x509.ParseCertificate(der)
	pool.AddCert(cert)
	return etcd.TLSFiles{Cert: crt, Key: pkey, CA: crt, ServerName: "host.test"},
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: pool, ServerName: "host.test"}
}

func freeURL(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// The same code over the real thing: found a cluster, live, lead, join, leave.
func TestOverEtcd(t *testing.T) {
	dir := t.TempDir()
	files, conf := selfSigned(t, dir)
	cfg := etcd.MemberConfig{Name: "a", DataDir: filepath.Join(dir, "etcd"), ListenPeer: freeURL(t), ListenClient: freeURL(t), TLS: files, Token: "x"}
	m, err := etcd.StartMember(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	open := func() *cluster.Client {
		st, err := etcd.Dial(etcd.DialConfig{Endpoints: []string{cfg.ListenClient}, TLS: conf})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return cluster.Open(st, clock.System{}, slog.New(slog.DiscardHandler))
	}
	a, b := open(), open()
	defer a.Close()
	defer b.Close()
	rec := hostRecord("a", "r1")
	if err := a.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: uuid("x")}, Name: "x"}, rec); err != nil {
		t.Fatal(err)
	}
	ka := a.KeepAlive(cluster.Alive{Host: rec.ID})
	el := a.Campaign(ka, rec.ID)
	sees := func(what string, f func(*cluster.State) bool) {
		t.Helper()
		if !b.WaitFor(f, 20*time.Second) {
			t.Errorf("the other host does not see %s: %+v", what, b.State())
		}
	}
	sees("a alive and leading", func(s *cluster.State) bool { return s.AliveHost(rec.ID) && s.Leader == rec.ID })
	hash := strings.Repeat("ef", 32)
	if _, err := a.CreateJoinCode(hash, "", 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Join(hash, hostRecord("b", "r2")); err != nil {
		t.Fatal(err)
	}
	if err := b.Join(hash, hostRecord("c", "r3")); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("the code served twice: %v", err)
	}
	tx := a.Begin()
	tx.PutVolume(volume("v1"), 0)
	rev, err := tx.Commit()
	if err != nil {
		t.Fatal(err)
	}
	sees("the volume", func(s *cluster.State) bool { return s.Rev >= rev && len(s.Volumes) == 1 && len(s.Hosts) == 2 })
	v := volume("v2")
	v.Name = "v1"
	tx = a.Begin()
	tx.PutVolume(v, 0)
	if _, err := tx.Commit(); !holdfast.IsKind(err, holdfast.Exists) {
		t.Errorf("a name given twice: %v", err)
	}
	el.Stop()
	ka.Stop()
	sees("a leaving", func(s *cluster.State) bool { return len(s.Alive) == 0 && s.Leader.IsZero() })
}
