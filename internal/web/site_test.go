package web

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/web/webtest"
)

func TestASitesOwnCertificateIsShownForItsNames(t *testing.T) {
	e := webtest.New(t, now)
	r := made(t, "field.local", "cloud.example.org")
	p, err := r.Page(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certs, key := e.Site("cloud.example.org", "*.Field.example.org", "b.holdfast.internal", "x")
	curve := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22}})
	s, err := NewSite(append([]byte("# from our agency\n"), certs...), append(curve, key...), now)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Names(), " "); got != "cloud.example.org *.field.example.org" {
		t.Errorf("names: %s", got)
	}
	p = p.With(s)
	by := func(name string, at time.Time) string {
		c := p.For(name, at)
		if c == nil {
			return ""
		}
		return c.Leaf.Issuer.CommonName
	}
	later := now.Add(100 * 24 * time.Hour)
	for _, c := range []struct {
		name string
		at   time.Time
		by   string
	}{
		{"field.local", now, "Holdfast pages of field"}, {"cloud.example.org", now, "Agency CA"}, {"CLOUD.example.org.", now, "Agency CA"}, {"a1.field.example.org", now, "Agency CA"},
		{"cloud.example.org", later, "Holdfast pages of field"}, // it has ended, and the authority vouches for the name, too
		{"a1.field.example.org", later, "Agency CA"},
		{"a.b.field.example.org", now, ""}, {"b.holdfast.internal", now, ""}, {"x", now, ""}, {"", now, ""}, {"10.0.0.1", now, ""},
	} {
		if got := by(c.name, c.at); got != c.by || p.Has(c.name) != (c.by != "") {
			t.Errorf("%q: shown is what %q vouches for, not %q; is it a name: %v", c.name, got, c.by, p.Has(c.name))
		}
	}
	if s.EndsSoon(now) || !s.EndsSoon(now.Add(70*24*time.Hour)) || s.Holds(later) || !s.Holds(now) {
		t.Error("when it ends")
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := decodeSite(b); err != nil || !again.Equal(s) || again.Equal(nil) || !(*Site)(nil).Equal(nil) {
		t.Errorf("read again: %v", err)
	}
}

func TestWhatIsNoCertificateForPagesIsRefused(t *testing.T) {
	e := webtest.New(t, now)
	certs, key := e.Site("cloud.example.org")
	_, another := e.Site("cloud.example.org")
	strange := webtest.New(t, now)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	edPub, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(c x509.Certificate, pub crypto.PublicKey) []byte {
		if c.DNSNames == nil {
			c.DNSNames = []string{"cloud.example.org"}
		}
		return webtest.PEM(e.Sign(&c, pub))
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certs)
	alone := pem.EncodeToMemory(block)
	for _, c := range []struct {
		what       string
		certs, key []byte
		says       string
	}{
		{"nothing", nil, nil, "there is none"},
		{"no PEM", []byte("hello"), key, "there is none"},
		{"both in one", append(append([]byte{}, certs...), key...), key, "give it apart"},
		{"a request", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{1}}), key, "no certificate"},
		{"no key", certs, certs[:0], "there is no key"},
		{"another's key", certs, another, "another certificate's"},
		{"an encrypted key", certs, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), "openssl pkey"},
		{"an old encrypted key", certs, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES"}, Bytes: []byte{1}}), "openssl pkey"},
		{"rubbish for a key", certs, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "its key"},
		{"rubbish for a certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), key, "certificate 1"},
		{"the wrong order", append(webtest.PEM(e.Cert), alone...), key, "does not vouch for"},
		{"a stranger behind it", append(append([]byte{}, alone...), webtest.PEM(strange.Cert)...), key, "does not vouch for"},
		{"an authority", webtest.PEM(e.Cert), webtest.KeyPEM(t, e.Key), "is an authority"},
		{"one for clients", leaf(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, own.Public()), webtest.KeyPEM(t, own), "not for web servers"},
		{"one that has ended", leaf(x509.Certificate{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour)}, own.Public()), webtest.KeyPEM(t, own), "has ended on 2026-11-22"},
		{"one for hosts of the cluster", leaf(x509.Certificate{DNSNames: []string{"b1.holdfast.internal", "localhost"}}, own.Public()), webtest.KeyPEM(t, own), "no name by which"},
		{"a short key", leaf(x509.Certificate{}, short.Public()), webtest.KeyPEM(t, short), "1024 bits"},
		{"a key that browsers do not know", leaf(x509.Certificate{}, edPub), webtest.KeyPEM(t, ed), "neither RSA nor ECDSA"},
		{"too many", bytes.Repeat(alone, maxChain+1), key, "certificates of"},
		{"too much", bytes.Repeat([]byte("x"), MaxSite+1), key, "at most"},
	} {
		if _, err := NewSite(c.certs, c.key, now); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "the site's certificate: ") {
			t.Errorf("%s: %v; want it to say %q", c.what, err, c.says)
		}
	}
	if _, err := decodeSite([]byte(`{"chain":["AA=="],"key":""}`)); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Errorf("a damaged record: %v", err)
	}
}

func TestHostsFollowTheSitesCertificate(t *testing.T) {
	w := simclock.NewWorld(1)
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	a := w.Host("a", simclock.Skew{})
	t.Cleanup(func() { w.Close(a) })
	st := &Store{KV: srv.Handle("a", a), Clock: a, Rand: rand.Reader, Cluster: "field"}
	s, err := NewSite(pair(webtest.New(t, now).Site("cloud.example.org")))
	if err != nil {
		t.Fatal(err)
	}
	over, heard, ended := false, []*Site(nil), 0
	var last error
	a.Go(func() {
		st.Follow(func() bool { return over }, func(_ Record, s *Site, err error) { heard, last = append(heard, s), err })
	})
	step := func(what string, f func() error, is func() bool) {
		t.Helper()
		before := ended
		a.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			ended++
		})
		w.RunUntil(func() bool { return ended > before && is() }, time.Minute)
		if !is() {
			t.Errorf("%s: heard %v, %v", what, heard, last)
		}
	}
	latest := func() *Site { return heard[len(heard)-1] }
	step("none", func() error { return st.SetSite(s, true) }, func() bool { return len(heard) > 0 && latest() == nil })
	step("one", func() error { return st.SetSite(s, false) }, func() bool { return s.Equal(latest()) })
	step("damaged", func() error { _, err := st.KV.Commit(nil, []kv.Op{{Key: siteKey, Value: []byte("{")}}); return err }, func() bool { return holdfast.IsKind(last, holdfast.Corrupt) })
	step("gone", func() error { return st.SetSite(nil, false) }, func() bool { return last == nil && latest() == nil })
	over = true
	w.RunUntil(func() bool { return false }, time.Second)
	if got := WithoutSecrets([]kv.Item{{Key: siteKey}, {Key: key}, {Key: "holdfast/2/x"}}); len(got) != 1 {
		t.Error("its key would stand on disks in the clear")
	}
}

// pair has NewSite take what site returns.
func pair(certs, key []byte) ([]byte, []byte, time.Time) { return certs, key, now }

func FuzzSite(f *testing.F) {
	certs, key := webtest.New(f, now).Site("cloud.example.org", "*.example.org")
	s, err := NewSite(certs, key, now)
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(certs, key, b)
	f.Add([]byte("-----BEGIN CERTIFICATE-----"), []byte{}, []byte(`{"chain":[""]}`))
	f.Fuzz(func(t *testing.T, certs, key, record []byte) {
		one, err := NewSite(certs, key, now)
		if err == nil && (len(one.Names()) == 0 || one.cert == nil) {
			t.Fatal("one was taken that stands for nothing")
		}
		if two, err := decodeSite(record); err == nil && len(two.Names()) == 0 {
			t.Fatal("a record was believed that stands for nothing")
		}
	})
}
