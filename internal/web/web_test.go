package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func made(t *testing.T, names ...string) Record {
	t.Helper()
	r, err := New(names, "field", now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// trusts is what a browser that has the authority says of a certificate.
func trusts(r Record, leaf *x509.Certificate, name string, at time.Time) error {
	pool := x509.NewCertPool()
	ca, err := x509.ParseCertificate(r.CA)
	if err != nil {
		return err
	}
	pool.AddCert(ca)
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func TestABrowserTrustsThePagesByTheirNames(t *testing.T) {
	r := made(t, "field.local", "cloud.example.org")
	p, err := r.Page(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range r.Names {
		if err := trusts(r, p.leaf, n, now.Add(-time.Hour)); err != nil {
			t.Error(err)
		}
	}
	if err := trusts(r, p.leaf, "other.local", now); err == nil {
		t.Error("it is trusted for another name")
	}
	if !p.Has("FIELD.local.") || !r.Has("Field.Local") || p.Has("local") || r.Has("") {
		t.Error("names are compared as DNS does")
	}
	if life := p.leaf.NotAfter.Sub(p.leaf.NotBefore); life > 825*24*time.Hour {
		t.Errorf("it lasts %v: phones do not believe that", life)
	}
	b, err := p.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if q, err := ReadPage(b); err != nil || !q.Serves(r, now) || !bytes.Equal(q.CA(), r.CA) {
		t.Errorf("read again: %v", err)
	}
	if p.Serves(r, now.Add(pageLife/2+time.Hour)) || p.Serves(r, now.Add(-backdate-time.Hour)) || p.Serves(made(t, r.Names...), now) {
		t.Error("a certificate that is old, of a clock that was wrong, or of another authority would stay")
	}
}

// Whoever has the authority's key can vouch for nothing but the pages.
func TestTheAuthorityIsConfined(t *testing.T) {
	r := made(t, "field.local")
	ca, priv, err := r.authority()
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		t    x509.Certificate
		name string
	}{
		"another name":     {x509.Certificate{DNSNames: []string{"bank.example"}}, "bank.example"},
		"a name beside it": {x509.Certificate{DNSNames: []string{"field.local", "bank.example"}}, "field.local"},
		"an address":       {x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, "192.0.2.1"},
		"an address of 6":  {x509.Certificate{IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}}, "2001:db8::1"},
		"the .local names": {x509.Certificate{DNSNames: []string{"other.local"}}, "other.local"},
	} {
		c.t.SerialNumber, c.t.NotBefore, c.t.NotAfter = big.NewInt(7), now.Add(-time.Hour), now.Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, &c.t, ca, own.Public(), priv)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := trusts(r, leaf, c.name, now); err == nil {
			t.Errorf("it vouches for %s", what)
		}
	}
	if ca.MaxPathLen != 0 || !ca.MaxPathLenZero {
		t.Error("it may make authorities")
	}
}

func TestNamesOfPages(t *testing.T) {
	for _, good := range []string{"field.local", "cloud.example.org", "a.b", "x1.y2z"} {
		if err := CheckNames([]string{good}); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "field", "Field.local", "field.local.", "a..b", "10.1.2.3", "::1", "*.example.org", "a_b.org", "host.holdfast.internal", "a.b.local",
		strings.Repeat("a", 64) + ".org", strings.Repeat("a.", 127) + "org", "exam ple.org", "x.1", "ex\x00.org"} {
		if err := CheckNames([]string{bad}); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if CheckNames(nil) == nil || CheckNames([]string{"a.b", "a.b"}) == nil || CheckNames(strings.Fields(strings.Repeat("a.b ", MaxNames+1))) == nil {
		t.Error("none, twice the same, or too many names")
	}
}

// The authority stays as long as it may vouch for the names: nobody has to trust
// another one.
func TestNamesChange(t *testing.T) {
	r := made(t, "field.local", "cloud.example.org")
	less, err := r.With([]string{"cloud.example.org"}, false, "field", now, rand.Reader)
	if err != nil || !bytes.Equal(less.CA, r.CA) || len(less.Names) != 1 {
		t.Errorf("fewer names: %v, %v", less.Names, err)
	}
	back, err := less.With(r.Names, false, "field", now, rand.Reader)
	if err != nil || !bytes.Equal(back.CA, r.CA) {
		t.Errorf("the same again: %v", err)
	}
	more, err := r.With([]string{"other.local"}, false, "field", now, rand.Reader)
	if err != nil || bytes.Equal(more.CA, r.CA) {
		t.Errorf("another name under the old authority: %v", err)
	}
	anew, err := r.With(r.Names, true, "field", now, rand.Reader)
	if err != nil || bytes.Equal(anew.CA, r.CA) {
		t.Errorf("another authority: %v", err)
	}
	if _, err := r.With([]string{"x"}, false, "field", now, rand.Reader); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Error(err)
	}
}

func TestARecordThatIsDamagedIsNotBelieved(t *testing.T) {
	r := made(t, "field.local")
	other := made(t, "field.local")
	wide := r
	wide.CA, wide.Key = ownCA(t)
	for what, r := range map[string]Record{"another's key": {r.Names, r.CA, other.Key}, "no names": {nil, r.CA, r.Key}, "no certificate": {r.Names, []byte("x"), r.Key},
		"no key": {r.Names, r.CA, nil}, "too long": {r.Names, bytes.Repeat(r.CA, 100), r.Key}, "an authority for everything": wide} {
		if _, _, err := r.authority(); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := r.encode(); err == nil {
			t.Errorf("%s is written", what)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", r.Key, r, r, slog.AnyValue(r.Key)); strings.Contains(text, string(r.Key)) || strings.Contains(text, fmt.Sprint([]byte(r.Key))) {
		t.Errorf("the key is printed: %.80s", text)
	}
}

// ownCA is an authority that is not confined.
func ownCA(t *testing.T) ([]byte, Secret) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return der, secret
}

// Two hosts start at once, and have one record; who follows it sees it change.
func TestHostsAgreeOnOneRecord(t *testing.T) {
	w := simclock.NewWorld(1)
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	a, b := w.Host("a", simclock.Skew{}), w.Host("b", simclock.Skew{})
	t.Cleanup(func() { w.Close(a, b) })
	store := func(clk clock.Clock, name string) *Store {
		return &Store{KV: srv.Handle(name, clk), Clock: clk, Rand: rand.Reader, Cluster: "field"}
	}
	sa, sb := store(a, "a"), store(b, "b")
	var first [2]Record
	var seen []Record
	ended, over, damaged := 0, false, false
	for i, s := range []*Store{sa, sb} {
		s.Clock.Go(func() {
			r, err := s.Ensure()
			if err != nil {
				t.Error(err)
			}
			first[i] = r
			ended++
		})
	}
	b.Go(func() {
		sb.Follow(func() bool { return over }, func(r Record, _ *Site, err error) {
			if err == nil {
				seen = append(seen, r)
			} else {
				damaged = holdfast.IsKind(err, holdfast.Corrupt)
			}
		})
	})
	w.RunUntil(func() bool { return ended == 2 && len(seen) > 0 }, time.Minute)
	if !bytes.Equal(first[0].CA, first[1].CA) || first[0].Names[0] != "field.local" {
		t.Fatalf("%v and %v", first[0].Names, first[1].Names)
	}
	a.Go(func() {
		if r, err := sa.Set([]string{"x.example"}, false, true); err != nil || r.Names[0] != "x.example" {
			t.Error(err)
		}
		if r, _, err := sa.Read(); err != nil || r.Names[0] != "field.local" {
			t.Errorf("a dry run changed it: %v, %v", r.Names, err)
		}
		if _, err := sa.Set([]string{"cloud.example.org"}, false, false); err != nil {
			t.Error(err)
		}
		ended++
	})
	w.RunUntil(func() bool { return ended == 3 && seen[len(seen)-1].Names[0] == "cloud.example.org" }, time.Minute)
	if last := seen[len(seen)-1]; last.Names[0] != "cloud.example.org" {
		t.Errorf("who follows it sees %v", last.Names)
	}
	a.Go(func() {
		_, err := sa.KV.Commit(nil, []kv.Op{{Key: key, Value: []byte("{")}})
		if err == nil {
			_, _, err = sa.Read()
		}
		if !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("a damaged record: %v", err)
		}
		clock.Sleep(a, time.Second)
		if !damaged {
			t.Error("who follows it does not hear that it is damaged")
		}
		if _, err := sa.Set([]string{"field.local"}, false, false); err != nil {
			t.Errorf("it is not mended: %v", err)
		}
		over = true
		ended++
	})
	w.RunUntil(func() bool { return ended == 4 }, time.Minute)
	if got := WithoutSecrets([]kv.Item{{Key: key}, {Key: "holdfast/2/x"}}); len(got) != 1 {
		t.Error("it would stand on disks in the clear")
	}
}

func FuzzRecord(f *testing.F) {
	r, err := New([]string{"field.local"}, "field", now, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	b, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"names":["a.b"],"ca":"","key":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		p, err := r.Page(now, rand.Reader)
		if err != nil {
			t.Fatalf("a record that was believed makes no certificate: %v", err)
		}
		if !p.Serves(r, now) {
			t.Fatal("a certificate is not what its record asks for")
		}
	})
}
