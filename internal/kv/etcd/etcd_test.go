package etcd_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
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
	if err := m.WaitReady(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	return p, cfg, m
}

func TestConformance(t *testing.T) {
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
			if _, _, err := c.Range(""); !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("%v, want kind unavailable", err)
			}
			if _, err := c.Commit(nil, []kv.Op{{Key: "k"}}); !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("%v, want kind unavailable", err)
			}
		})
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
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
	p, cfg, m := one(t)
	st := dial(t, p.client("a"), cfg.ListenClient)
	if _, err := st.Commit(nil, []kv.Op{{Key: "k"}}); err != nil {
		t.Fatal(err)
	}
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
	p := newPKI(t)
	cfg := p.member("a")
	st := dial(t, p.client("a"), cfg.ListenClient)
	var want []string
	for round := range 2 {
		proc := startProcess(t, cfg)
		for i := range 20 {
			key := fmt.Sprintf("k/%d.%02d", round, i)
			within(t, 20*time.Second, "a first commit", func() error {
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
	within(t, 20*time.Second, "reading again", func() error {
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

// trio is a cluster of three voters, each a process, that grew from one.
type trio struct {
	*testing.T
	p     *pki
	procs map[string]*process
	urls  []string
}

func newTrio(t *testing.T) *trio {
	x := &trio{T: t, p: newPKI(t), procs: make(map[string]*process)}
	a := x.p.member("a")
	x.procs["a"] = startProcess(t, a)
	x.urls = []string{a.ListenClient}
	st := dial(t, x.p.client("a"), a.ListenClient)
	var ids []uint64
	for _, name := range []string{"b", "c"} {
		cfg := x.p.member(name)
		var id uint64
		within(t, 20*time.Second, "announcing "+name, func() (err error) {
			id, cfg.InitialCluster, err = st.AddLearner(name, cfg.ListenPeer)
			return err
		})
		if again, init, err := st.AddLearner(name, cfg.ListenPeer); err != nil || again != id || init != cfg.InitialCluster {
			t.Errorf("announced twice: %x %q %v", again, init, err)
		}
		cfg.Join = true
		x.procs[name] = startProcess(t, cfg)
		x.urls = append(x.urls, cfg.ListenClient)
		ids = append(ids, id)
	}
	for _, id := range ids {
		within(t, 20*time.Second, "promoting", func() error { return st.Promote(id) })
		if err := st.Promote(id); err != nil {
			t.Errorf("promoted twice: %v", err)
		}
	}
	return x
}

// leader returns the name of the member that leads.
func (x *trio) leader(st *etcd.Store) string {
	x.Helper()
	var name string
	within(x.T, 20*time.Second, "finding the leader", func() error {
		members, err := st.Members()
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.Learner {
				x.Errorf("%s is still a learner", m.Name)
			}
			if m.Leader {
				name = m.Name
				return nil
			}
		}
		return fmt.Errorf("no leader among %v", members)
	})
	return name
}

func TestThreeMembersLoseTheirLeader(t *testing.T) {
	x := newTrio(t)
	st := dial(t, x.p.client("a"), x.urls...)
	l := &kvtest.Linear{Clock: clock.System{}, Dir: "lin/"}
	var wg sync.WaitGroup
	for i := range 4 {
		c := dial(t, x.p.client("a"), append(x.urls[i%3:len(x.urls):len(x.urls)], x.urls[:i%3]...)...)
		wg.Go(func() {
			l.Client(c, i, 60, rand.New(rand.NewPCG(1, uint64(i))), 100*time.Millisecond)
		})
	}
	rev, err := st.Commit(nil, []kv.Op{{Key: "w/0"}})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := st.Grant(4 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	w := st.Watch("w/", rev)
	defer w.Close()

	victim := x.leader(st)
	x.procs[victim].kill()
	var began time.Duration
	took := within(t, 20*time.Second, "committing without the leader", func() error {
		began = clock.System{}.Now()
		_, err := st.Commit(nil, []kv.Op{{Key: "w/1"}})
		return err
	})
	t.Logf("leader %s killed; committed again after %v", victim, took.Round(time.Millisecond))
	if err := st.Renew(lease); err != nil {
		t.Errorf("renewing over the change of leader: %v", err)
	}
	t.Logf("renewed %v later", (clock.System{}.Now() - began).Round(time.Millisecond))
	x.follows(st, w, rev)
	wg.Wait()
	t.Logf("outcomes of commits: %v", l.Check(t))

	x.procs[victim] = startProcess(t, x.procs[victim].cfg) // and it comes back
	own := dial(t, x.p.client("a"), x.procs[victim].cfg.ListenClient)
	within(t, 20*time.Second, "the killed member answering", func() error {
		items, _, err := own.Range("w/")
		if err == nil && len(items) != 2 {
			t.Errorf("it has %d items", len(items))
		}
		return err
	})
}

// follows checks that a watch shows w/1, or breaks and does so when it is
// opened again from where it was.
func (x *trio) follows(st *etcd.Store, w kv.Watcher, from kv.Rev) {
	x.Helper()
	for range 5 {
		evs, err := w.Next(15 * time.Second)
		if holdfast.IsKind(err, holdfast.Unavailable) {
			w = st.Watch("w/", from)
			defer w.Close()
			continue
		}
		if err != nil || len(evs) != 1 || evs[0].Key != "w/1" {
			x.Errorf("the watch shows %v %v", evs, err)
		}
		return
	}
	x.Error("the watch keeps breaking")
}

func TestAFrozenMemberIsPassedOver(t *testing.T) {
	x := newTrio(t)
	st := dial(t, x.p.client("a"), x.urls...)
	leader := x.leader(st)
	var first string // a frozen follower is the first endpoint of the client
	for _, n := range []string{"a", "b", "c"} {
		if n != leader {
			first = n
			break
		}
	}
	urls := []string{x.procs[first].cfg.ListenClient}
	for _, u := range x.urls {
		if u != urls[0] {
			urls = append(urls, u)
		}
	}
	st = dial(t, x.p.client("a"), urls...)
	if _, _, err := st.Range(""); err != nil {
		t.Fatal(err)
	}
	rev, err := st.Commit(nil, []kv.Op{{Key: "w/0"}})
	if err != nil {
		t.Fatal(err)
	}
	w := st.Watch("w/", rev)
	defer w.Close()
	proc := x.procs[first].cmd.Process
	proc.Signal(syscall.SIGSTOP)
	defer proc.Signal(syscall.SIGCONT)
	begun := time.Now()
	if _, _, err := st.Range(""); err != nil {
		t.Errorf("range: %v", err)
	}
	t.Logf("%s frozen; answered elsewhere after %v", first, time.Since(begun).Round(time.Millisecond))
	if _, err := st.Commit(nil, []kv.Op{{Key: "w/1"}}); err != nil {
		t.Errorf("commit: %v", err)
	}
	x.follows(st, w, rev)
}

func TestMembersAreRemoved(t *testing.T) {
	x := newTrio(t)
	st := dial(t, x.p.client("a"), x.urls...)
	members, err := st.Members()
	if err != nil || len(members) != 3 {
		t.Fatalf("%v %v", members, err)
	}
	for _, m := range members {
		if m.Name == "c" {
			for range 2 {
				if err := st.RemoveMember(m.ID); err != nil {
					t.Errorf("removing: %v", err)
				}
			}
		}
	}
	within(t, 20*time.Second, "two members", func() error {
		members, err = st.Members()
		if err == nil && len(members) != 2 {
			err = fmt.Errorf("%v", members)
		}
		return err
	})
	if _, _, err := st.AddLearner("d", "http://127.0.0.1:1"); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a peer without TLS: %v", err)
	}
}

func TestVoters(t *testing.T) {
	for racks, want := range []int{1, 1, 1, 3, 3, 5, 5, 5} {
		if got := etcd.Voters(racks); got != want {
			t.Errorf("%d racks: %d voters, want %d", racks, got, want)
		}
	}
}
