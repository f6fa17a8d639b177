package cluster_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.etcd.io/etcd/client/pkg/v3/logutil.(*mergeLogger).outputLoop"))
}

// scene is a world with a control plane and hosts a, b, c, …
type scene struct {
	*testing.T
	w     *simclock.World
	srv   *memkv.Server
	clks  []*simclock.Host
	hosts []*host
}

// host is one life of a host.
type host struct {
	name string
	id   holdfast.HostID
	clk  *simclock.Host
	st   *memkv.Handle
	c    *cluster.Client
	ka   *cluster.KeepAlive
}

func newScene(t *testing.T, seed uint64, hosts int) *scene {
	return newSceneWith(t, seed, hosts, func(*memkv.Config) {})
}

func newSceneWith(t *testing.T, seed uint64, hosts int, change func(*memkv.Config)) *scene {
	w := simclock.NewWorld(seed)
	cfg := memkv.Config{Clock: w.Clock(), Rand: w.Rand}
	change(&cfg)
	s := &scene{T: t, w: w, srv: memkv.NewServer(cfg)}
	t.Cleanup(func() { w.Close(s.clks...) })
	for i := range hosts {
		s.hosts = append(s.hosts, s.boot(string(rune('a'+i))))
	}
	return s
}

// boot starts a life of the host of that name.
func (s *scene) boot(name string) *host {
	clk := s.w.Host(name, simclock.Skew{Offset: time.Duration(name[0]) * time.Hour})
	s.clks = append(s.clks, clk)
	h := &host{name: name, clk: clk, st: s.srv.Handle(name, clk)}
	h.id.UUID = uuid(name)
	h.c = cluster.Open(h.st, clk, slog.New(slog.DiscardHandler))
	return h
}

// keep starts the host's lease.
func (h *host) keep() { h.ka = h.c.KeepAlive(cluster.Alive{Host: h.id, CPUs: 2, Sandbox: "full"}) }

// do runs f as a task of h and returns when it has ended.
func (s *scene) do(h *host, f func()) {
	s.Helper()
	done := false
	h.clk.Go(func() { f(); done = true })
	if !s.w.RunUntil(func() bool { return done }, s.w.Now()+3*time.Hour) {
		s.Fatalf("the task did not end: %v", s.w)
	}
}

// run lets d pass.
func (s *scene) run(d time.Duration) { s.w.Run(s.w.Now() + d) }

// until runs until f holds and fails if that takes longer than d; it returns
// how long it took.
func (s *scene) until(what string, d time.Duration, f func() bool) time.Duration {
	s.Helper()
	begun := s.w.Now()
	if !s.w.RunUntil(f, begun+d) {
		s.Fatalf("%s did not happen within %v", what, d)
	}
	return s.w.Now() - begun
}

func (s *scene) kind(err error, want holdfast.Kind) {
	s.Helper()
	if !holdfast.IsKind(err, want) {
		s.Errorf("%v, want an error of kind %q", err, want)
	}
}

func (s *scene) ok(err error) {
	s.Helper()
	if err != nil {
		s.Errorf("%v", err)
	}
}

// uuid is an identifier made of a name.
func uuid(name string) (u holdfast.UUID) {
	copy(u[:], fmt.Sprintf("%-16s", name))
	return u
}

func hostRecord(name, rack string) cluster.Host {
	return cluster.Host{ID: holdfast.HostID{UUID: uuid(name)}, Name: name,
		Domain: holdfast.FaultDomain{Rack: rack}, Addr: "127.0.0.1:1", CertKey: "key of " + name}
}

func volume(name string) cluster.Volume {
	return cluster.Volume{ID: holdfast.VolumeID{UUID: uuid(name)}, Name: name,
		Blocks: 1024, Copies: 2, Min: 1, Durability: cluster.OnFlush}
}

func vm(name string) cluster.VM {
	return cluster.VM{ID: holdfast.VMID{UUID: uuid(name)}, Name: name, CPUs: 1, MemoryMiB: 64,
		Power: cluster.On, Isolation: cluster.IsolationPause}
}
