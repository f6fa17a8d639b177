package httpapi_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// authority is a cluster's CA for a test.
type authority struct {
	t  *testing.T
	ca *auth.CA
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	ca, err := auth.NewCA(holdfast.ClusterID{UUID: holdfast.UUID{1, 6: 0x40, 8: 0x80}})
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, ca}
}

// host returns a host's credential, admin the administrator's as PEM.
func (a authority) host() auth.Credentials {
	a.t.Helper()
	key, err := auth.NewKey()
	if err != nil {
		a.t.Fatal(err)
	}
	csr, err := auth.CSR(key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := a.ca.SignHost(csr, holdfast.HostID{UUID: holdfast.UUID{2, 6: 0x40, 8: 0x80}}, []string{"127.0.0.1"})
	if err != nil {
		a.t.Fatal(err)
	}
	return auth.Credentials{CA: a.ca.Cert, Cert: cert, Key: key}
}

func (a authority) admin() *tls.Config {
	a.t.Helper()
	key, err := auth.NewKey()
	if err != nil {
		a.t.Fatal(err)
	}
	csr, err := auth.CSR(key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := a.ca.SignAdmin(csr, "admin")
	if err != nil {
		a.t.Fatal(err)
	}
	text, err := auth.EncodeKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	conf, err := client.TLSConfig(auth.EncodeCert(a.ca.Cert), auth.EncodeCert(cert), text)
	if err != nil {
		a.t.Fatal(err)
	}
	return conf
}

// peer takes certificates as a host does.
func peer(cs tls.ConnectionState) (*account.Principal, error) {
	id, err := auth.PeerIdentity(cs)
	if err != nil {
		return nil, err
	}
	return &account.Principal{Kind: string(id.Kind), Name: id.Name, Role: account.ClusterAdmin}, nil
}

// serveTLS serves b over HTTPS as a host of the authority's cluster.
func (a authority) serveTLS(b *apitest.Backend) string {
	a.t.Helper()
	s := httpapi.New(httpapi.Options{Backend: b, Version: "test", Peer: peer})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	s.ServeTLS(l, auth.GuestServerTLS(a.host(), func(auth.Identity) error { return nil }))
	a.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(ctx)
	})
	return l.Addr().String()
}

func TestOverHTTPSOnlyTheAdministratorIsServed(t *testing.T) {
	ctx := context.Background()
	a, other := newAuthority(t), newAuthority(t)
	b := apitest.Three()
	b.Echo = func(s string) string { return s }
	addr := a.serveTLS(b)

	c := client.HTTPS(addr, a.admin())
	defer c.Close()
	if st, err := c.Status(ctx); err != nil || !strings.Contains(st.Sentence, "Can lose any 1 rack") {
		t.Fatalf("the administrator: %q, %v", st.Sentence, err)
	}
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "deb", Size: -1}, strings.NewReader("disk")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVM(ctx, v1.VMSpec{Name: "v", Image: "deb"}); err != nil {
		t.Fatal(err)
	}
	con, err := c.Console(ctx, "v", true)
	if err != nil {
		t.Fatalf("a console over HTTPS: %v", err)
	}
	con.Close()

	nobody := client.HTTPS(addr, &tls.Config{InsecureSkipVerify: true})
	defer nobody.Close()
	if _, err := nobody.Status(ctx); !holdfast.IsKind(err, holdfast.Denied) {
		t.Fatalf("somebody without a certificate: %v", err)
	}
	if _, err := nobody.Console(ctx, "v", true); !holdfast.IsKind(err, holdfast.Denied) {
		t.Fatalf("a console without a certificate: %v", err)
	}
	stranger := client.HTTPS(addr, other.admin())
	defer stranger.Close()
	if _, err := stranger.Status(ctx); !holdfast.IsKind(err, holdfast.Denied) {
		t.Fatalf("a host of another cluster was believed: %v", err)
	}
}

func TestJoiningNeedsTheCodeAndTheRightCluster(t *testing.T) {
	ctx := context.Background()
	a := newAuthority(t)
	b := apitest.Three()
	addr := a.serveTLS(b)
	text, err := b.CreateJoinCode(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	code, err := v1.ParseJoinCode(text)
	if err != nil {
		t.Fatal(err)
	}
	code.API, code.CA = []string{"127.0.0.1:1", addr}, sha256.Sum256(a.ca.Cert.Raw)
	b.CA = auth.EncodeCert(a.ca.Cert)
	req := v1.JoinRequest{HostID: b.Me.ID.String(), Name: "delta", Rack: "d", Addr: "h:1", API: "h:2", CSR: "x"}

	foreign := code
	foreign.CA[0] ^= 1
	if _, err := client.Join(ctx, foreign, req); !holdfast.IsKind(err, holdfast.Denied) {
		t.Fatalf("a host of another CA was believed: %v", err)
	}
	wrong := code
	wrong.Secret = make([]byte, 16)
	if _, err := client.Join(ctx, wrong, req); !holdfast.IsKind(err, holdfast.Denied) {
		t.Fatalf("a wrong secret: %v", err)
	}
	if got, err := client.Join(ctx, code, req); err != nil || got.ClusterName != "field" {
		t.Fatalf("the right code: %+v, %v", got, err)
	}
	if _, err := client.Join(ctx, code, req); !holdfast.IsKind(err, holdfast.Denied) {
		t.Fatalf("the code a second time: %v", err)
	}
}

// TestThePagesAreForEverybody: who has no certificate is shown the page, and
// nothing of the cluster.
func TestThePagesAreForEverybody(t *testing.T) {
	a := newAuthority(t)
	addr := a.serveTLS(apitest.Three())
	pool := x509.NewCertPool()
	pool.AddCert(a.ca.Cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}}
	defer tr.CloseIdleConnections()
	for path, want := range map[string]int{"/ui/": 200, "/ui/vms": 200, "/": 302, "/v1/status": 401, "/v1/watch": 401} {
		req, _ := http.NewRequest(http.MethodGet, "https://"+addr, nil)
		req.URL.Path = path
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, not %d", path, resp.StatusCode, want)
		}
	}
}
