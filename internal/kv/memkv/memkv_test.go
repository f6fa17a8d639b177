package memkv_test

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/kvtest"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a world with a server.
type scene struct {
	*testing.T
	w     *simclock.World
	srv   *memkv.Server
	hosts []*simclock.Host
}

func newScene(t *testing.T, seed uint64, change func(*memkv.Config)) *scene {
	w := simclock.NewWorld(seed)
	cfg := memkv.Config{Clock: w.Clock(), Rand: w.Rand}
	if change != nil {
		change(&cfg)
	}
	s := &scene{T: t, w: w, srv: memkv.NewServer(cfg)}
	t.Cleanup(func() { w.Close(s.hosts...) })
	return s
}

func (s *scene) host(name string, skew simclock.Skew) (*simclock.Host, *memkv.Handle) {
	h := s.w.Host(name, skew)
	s.hosts = append(s.hosts, h)
	return h, s.srv.Handle(name, h)
}

// do runs f as a task of c.
func (s *scene) do(c clock.Clock, f func()) {
	s.Helper()
	done := false
	c.Go(func() { f(); done = true })
	if !s.w.RunUntil(func() bool { return done }, s.w.Now()+time.Hour) {
		s.Fatalf("the task did not end: %v", s.w)
	}
}

func TestConformance(t *testing.T) {
	s := newScene(t, 1, nil)
	h, st := s.host("a", simclock.Skew{Offset: time.Hour, Drift: 0.001})
	kvtest.Run(t, kvtest.Harness{
		Clock: h,
		Do:    func(f func()) { s.do(h, f) },
		Dial: func() kv.Store {
			defer func() { st = s.srv.Handle("a", h) }()
			return st
		},
		Compact: func() error { s.srv.Compact(); return nil },
	})
}

// history runs clients against a server that suffers, and returns what
// happened as text.
func linear(t *testing.T, seed uint64) (map[holdfast.Kind]int, string) {
	s := newScene(t, seed, func(c *memkv.Config) { c.LoseReply, c.LoseRequest = 0.02, 0.02 })
	l := &kvtest.Linear{Clock: s.w.Clock(), Dir: "lin/"}
	for i := range 4 {
		h, st := s.host(fmt.Sprint("h", i), simclock.Skew{})
		h.Go(func() { l.Client(st, i, 25, s.w.Rand(fmt.Sprint("client", i)), 200*time.Millisecond) })
	}
	s.w.Clock().Go(func() {
		for _, f := range []func(){
			func() { s.srv.SetDown(true) }, func() { s.srv.SetDown(false) },
			func() { s.srv.Cut("h0", false, true) }, func() { s.srv.Cut("h0", false, false) },
			func() { s.srv.ChangeLeader(time.Second) }, func() { s.srv.Cut("h1", true, true) },
			func() { s.srv.Cut("h1", false, false) },
		} {
			clock.Sleep(s.w.Clock(), 300*time.Millisecond)
			f()
		}
	})
	s.w.Run(5 * time.Minute)
	kinds := l.Check(t)
	return kinds, fmt.Sprint(kinds, l.History())
}

func TestLinearizableThroughOutages(t *testing.T) {
	total := map[holdfast.Kind]int{}
	for seed := range uint64(20) {
		kinds, _ := linear(t, seed)
		for k, n := range kinds {
			total[k] += n
		}
	}
	for _, k := range []holdfast.Kind{holdfast.Other, holdfast.Conflict, holdfast.Unknown, holdfast.Unavailable} {
		if total[k] == 0 {
			t.Errorf("no commit ended as %q: the test does not test", k)
		}
	}
}

func TestSameSeedSameHistory(t *testing.T) {
	_, a := linear(t, 7)
	_, b := linear(t, 7)
	_, c := linear(t, 8)
	if a != b {
		t.Error("two runs of one seed differ")
	}
	if a == c {
		t.Error("another seed gives the same history")
	}
}

func TestUnknownCommitMayApplyAfterItsCallerGaveUp(t *testing.T) {
	var late, never int
	for seed := range uint64(40) {
		s := newScene(t, seed, nil)
		h, st := s.host("a", simclock.Skew{})
		s.srv.SetDown(true)
		var err error
		s.do(h, func() { _, err = st.Commit(nil, []kv.Op{{Key: "k"}}) })
		s.srv.SetDown(false)
		var items []kv.Item
		s.do(h, func() { items, _, _ = st.Range("k") })
		switch {
		case holdfast.IsKind(err, holdfast.Unavailable) && len(items) > 0:
			t.Errorf("seed %d: %v, but it was applied", seed, err)
		case holdfast.IsKind(err, holdfast.Unknown) && len(items) > 0:
			late++
		case holdfast.IsKind(err, holdfast.Unknown):
			never++
		}
	}
	if late == 0 || never == 0 {
		t.Errorf("of the commits with an unknown outcome %d were applied later and %d never; want some of each", late, never)
	}
}

func TestLeasesOutliveALeaderChange(t *testing.T) {
	s := newScene(t, 3, nil)
	h, st := s.host("a", simclock.Skew{})
	var id, idle kv.LeaseID
	s.do(h, func() { id, _ = st.Grant(4 * time.Second); idle, _ = st.Grant(4 * time.Second) })
	s.w.Run(s.w.Now() + 3500*time.Millisecond)
	s.srv.ChangeLeader(2 * time.Second) // over the time when the lease would have ended
	s.w.Run(s.w.Now() + 5*time.Second)
	s.do(h, func() {
		if err := st.Renew(id); err != nil {
			t.Errorf("3 s after the end of the change of leader: %v", err)
		}
	})
	s.w.Run(s.w.Now() + 3*time.Second)
	s.do(h, func() {
		if err := st.Renew(idle); !holdfast.IsKind(err, holdfast.NotFound) {
			t.Errorf("6 s after that end, never renewed: %v, want the lease to have ended", err)
		}
		st.Renew(id)
	})
	s.w.Run(s.w.Now() + 5*time.Second)
	s.do(h, func() {
		if err := st.Renew(id); !holdfast.IsKind(err, holdfast.NotFound) {
			t.Errorf("5 s after the last renewal: %v, want the lease to have ended", err)
		}
	})
}

func TestAWatchOfACutHostBreaksAndMissesNothingSilently(t *testing.T) {
	s := newScene(t, 4, nil)
	a, sta := s.host("a", simclock.Skew{})
	b, stb := s.host("b", simclock.Skew{})
	var w kv.Watcher
	s.do(a, func() { w = sta.Watch("", 1); w.Next(100 * time.Millisecond) })
	s.srv.Cut("a", true, true)
	s.do(b, func() { stb.Commit(nil, []kv.Op{{Key: "k"}}) })
	s.srv.Cut("a", false, false)
	s.do(a, func() {
		evs, err := w.Next(10 * time.Second)
		if !holdfast.IsKind(err, holdfast.Unavailable) {
			t.Errorf("after a cut the watch says %v %v, want kind unavailable", evs, err)
		}
	})
}

func TestADeadHostsWatchDoesNotGrowForEver(t *testing.T) {
	s := newScene(t, 5, nil)
	a, sta := s.host("a", simclock.Skew{})
	b, stb := s.host("b", simclock.Skew{})
	s.do(a, func() { sta.Watch("", 1) })
	s.w.Run(s.w.Now() + time.Second)
	a.Kill()
	s.srv.Handle("a", s.w.Host("a", simclock.Skew{}))
	s.do(b, func() {
		for range 10 {
			stb.Commit(nil, []kv.Op{{Key: "k"}})
		}
	})
	if n := s.srv.Watches(); n != 0 {
		t.Errorf("%d watches of dead lives are kept", n)
	}
}
