package etcd_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/kv/kvtest"
)

func anyEtcd(func(string) ([]byte, bool, error)) error { return nil }

// outside dials an etcd as one that somebody else runs.
func outside(t *testing.T, conf *tls.Config, prefix string, check func(func(string) ([]byte, bool, error)) error, urls ...string) *etcd.Store {
	t.Helper()
	st, err := etcd.Dial(etcd.DialConfig{Endpoints: urls, TLS: conf, Prefix: prefix, Check: check})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// TestConformanceOverAnExternalEtcd: three members in processes of their own,
// which somebody else also uses.
func TestConformanceOverAnExternalEtcd(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	conf := x.p.client("a")
	neighbour := x.dial()
	for _, key := range []string{"another/k", "site1", "site10/k", "zebra"} {
		x.commit(neighbour, key)
	}
	st := outside(t, conf, "site1/", anyEtcd, x.urls...)
	kvtest.Run(t, kvtest.Harness{
		Clock:   clock.System{},
		Do:      func(f func()) { f() },
		Dial:    func() kv.Store { return outside(t, conf, "site1/", anyEtcd, x.urls...) },
		Compact: st.Compact,
	})
	items, _, err := st.Range("")
	for _, it := range items {
		if err == nil && !strings.HasPrefix(it.Key, "kvtest") {
			t.Errorf("under the prefix there is %q", it.Key)
		}
	}
	all, _, err2 := neighbour.Range("")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	left := 0
	for _, it := range all {
		if !strings.HasPrefix(it.Key, "site1/") {
			left++
		}
	}
	if left != 4 {
		t.Errorf("the neighbour has %d of 4 keys", left)
	}
}

func TestOnlyTheRightEtcdIsAsked(t *testing.T) {
	t.Parallel()
	p, cfg, _ := one(t)
	conf := p.client("a")
	wrong := errors.New("it holds another cluster")
	right := false
	st := outside(t, conf, "p/", func(get func(string) ([]byte, bool, error)) error {
		if _, _, err := get("id"); err != nil || right {
			return err
		}
		return wrong
	}, cfg.ListenClient)
	// A machine that has much else to do may answer a call too late; the next one tells.
	for what, call := range map[string]func() error{
		"a commit": func() error {
			_, err := st.Commit(nil, []kv.Op{{Key: "k"}})
			if err != nil && !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("a commit: %v", err)
			}
			return err
		},
		"a lease": func() error { _, err := st.Grant(4 * time.Second); return err },
		"a watch": func() error { _, err := st.Watch("", 1).Next(time.Minute); return err },
	} {
		within(t, patience, what+" is refused", func() error {
			err := call()
			switch {
			case err == nil:
				t.Errorf("%s in the wrong etcd", what)
			case strings.Contains(err.Error(), wrong.Error()):
				return nil
			}
			return err
		})
	}
	if items, _, err := dial(t, conf, cfg.ListenClient).Range(""); err != nil || len(items) > 0 {
		t.Errorf("in the wrong etcd there is %v, %v", items, err)
	}
	right = true
	if _, err := st.Commit(nil, []kv.Op{{Key: "k"}}); err != nil {
		t.Errorf("when it is the right one: %v", err)
	}
}

// TestTwoEtcdsAreNotOne: endpoints of two etcds would be two control planes.
func TestTwoEtcdsAreNotOne(t *testing.T) {
	t.Parallel()
	p, cfg, _ := one(t)
	other := p.member("b")
	m, err := etcd.StartMember(other)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.WaitReady(patience); err != nil {
		t.Fatal(err)
	}
	st := outside(t, p.client("a"), "", anyEtcd, cfg.ListenClient, other.ListenClient)
	within(t, patience, "the first is asked", func() error {
		_, err := st.Commit(nil, []kv.Op{{Key: "k"}})
		return err
	})
	var not int
	for _, s := range st.Look() {
		if s.Err != nil && strings.Contains(s.Err.Error(), "a member of another etcd") {
			not++
		}
	}
	if not != 1 {
		t.Errorf("%v", st.Look())
	}
	stranger := dial(t, p.client("a"), other.ListenClient)
	mine := dial(t, p.client("a"), cfg.ListenClient)
	a, _, err1 := mine.Range("")
	b, _, err2 := stranger.Range("")
	if err1 != nil || err2 != nil || len(a)+len(b) != 1 {
		t.Errorf("%v %v, %v %v", a, err1, b, err2)
	}
}

// TestWhatIsWrongIsSaid: each way to be misled ends with what to do about it.
func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	p, cfg, m := one(t)
	stranger := newPKI(t)
	stranger.issue("a", serverName)
	unknown := p.client("a")
	unknown.RootCAs = x509.NewCertPool()
	unknown.RootCAs.AddCert(stranger.cert)
	foreign := stranger.client("a")
	foreign.RootCAs = p.client("a").RootCAs
	named := p.client("a")
	named.ServerName = "elsewhere.test"
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	for what, c := range map[string]struct {
		conf *tls.Config
		url  string
		kind holdfast.Kind
		say  string
	}{
		"another authority":   {unknown, cfg.ListenClient, holdfast.Denied, "--etcd-ca"},
		"another certificate": {foreign, cfg.ListenClient, holdfast.Denied, "--etcd-cert"},
		"another name":        {named, cfg.ListenClient, holdfast.Denied, "does not name this address"},
		"nobody there":        {p.client("a"), freeURL(t), holdfast.Unavailable, "does not answer"},
		"plain text":          {p.client("a"), "https://" + plain.Addr().String(), holdfast.Denied, "speaks plain text"},
	} {
		t.Run(what, func(t *testing.T) {
			st := outside(t, c.conf, "", anyEtcd, c.url)
			within(t, patience, "the reason", func() error {
				s := st.Look()[0]
				if s.Err == nil || !holdfast.IsKind(s.Err, c.kind) || !strings.Contains(s.Err.Error(), c.say) || !strings.Contains(s.Err.Error(), c.url) {
					return fmt.Errorf("%v, want %q of kind %v", s.Err, c.say, c.kind)
				}
				return nil
			})
			if _, _, err := st.Range(""); !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("a call: %v", err)
			} else {
				t.Log(err)
			}
		})
	}
	if etcd.Open(cfg.ListenClient, p.client("a")) {
		t.Error("it lets in who shows nothing")
	}
	st := outside(t, p.client("a"), "", anyEtcd, cfg.ListenClient)
	if s := st.Look()[0]; s.Err != nil || !s.Leads || s.Full || s.Used <= 0 || s.Quota <= s.Used || s.Version == "" {
		t.Errorf("a good one: %+v", s)
	}
	m.Close()
	if s := st.Look()[0]; s.Err == nil {
		t.Error("one that is gone answers")
	}
}
