package etcd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/kv/kvtest"
)

// one starts a cluster of one member inside the test's process.
func one(t *testing.T) (*pki, etcd.MemberConfig, *etcd.Member) {
	t.Helper()
	p := newPKI(t)
	cfg := p.member("a")
	m, err := etcd.StartMember(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if err := m.WaitReady(patience); err != nil {
		t.Fatal(err)
	}
	return p, cfg, m
}

func TestConformance(t *testing.T) {
	t.Parallel()
	p, cfg, _ := one(t)
	conf := p.client("a")
	st := dial(t, conf, cfg.ListenClient)
	kvtest.Run(t, kvtest.Harness{
		Clock:   clock.System{},
		Do:      func(f func()) { f() },
		Dial:    func() kv.Store { return dial(t, conf, cfg.ListenClient) },
		Compact: st.Compact,
	})
}

func TestNobodyWithoutTheClustersCertificateGetsIn(t *testing.T) {
	t.Parallel()
	p, cfg, _ := one(t)
	stranger := newPKI(t)
	stranger.issue("a", serverName)
	conf := stranger.client("a")
	conf.RootCAs = p.client("a").RootCAs // it knows whom it calls, but is not known
	p.issue("admin", "admin.test")       // of the authority, but no host
	none := p.client("a")
	none.Certificates = nil
	for what, c := range map[string]*etcd.Store{
		"a foreign authority": dial(t, conf, cfg.ListenClient),
		"not a host":          dial(t, p.client("admin"), cfg.ListenClient),
		"no certificate":      dial(t, none, cfg.ListenClient),
		"a peer port":         dial(t, none, cfg.ListenPeer),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, err := c.Commit(nil, []kv.Op{{Key: "k"}})
			if !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("%v, want kind unavailable", err)
			}
			t.Log(err)
		})
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	for what, spoil := range map[string]func(*etcd.MemberConfig){
		"plain text":   func(c *etcd.MemberConfig) { c.ListenClient = "http://127.0.0.1:1" },
		"no port":      func(c *etcd.MemberConfig) { c.ListenPeer = "https://127.0.0.1" },
		"no key":       func(c *etcd.MemberConfig) { c.TLS.Key = "" },
		"no directory": func(c *etcd.MemberConfig) { c.DataDir = "" },
		"no name":      func(c *etcd.MemberConfig) { c.Name = "" },
	} {
		cfg := p.member("a")
		spoil(&cfg)
		if _, err := etcd.StartMember(cfg); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := etcd.Dial(etcd.DialConfig{Endpoints: []string{"https://x:1"}}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("without TLS: %v", err)
	}
}

func TestADamagedDirectoryIsReported(t *testing.T) {
	t.Parallel()
	p, cfg, m := one(t)
	st := dial(t, p.client("a"), cfg.ListenClient)
	within(t, patience, "a commit", func() error {
		_, err := st.Commit(nil, []kv.Op{{Key: "k"}})
		return err
	})
	m.Close()
	wals, _ := filepath.Glob(filepath.Join(cfg.DataDir, "member", "wal", "*.wal"))
	b, err := os.ReadFile(wals[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 64; i < 256; i++ {
		b[i] ^= 0x55
	}
	if err := os.WriteFile(wals[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := etcd.StartMember(cfg); err == nil {
		m.Close()
		t.Error("it started")
	} else if !holdfast.IsKind(err, holdfast.Damaged) {
		t.Errorf("%v, want kind damaged", err)
	}
}

func TestACommitSurvivesKill9(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	cfg := p.member("a")
	st := dial(t, p.client("a"), cfg.ListenClient)
	var want []string
	for round := range 2 {
		proc := startProcess(t, cfg)
		for i := range 20 {
			key := fmt.Sprintf("k/%d.%02d", round, i)
			within(t, patience, "a first commit", func() error {
				_, err := st.Commit(nil, []kv.Op{{Key: key}})
				return err
			})
			want = append(want, key)
		}
		if round == 0 {
			t.Logf("a member alone uses %s", rss(proc.cmd.Process.Pid))
		}
		proc.kill()
	}
	if _, err := st.Commit(nil, []kv.Op{{Key: "k/down"}}); !holdfast.IsKind(err, holdfast.Unavailable) && !holdfast.IsKind(err, holdfast.Unknown) {
		t.Errorf("with no member: %v", err)
	}
	startProcess(t, cfg)
	within(t, patience, "reading again", func() error {
		items, _, err := st.Range("k/")
		if err != nil {
			return err
		}
		for i, k := range want {
			if i >= len(items) || items[i].Key != k {
				t.Fatalf("%d of %d commits are there", len(items), len(want))
			}
		}
		return nil
	})
}

// rss reads a process's resident memory.
func rss(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var kb int
	for line := range lines(string(b)) {
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			break
		}
	}
	return fmt.Sprintf("%d MB", kb/1024)
}

func lines(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			i := 0
			for i < len(s) && s[i] != '\n' {
				i++
			}
			if !yield(s[:i]) || i == len(s) {
				return
			}
			s = s[i+1:]
		}
	}
}

func TestVoters(t *testing.T) {
	for racks, want := range []int{1, 1, 1, 3, 3, 5, 5, 5} {
		if got := etcd.Voters(racks); got != want {
			t.Errorf("%d racks: %d voters, want %d", racks, got, want)
		}
	}
}

// Half of a control plane has no leader. Its member ends all the same when its
// host is stopped.
func TestAMemberWithoutALeaderCloses(t *testing.T) {
	p := newPKI(t)
	cfg := p.member("a")
	cfg.InitialCluster = "a=" + cfg.ListenPeer + ",b=" + freeURL(t)
	m, err := etcd.StartMember(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if m.Ready() {
		t.Fatal("one of two members has a leader")
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		m.Close()
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("the member does not end")
	}
}

// Who stops does not wait until a control plane that nobody answers for has had
// all its time; what is asked after that is not even begun.
func TestCallsEndInAHurry(t *testing.T) {
	t.Parallel()
	p, cfg, _ := one(t)
	st := dial(t, p.client("a"), cfg.ListenClient)
	st.Hurry(patience)
	if _, err := st.Commit(nil, []kv.Op{{Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	st.Hurry(0)
	if _, err := st.Commit(nil, []kv.Op{{Key: "k", Delete: true}}); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a call without time: %v", err)
	}
	items, _, err := dial(t, p.client("a"), cfg.ListenClient).Range("k")
	if err != nil || len(items) != 1 {
		t.Errorf("%+v, %v", items, err)
	}
}
