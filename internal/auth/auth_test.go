package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

func someID(n byte) holdfast.UUID { return holdfast.UUID{0: n, 6: 0x40, 8: 0x80, 15: n} }

func newCA(t testing.TB, cluster byte) *CA {
	t.Helper()
	ca, err := NewCA(holdfast.ClusterID{UUID: someID(cluster)})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func hostCredentials(t testing.TB, ca *CA, host byte, addrs ...string) Credentials {
	t.Helper()
	key, csr := newCSR(t)
	cert, err := ca.SignHost(csr, holdfast.HostID{UUID: someID(host)}, addrs)
	if err != nil {
		t.Fatal(err)
	}
	return Credentials{CA: ca.Cert, Cert: cert, Key: key}
}

func adminCredentials(t testing.TB, ca *CA, name string) Credentials {
	t.Helper()
	key, csr := newCSR(t)
	cert, err := ca.SignAdmin(csr, name)
	if err != nil {
		t.Fatal(err)
	}
	return Credentials{CA: ca.Cert, Cert: cert, Key: key}
}

func newCSR(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

// handshake connects two ends and returns what each learned of the other.
func handshake(server, client *tls.Config) (atServer, atClient tls.ConnectionState, err error) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s, c := tls.Server(far, server), tls.Client(near, client)
	served := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("in")) // TLS 1.3 clients learn of a refusal by reading
		}
		far.Close()
		served <- err
	}()
	err = c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 2))
	}
	near.Close()
	return s.ConnectionState(), c.ConnectionState(), errors.Join(<-served, err)
}

func TestHostsAndAdminsRecogniseEachOther(t *testing.T) {
	ca := newCA(t, 1)
	h1, h2, boss := hostCredentials(t, ca, 1, "127.0.0.1"), hostCredentials(t, ca, 2), adminCredentials(t, ca, "boss")
	at1, at2, err := handshake(ServerTLS(h1, nil), ClientTLS(h2, nil))
	if err != nil {
		t.Fatal(err)
	}
	id2, err2 := PeerIdentity(at1)
	id1, err1 := PeerIdentity(at2)
	if err1 != nil || err2 != nil || id1.Host.UUID != someID(1) || id2.Host.UUID != someID(2) || id1.Kind != Host {
		t.Errorf("%v %v, %v %v", id1, err1, id2, err2)
	}
	if id2.KeyHash != KeyHash(h2.Cert) || len(id2.KeyHash) != 64 || id2.Cluster.UUID != someID(1) {
		t.Errorf("identity %+v", id2)
	}
	at1, _, err = handshake(ServerTLS(h1, nil), ClientTLS(boss, nil))
	if id, err2 := PeerIdentity(at1); err != nil || err2 != nil || id.Kind != Admin || id.Name != "boss" || !id.Host.IsZero() {
		t.Errorf("%v %v %v", id, err, err2)
	}
	if at1.Version != tls.VersionTLS13 {
		t.Error("not TLS 1.3")
	}
}

func TestStrangersAreRefused(t *testing.T) {
	ours, theirs := newCA(t, 1), newCA(t, 1) // the same cluster id does not help
	us, them := hostCredentials(t, ours, 1), hostCredentials(t, theirs, 2)
	allowNobody := func(id Identity) error { return holdfast.Errorf(holdfast.Denied, "%s has left", id) }
	nobody := ClientTLS(us, nil)
	nobody.Certificates = nil
	old := ClientTLS(us, nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	mixed := them
	mixed.CA = ours.Cert // shows our authority behind a certificate of theirs
	forged := selfMade(t, "holdfast://"+someID(1).String()+"/host/"+someID(2).String())
	for name, c := range map[string]struct{ server, client *tls.Config }{
		"a client of another authority":     {ServerTLS(us, nil), ClientTLS(mixed, nil)},
		"a server of another authority":     {ServerTLS(mixed, nil), ClientTLS(us, nil)},
		"a client without a certificate":    {ServerTLS(us, nil), nobody},
		"a client that is no member":        {ServerTLS(us, allowNobody), ClientTLS(us, nil)},
		"a server that is no member":        {ServerTLS(us, nil), ClientTLS(us, allowNobody)},
		"an admin posing as a server":       {ServerTLS(adminCredentials(t, ours, "x"), nil), ClientTLS(us, nil)},
		"an old TLS":                        {ServerTLS(us, nil), old},
		"a self-made client":                {ServerTLS(us, nil), ClientTLS(Credentials{CA: ours.Cert, Cert: forged.Cert, Key: forged.Key}, nil)},
		"a guest with a foreign credential": {GuestServerTLS(us, nil), ClientTLS(mixed, nil)},
	} {
		if _, _, err := handshake(c.server, c.client); err == nil {
			t.Errorf("%s was let in", name)
		}
	}
}

func TestAGuestComesInWithoutAnIdentity(t *testing.T) {
	ca := newCA(t, 1)
	us := hostCredentials(t, ca, 1)
	guest := ClientTLS(us, nil)
	guest.Certificates = nil
	at, _, err := handshake(GuestServerTLS(us, nil), guest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PeerIdentity(at); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("a guest has an identity: %v", err)
	}
	at.PeerCertificates = []*x509.Certificate{us.Cert} // shown but never verified
	if _, err := PeerIdentity(at); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("an unverified certificate was believed: %v", err)
	}
}

func TestClocksDoNotMatter(t *testing.T) {
	ca := newCA(t, 1)
	h := hostCredentials(t, ca, 1, "127.0.0.1", "::1", "box.example.org")
	for _, year := range []int{1970, 1999, 2026, 2099, 9998} {
		// The stock verification that etcd and others do at their own time.
		_, err := h.Cert.Verify(x509.VerifyOptions{
			Roots: pool(ca.Cert), DNSName: "127.0.0.1",
			CurrentTime: time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC),
			KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			t.Errorf("in %d: %v", year, err)
		}
	}
	if ServerTLS(h, nil).Time().Year() != 2020 || ClientTLS(h, nil).Time().Year() != 2020 {
		t.Error("the TLS settings look at a clock")
	}
	for _, name := range []string{"127.0.0.1", "::1", "box.example.org", ServerName} {
		if err := h.Cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

func TestSigningRequestsAreNotTrusted(t *testing.T) {
	ca := newCA(t, 1)
	host := holdfast.HostID{UUID: someID(1)}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	key, good := newCSR(t)
	evil, _ := url.Parse("holdfast://" + someID(1).String() + "/admin/evil")
	wishes, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{evil}, DNSNames: []string{"evil"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.SignHost(pem.EncodeToMemory(&pem.Block{Type: csrType, Bytes: wishes}), host, []string{"10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := IdentityOf(cert); err != nil || id.Kind != Host || id.Host != host || len(cert.DNSNames) != 1 {
		t.Errorf("the request's own names got through: %v %v %v", id, cert.DNSNames, err)
	}
	tampered := bytes.Clone(wishes)
	tampered[len(tampered)-1] ^= 1
	for name, csr := range map[string][]byte{
		"another kind of key":  csrOf(t, edKey),
		"another curve":        csrOf(t, p384),
		"a broken signature":   pem.EncodeToMemory(&pem.Block{Type: csrType, Bytes: tampered}),
		"nothing":              nil,
		"garbage":              []byte("garbage"),
		"two requests":         append(bytes.Clone(good), good...),
		"a certificate":        EncodeCert(ca.Cert),
		"too long":             append(bytes.Clone(good), bytes.Repeat([]byte("\n"), MaxCSR)...),
		"truncated inner DER":  pem.EncodeToMemory(&pem.Block{Type: csrType, Bytes: wishes[:40]}),
		"trailing inner bytes": pem.EncodeToMemory(&pem.Block{Type: csrType, Bytes: append(bytes.Clone(wishes), 0)}),
	} {
		if _, err := ca.SignHost(csr, host, nil); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, addr := range []string{"", "*", "*.example.org", "a b", "x:80", "a..b", ".a", "a.", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "toolong"} {
		if _, err := ca.SignHost(good, host, []string{addr}); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("address %q: %v", addr, err)
		}
	}
	if _, err := ca.SignHost(good, holdfast.HostID{}, nil); err == nil {
		t.Error("a host without identity was certified")
	}
	if _, err := ca.SignAdmin(good, "Not A Name"); err == nil {
		t.Error("a bad admin name was certified")
	}
}

func csrOf(t *testing.T, key any) []byte {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: csrType, Bytes: der})
}

// selfMade returns a certificate that nobody's authority issued.
func selfMade(t *testing.T, uris ...string) Credentials {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := newSerial()
	c := &x509.Certificate{SerialNumber: serial, DNSNames: []string{ServerName}}
	c.NotBefore, c.NotAfter = validity()
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return Credentials{CA: cert, Cert: cert, Key: key}
}

func TestOnlyOneSpellingOfAnIdentity(t *testing.T) {
	cl, h := someID(1).String(), someID(2).String()
	good := "holdfast://" + cl + "/host/" + h
	if id, err := IdentityOf(selfMade(t, good).Cert); err != nil || id.String() != good {
		t.Errorf("%v %v", id, err)
	}
	for _, uris := range [][]string{
		{}, {good, good}, {"spiffe://" + cl + "/host/" + h}, {"holdfast://" + cl + "/host/" + h + "/"},
		{"holdfast://" + cl + "/host/" + strings.ToUpper("ab"+h[2:])}, {"holdfast://" + cl + "/host/x"}, {"holdfast:///host/" + h},
		{"holdfast://" + cl + "/host"}, {"holdfast://" + cl + "/root/x"}, {"holdfast://" + cl + "/admin/"},
		{"holdfast://" + cl + "/admin/A"}, {"holdfast://" + cl + "/admin/a/b"}, {good + "?q"}, {good + "#f"}, {"holdfast://u@" + cl + "/host/" + h},
		{"holdfast://" + cl + ":1/host/" + h}, {"holdfast://" + cl + "/%68ost/" + h}, {"holdfast://" + cl + "/host/" + holdfast.UUID{}.String()},
	} {
		if id, err := IdentityOf(selfMade(t, uris...).Cert); !holdfast.IsKind(err, holdfast.Denied) {
			t.Errorf("%v was read as %v, %v", uris, id, err)
		}
	}
}

func TestCredentialsSurviveTheDisk(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t, 1)
	c := hostCredentials(t, ca, 1, "127.0.0.1")
	if err := c.Save(dir, "host"); err != nil {
		t.Fatal(err)
	}
	got, err := LoadCredentials(dir, "host")
	if err != nil || !got.Cert.Equal(c.Cert) || !got.CA.Equal(c.CA) || !got.Key.Equal(c.Key) {
		t.Fatalf("%v", err)
	}
	f := CredentialFiles(dir, "host")
	if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil { // as etcd does
		t.Error(err)
	}
	for _, p := range []string{f.CA, f.Cert, f.Key} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", p, st.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(f.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCredentials(dir, "host"); !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read was used: %v", err)
	}
	if _, err := LoadCredentials(dir, "admin"); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("%v", err)
	}
}

func TestTheAuthoritySurvivesTheDisk(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadCA(dir); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("%v", err)
	}
	ca := newCA(t, 1)
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := LoadCA(dir)
	if err != nil || !got.Cert.Equal(ca.Cert) || got.Cluster() != ca.Cluster() {
		t.Fatal(err)
	}
	if err := hostCredentials(t, got, 7).Check(); err != nil {
		t.Error(err)
	}
}

func TestPartsThatDoNotBelongTogether(t *testing.T) {
	one, two := newCA(t, 1), newCA(t, 2)
	a, b := hostCredentials(t, one, 1), hostCredentials(t, two, 2)
	for name, c := range map[string]Credentials{
		"nothing":               {},
		"another's key":         {CA: a.CA, Cert: a.Cert, Key: b.Key},
		"another's authority":   {CA: b.CA, Cert: a.Cert, Key: a.Key},
		"a host's as authority": {CA: a.Cert, Cert: a.Cert, Key: a.Key},
		"nobody's certificate":  selfMade(t),
	} {
		if err := c.Check(); err == nil {
			t.Errorf("%s passed", name)
		}
		if err := c.Save(t.TempDir(), "host"); err == nil {
			t.Errorf("%s was saved", name)
		}
	}
	text1, _ := one.PEM()
	text2, _ := two.PEM()
	i := bytes.Index(text1, []byte("-----BEGIN PRIVATE"))
	j := bytes.Index(text2, []byte("-----BEGIN PRIVATE"))
	if _, err := ParseCA(append(bytes.Clone(text1[:i]), text2[j:]...)); err == nil {
		t.Error("an authority with another's key passed")
	}
}

func FuzzParseCA(f *testing.F) {
	text, _ := newCA(f, 1).PEM()
	f.Add(text)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if ca, err := ParseCA(text); err == nil && ca.Cluster().IsZero() && !bytes.Contains(ca.Cert.Raw, []byte("00000000-0000")) {
			t.Error("an authority without a cluster")
		}
	})
}

func FuzzCSR(f *testing.F) {
	_, csr := newCSR(f)
	f.Add(csr)
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, csr []byte) {
		if k, err := parseCSR(csr); err == nil && k.Curve != elliptic.P256() {
			t.Error("another curve got through")
		} else if err != nil && !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("kind of %v", err)
		}
	})
}

func TestAJoinSecretIsStoredAsItsHashOnly(t *testing.T) {
	secret := []byte("sixteen bytes 16")
	text := hex.EncodeToString(secret)
	h, err := HashSecret(text)
	if err != nil || !SameHash(h, HashOf(secret)) || SameHash(h, HashOf(secret[1:])) || strings.Contains(h, text) {
		t.Errorf("%s, %v", h, err)
	}
	for _, bad := range []string{"", "zz", text[2:], text + "0", strings.Repeat("00", 65)} {
		if _, err := HashSecret(bad); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
