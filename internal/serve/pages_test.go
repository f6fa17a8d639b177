package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/web/webtest"
)

// shows is what a host shows to who asks for a name, or why a caller that trusts an
// authority does not believe it.
func (b *box) shows(name string, roots *x509.CertPool) (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", b.conf.Listen.API, &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS13})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestBrowsersTrustThePagesByName(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBox(t, 131, "a")
	admin := b.field()
	var p v1.Pages
	b.soon("the pages to have a name", func() (err error) {
		p, err = b.api.Pages(ctx)
		return err
	})
	if len(p.Names) != 1 || p.Names[0] != "field.local" {
		t.Fatalf("%+v", p)
	}
	pages, cluster := x509.NewCertPool(), x509.NewCertPool()
	if !pages.AppendCertsFromPEM([]byte(p.Authority.Certificate)) || !cluster.AppendCertsFromPEM([]byte(admin.CA)) {
		t.Fatal("no certificates")
	}
	first, err := b.shows("field.local", pages)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.shows(auth.ServerName, cluster); err != nil {
		t.Errorf("who asks for a host of the cluster: %v", err)
	}
	if _, err := b.shows(auth.ServerName, pages); err == nil {
		t.Error("the pages' authority vouches for a host")
	}
	if _, err := b.shows("field.local", cluster); err == nil {
		t.Error("the cluster's authority vouches for the pages")
	}

	// From its start, and the same as before.
	b.stop()
	b.start()
	if again, err := b.shows("field.local", pages); err != nil || !bytes.Equal(again.Raw, first.Raw) {
		t.Errorf("after a restart: %v", err)
	}
	kept, err := os.Stat(filepath.Join(b.conf.DataDir, pagesFile))
	if err != nil || kept.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", kept, err)
	}

	// A file that is damaged is made anew, and other names hold at once.
	b.stop()
	if err := os.WriteFile(filepath.Join(b.conf.DataDir, pagesFile), []byte(`{"pem":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.soon("a certificate", func() error { _, err := b.shows("field.local", pages); return err })
	b.soon("another name", func() error {
		p, err = b.api.SetPages(ctx, v1.PagesSpec{Names: []string{"cloud.example.org"}})
		return err
	})
	pages.AppendCertsFromPEM([]byte(p.Authority.Certificate))
	b.soon("the other name to be shown", func() error { _, err := b.shows("cloud.example.org", pages); return err })
	if _, err := b.shows("field.local", pages); err == nil {
		t.Error("the name of before is shown still")
	}
	for _, it := range b.records() {
		if strings.HasSuffix(it.Key, "/web/names") {
			return
		}
	}
	t.Error("the names are not among the records that are kept")
}

func TestHostsShowTheSitesOwnCertificate(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBox(t, 132, "a")
	b.field()
	agency := webtest.New(t, time.Now())
	roots := x509.NewCertPool()
	roots.AddCert(agency.Cert)
	certs, key := agency.Site("cloud.example.org")
	b.soon("a certificate to be taken", func() error {
		_, err := b.api.SetPagesSite(ctx, v1.PagesSite{Certificate: string(certs), Key: string(key)})
		return err
	})
	b.soon("it to be shown", func() error { _, err := b.shows("cloud.example.org", roots); return err })
	if _, err := b.shows("field.local", roots); err == nil {
		t.Error("it is shown for another name")
	}
	b.stop() // from its start, and the same as before
	b.start()
	if _, err := b.shows("cloud.example.org", roots); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	told := func() string {
		st, err := b.api.Status(ctx)
		if err != nil {
			return err.Error()
		}
		for _, c := range st.Conditions {
			if strings.HasPrefix(c.ID, siteCondition) {
				return c.Text
			}
		}
		return ""
	}
	b.soon("the API", func() error { _, err := b.api.Pages(ctx); return err })
	if text := told(); text != "" {
		t.Error(text)
	}

	// One that ends soon is told of, and not any more when there is another.
	short := webtest.New(t, time.Now().Add(-80*24*time.Hour))
	c2, k2 := short.Site("cloud.example.org")
	b.soon("another", func() error {
		_, err := b.api.SetPagesSite(ctx, v1.PagesSite{Certificate: string(c2), Key: string(k2)})
		return err
	})
	b.soon("it to be told", func() error {
		if text := told(); !strings.Contains(text, "the pages' certificate for cloud.example.org, by CN=Agency CA, ends on ") {
			return errors.New("it says: " + text)
		}
		return nil
	})
	b.soon("none", func() error { return b.api.RemovePagesSite(ctx) })
	b.soon("nothing to be told", func() error {
		if text := told(); text != "" {
			return errors.New("it says: " + text)
		}
		return nil
	})
	if _, err := b.shows("cloud.example.org", roots); err == nil {
		t.Error("it is shown still")
	}
}

func TestWhereNamesAreAnsweredFor(t *testing.T) {
	for _, c := range []struct{ listen, advertise, want string }{
		{"127.0.0.1:7440", "127.0.0.1", ""}, {"10.0.0.5:7440", "10.0.0.5", "10.0.0.5"}, {"0.0.0.0:7440", "10.0.0.5", "10.0.0.5"},
		{"[::]:7440", "fd00::5", "fd00::5"}, {"0.0.0.0:7440", "host.example", ""}, {"host.example:7440", "host.example", ""}, {"[::1]:7440", "10.0.0.5", ""},
	} {
		h := &Host{}
		h.cfg.Listen.API, h.cfg.Advertise = c.listen, c.advertise
		addr, ok := h.linkAddr()
		if ok != (c.want != "") || ok && addr.String() != c.want {
			t.Errorf("%s, %s: %s, %v", c.listen, c.advertise, addr, ok)
		}
	}
	if _, _, err := (&Host{}).pages(); !holdfast.IsKind(err, holdfast.Conflict) && !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a host in no cluster: %v", err)
	}
}
