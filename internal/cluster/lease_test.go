package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

// founded is a scene whose hosts are members with leases.
func founded(t *testing.T, seed uint64, hosts int) *scene {
	return found(newScene(t, seed, hosts))
}

func found(s *scene) *scene {
	hosts := len(s.hosts)
	for i, h := range s.hosts {
		s.do(h, func() {
			rec := hostRecord(h.name, "rack-"+h.name)
			if i == 0 {
				s.ok(h.c.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: uuid("x")}, Name: "x"}, rec))
				return
			}
			tx := h.c.Begin()
			tx.PutHost(rec, 0)
			_, err := tx.Commit()
			s.ok(err)
		})
		h.keep()
	}
	s.until("everybody seeing everybody", 5*time.Second, func() bool { return s.seen(hosts) })
	return s
}

// seen reports whether every living host sees n hosts alive.
func (s *scene) seen(n int) bool {
	for _, h := range s.hosts {
		if !h.clk.Dead() && len(h.c.State().Alive) != n {
			return false
		}
	}
	return true
}

func TestALostHostIsNoticedAndNotTooSoon(t *testing.T) {
	s := founded(t, 1, 3)
	s.run(30 * time.Second)
	if !s.seen(3) {
		t.Fatal("a healthy host was given up")
	}
	s.hosts[2].clk.Kill()
	took := s.until("the loss of c", 6*time.Second, func() bool { return s.seen(2) })
	if took < cluster.LeaseTTL-cluster.RenewEvery-100*time.Millisecond {
		t.Errorf("given up after %v", took)
	}
	c := s.boot("c")
	s.hosts = append(s.hosts, c)
	c.keep()
	s.until("the return of c", 5*time.Second, func() bool { return s.seen(3) })
	s.run(10 * time.Second) // the old life's lease must not take the new one's word away
	if !s.seen(3) {
		t.Error("the old life's lease ended the new life")
	}
}

func TestACutOffHostKnowsBeforeTheClusterDoes(t *testing.T) {
	for seed := range uint64(60) {
		s := found(newSceneWith(t, seed, 3, func(c *memkv.Config) {
			c.MinLatency, c.MaxLatency = time.Millisecond, 700*time.Millisecond
		}))
		c := s.hosts[2]
		s.run(time.Duration(seed) * 130 * time.Millisecond)
		s.srv.Cut("c", true, seed%2 == 0)
		var knew, given time.Duration
		s.until("both", time.Minute, func() bool {
			if knew == 0 && !c.ka.Valid() {
				knew = s.w.Now()
			}
			if items, _ := s.srv.Peek("holdfast/2/alive/" + c.id.String()); given == 0 && len(items) == 0 {
				given = s.w.Now()
			}
			return knew > 0 && given > 0
		})
		if knew > given {
			t.Errorf("seed %d: c was given up at %v and held itself alive until %v", seed, given, knew)
		}
		s.srv.Cut("c", false, false)
		s.until("c's return", 30*time.Second, func() bool { return s.seen(3) && c.ka.Valid() })
	}
}

func TestANewLeaseCountsFromBeforeItWasAskedFor(t *testing.T) {
	s := newSceneWith(t, 1, 1, func(c *memkv.Config) { c.MinLatency, c.MaxLatency = 500*time.Millisecond, time.Second })
	a := s.hosts[0]
	a.keep()
	s.until("a lease", 10*time.Second, func() bool { return a.ka.Lease() != 0 })
	if at, ok := a.ka.Confirmed(); !ok || a.clk.Now()-at < time.Second {
		t.Errorf("answered after a second at least, but counted from %v ago", a.clk.Now()-at)
	}
}

// A host that lost its lease and has a new one may have been given up in between:
// its picture counts only once it is younger than its first word under the new one.
func TestANewLeaseIsNoWordAboutAnOldPicture(t *testing.T) {
	s := founded(t, 3, 3)
	c := s.hosts[2]
	s.run(5 * time.Second)
	age := func() time.Duration {
		at, ok := c.ka.Standing()
		if !ok {
			t.Fatal("nothing was ever confirmed")
		}
		return c.clk.Now() - at
	}
	if a := age(); a > 2*cluster.RenewEvery {
		t.Fatalf("confirmed %v ago on a healthy host", a)
	}
	s.srv.Cut("c", true, true)
	s.until("c's loss", 10*time.Second, func() bool { return len(s.hosts[0].c.State().Alive) == 2 })
	lost := c.clk.Now()
	s.srv.BreakWatches() // its picture stays as it was for a while
	s.srv.Cut("c", false, false)
	for range 1000 {
		s.run(10 * time.Millisecond)
		before := c.clk.Now()-age() < lost
		if st := c.c.State(); !before && !st.AliveHost(c.id) {
			t.Fatalf("confirmed by a picture in which it is lost (revision %d)", st.Rev)
		}
		if !before {
			return
		}
	}
	t.Error("a lease that was granted anew never counts")
}

func TestLostMessagesCostNobodyItsLease(t *testing.T) {
	s := found(newSceneWith(t, 1, 3, func(c *memkv.Config) { c.LoseReply, c.LoseRequest = 0.01, 0.01 }))
	for range 3000 {
		s.run(100 * time.Millisecond)
		for _, h := range s.hosts {
			if !h.ka.Valid() {
				t.Fatalf("%s lost its lease at %v", h.name, s.w.Now())
			}
		}
	}
}

// A cut of 2.3 s leaves a lease with time to spare, whenever it begins: what was
// asked meanwhile is lost, and is asked again at once when the link is back.
func TestAShortCutLeavesALeaseTimeToSpare(t *testing.T) {
	const spare = 250 * time.Millisecond
	s := founded(t, 5, 3)
	c := s.hosts[2]
	for n := range 40 {
		s.run(5*time.Second + time.Duration(n)*53*time.Millisecond)
		s.srv.Cut("c", true, n%2 == 0)
		s.run(2300 * time.Millisecond)
		s.srv.Cut("c", false, false)
		for range 200 {
			if left := c.ka.Left(); left < spare {
				t.Fatalf("cut %d left the lease %v", n, left)
			}
			s.run(10 * time.Millisecond)
		}
	}
}

func TestALeaderChangeCostsNobodyItsLease(t *testing.T) {
	s := founded(t, 2, 3)
	for range 10 {
		s.srv.ChangeLeader(3 * time.Second)
		for range 50 {
			s.run(100 * time.Millisecond)
			if !s.seen(3) {
				t.Fatal("a host was given up")
			}
		}
	}
}

func TestWhatAHostSaysIsPublished(t *testing.T) {
	s := founded(t, 3, 2)
	a, b := s.hosts[0], s.hosts[1]
	a.ka.Update(func(x *cluster.Alive) {
		x.Conditions = append(x.Conditions, cluster.Condition{ID: "disk-slow/d1", Severity: "warning"})
	})
	s.until("b reading a's condition", 3*time.Second, func() bool { return len(b.c.State().Alive[a.id].Val.Conditions) == 1 })
	s.do(a, a.ka.Stop)
	s.until("the end of the lease that a stopped host leaves behind", cluster.LeaseTTL+2*time.Second, func() bool { return len(b.c.State().Alive) == 1 })
	s.do(a, a.c.Close)
}

func TestThereIsOneLeaderAndAnotherWhenItIsLost(t *testing.T) {
	for seed := range uint64(10) {
		s := founded(t, seed, 3)
		var el []*cluster.Election
		for _, h := range s.hosts {
			el = append(el, h.c.Campaign(h.ka, h.id))
		}
		leader := -1
		find := func() bool {
			for i, e := range el {
				if _, ok := e.Leading(); ok && !s.hosts[i].clk.Dead() && i != leader {
					leader = i
					return true
				}
			}
			return false
		}
		s.until("an election", 10*time.Second, find)
		old := leader
		mod, _ := el[old].Leading()
		s.hosts[old].clk.Kill()
		s.until("the next election", 15*time.Second, find)
		h := s.hosts[leader]
		s.do(h, func() {
			mod2, _ := el[leader].Leading()
			tx := h.c.Begin()
			tx.AsLeader(mod)
			tx.PutVM(vm("m1"), 0)
			_, err := tx.Commit()
			s.kind(err, holdfast.Conflict) // decided under the former leader
			tx = h.c.Begin()
			tx.AsLeader(mod2)
			tx.PutVM(vm("m1"), 0)
			_, err = tx.Commit()
			s.ok(err)
			tx = h.c.Begin()
			tx.AsLeader(0)
			_, err = tx.Commit()
			s.kind(err, holdfast.Fenced)
		})
		s.do(h, el[leader].Stop)
		gone := leader
		s.until("the third election", 10*time.Second, func() bool {
			i := 3 - old - gone
			_, ok := el[i].Leading()
			return ok
		})
	}
}

func TestAJoinCodeAdmitsOneHostOnce(t *testing.T) {
	s := founded(t, 4, 1)
	a := s.hosts[0]
	hash := strings.Repeat("ab", 32)
	s.do(a, func() {
		s.kind(a.c.Join(hash, hostRecord("b", "r2")), holdfast.Denied)
		s.kind(a.c.Join("../x", hostRecord("b", "r2")), holdfast.Denied)
		_, err := a.c.CreateJoinCode("short", "", 0)
		s.kind(err, holdfast.Invalid)
		_, err = a.c.CreateJoinCode(hash, "r2", 0)
		s.ok(err)
		codes, err := a.c.JoinCodes()
		if err != nil || len(codes) != 1 || codes[0].Rack != "r2" {
			t.Errorf("codes: %v %v", codes, err)
		}
		s.kind(a.c.Join(hash, hostRecord("b", "r3")), holdfast.Denied)
		taken := hostRecord("b", "r2")
		taken.Name = "a"
		s.kind(a.c.Join(hash, taken), holdfast.Exists)
		s.ok(a.c.Join(hash, hostRecord("b", "r2")))
		s.kind(a.c.Join(hash, hostRecord("c", "r2")), holdfast.Denied)
		st, err := a.c.Refresh()
		if s.ok(err); len(st.Hosts) != 2 {
			t.Errorf("%d hosts", len(st.Hosts))
		}
		_, err = a.c.CreateJoinCode(hash, "", 0)
		s.ok(err)
		stolen := hostRecord("b", "r2")
		stolen.CertKey = "another key"
		s.kind(a.c.Join(hash, stolen), holdfast.Exists)
		s.ok(a.c.Join(hash, hostRecord("b", "r2"))) // the same host again, its first answer was lost
		s.kind(a.c.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: uuid("y")}, Name: "y"}, hostRecord("y", "r9")), holdfast.Exists)
	})
}

func TestAJoinCodeExpiresAndCanBeRevoked(t *testing.T) {
	s := founded(t, 5, 1)
	a := s.hosts[0]
	h1, h2 := strings.Repeat("01", 32), strings.Repeat("02", 32)
	s.do(a, func() {
		for _, h := range []string{h1, h2} {
			_, err := a.c.CreateJoinCode(h, "", 0)
			s.ok(err)
		}
		s.ok(a.c.RevokeJoinCode(h2))
		s.kind(a.c.RevokeJoinCode(h2), holdfast.NotFound)
		s.kind(a.c.Join(h2, hostRecord("b", "r2")), holdfast.Denied)
		clock.Sleep(a.clk, 61*time.Minute)
		s.kind(a.c.Join(h1, hostRecord("b", "r2")), holdfast.Denied)
	})
}

func TestTwoHostsWithOneCodeAndOneGetsIn(t *testing.T) {
	for seed := range uint64(20) {
		s := founded(t, seed, 2)
		hash := strings.Repeat("cd", 32)
		s.do(s.hosts[0], func() { _, err := s.hosts[0].c.CreateJoinCode(hash, "", 0); s.ok(err) })
		errs := map[string]error{}
		for i, name := range []string{"p", "q"} {
			h := s.hosts[i]
			h.clk.Go(func() { errs[name] = h.c.Join(hash, hostRecord(name, "r2")) })
		}
		s.until("both answers", time.Minute, func() bool { return len(errs) == 2 })
		if (errs["p"] == nil) == (errs["q"] == nil) {
			t.Errorf("seed %d: %v", seed, errs)
		}
	}
}

func TestNeverTwoLeadersWhileTheLeaderIsCutOff(t *testing.T) {
	for seed := range uint64(20) {
		s := founded(t, seed, 3)
		var el []*cluster.Election
		for _, h := range s.hosts {
			el = append(el, h.c.Campaign(h.ka, h.id))
		}
		leading := func() (who []string) {
			for i, e := range el {
				if _, ok := e.Leading(); ok {
					who = append(who, s.hosts[i].name)
				}
			}
			return who
		}
		s.until("an election", 10*time.Second, func() bool { return len(leading()) == 1 })
		for _, replies := range []bool{true, false, true} {
			old := leading()[0]
			s.srv.Cut(old, true, replies)
			s.until("another leader", 30*time.Second, func() bool {
				who := leading()
				if len(who) > 1 {
					t.Fatalf("seed %d: %v lead at once", seed, who)
				}
				return len(who) == 1 && who[0] != old
			})
			s.srv.Cut(old, false, false)
			s.run(3 * time.Second)
			if who := leading(); len(who) != 1 {
				t.Fatalf("seed %d: after the cut %v lead", seed, who)
			}
		}
	}
}

func TestAHostThatRestartsAtOnceTakesItsOfficeBack(t *testing.T) {
	s := founded(t, 1, 2)
	a := s.hosts[0]
	a.c.Campaign(a.ka, a.id)
	s.until("an election", 10*time.Second, func() bool { return s.hosts[1].c.State().Leader == a.id })
	old := s.hosts[1].c.State().LeaderLease
	a.clk.Kill()
	a = s.boot("a")
	a.keep()
	e := a.c.Campaign(a.ka, a.id)
	s.until("a leading again", 3*time.Second, func() bool { _, ok := e.Leading(); return ok })
	if got := a.c.State().LeaderLease; got == old || got != a.ka.Lease() {
		t.Errorf("it leads under lease %d; the old life's is %d, its own %d", got, old, a.ka.Lease())
	}
	s.until("the new lease", time.Second, func() bool { return s.hosts[1].c.State().LeaderLease != old })
	s.run(10 * time.Second)
	if _, ok := e.Leading(); !ok {
		t.Error("the old life's lease took the office away")
	}
}
