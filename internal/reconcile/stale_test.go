package reconcile_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
	"github.com/holdfast-cloud/holdfast/internal/reconcile"
)

// blind is a cluster whose picture has stopped: it shows what was last true for
// it, while its commits go through.
type blind struct {
	*cluster.Client
	s *cluster.State
}

func (b *blind) State() *cluster.State                  { return b.s }
func (b *blind) Refresh() (*cluster.State, error)       { return b.s, nil }
func (b *blind) WaitRev(_ kv.Rev, _ time.Duration) bool { return false }

// sure is an office that its holder believes in, whatever is true.
type sure struct{ mod kv.Rev }

func (o sure) Leading() (kv.Rev, bool) { return o.mod, true }

// runLoop lets a loop run by itself on a cluster, for a while.
func (s *site) runLoop(c reconcile.Cluster, o reconcile.Office, d time.Duration) {
	clk := s.w.Host("loop", simclock.Skew{})
	s.all = append(s.all, clk)
	var l *reconcile.Loop
	clk.Go(func() {
		l = reconcile.Start(reconcile.Options{Clock: clk, Cluster: c, Office: o,
			Rand: randReader{s.w.Rand("loop")}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	})
	s.w.Run(s.w.Now() + d)
	clk.Go(l.Stop)
	s.w.Run(s.w.Now() + 5*time.Second)
}

// still is a site with records and no hosts: nobody else acts.
func still(t *testing.T, lines string) *site {
	s := newSite(t, 1, nil, "")
	pic, err := sketch.Draw(lines)
	if err != nil {
		t.Fatal(err)
	}
	s.start = pic.State()
	s.do(s.record)
	s.w.Run(s.w.Now() + time.Second)
	return s
}

const lostWriter = `
host a1 rack=a
host b1 rack=b
volume db1 in-sync=a1,b1 writer=a1
vm db1 volume=db1 host=a1
`

// lifeOf publishes what a host says of itself, as its agent would.
func (s *site) lifeOf(name string) *cluster.KeepAlive {
	ka := s.user.KeepAlive(s.start.Alive[sketch.Host(name)].Val)
	s.until(5*time.Second, name+" is alive", func(st *cluster.State) bool { return st.AliveHost(sketch.Host(name)) })
	return ka
}

func (s *site) elect() (mod kv.Rev) {
	ka := s.lifeOf("b1")
	s.user.Campaign(ka, sketch.Host("b1"))
	s.until(10*time.Second, "b1 leads", func(st *cluster.State) bool { return st.Leader == sketch.Host("b1") })
	return s.user.State().LeaderMod
}

func TestALoopThatLeadsActs(t *testing.T) {
	s := still(t, lostWriter)
	mod := s.elect()
	s.runLoop(s.user, sure{mod}, 30*time.Second)
	if s.vm("db1").Host != sketch.Host("b1") {
		t.Fatalf("db1 was not moved\n%s", s.timeline())
	}
	s.checkTimeline()
}

func TestADeposedLeaderThatBelievesInItselfChangesNothing(t *testing.T) {
	s := still(t, lostWriter)
	mod := s.elect()
	s.runLoop(s.user, sure{mod - 1}, 30*time.Second)
	if len(s.user.State().Incidents) != 0 || s.vm("db1").Generation != 1 {
		t.Errorf("it did\n%s", s.timeline())
	}
}

func TestAHostThatIsBackIsNotCutOnAnOldPicture(t *testing.T) {
	s := still(t, lostWriter)
	mod := s.elect()
	old := s.user.State()
	s.lifeOf("a1")
	s.runLoop(&blind{s.user, old}, sure{mod}, 30*time.Second)
	if v := s.user.State().Volumes[sketch.Volume("db1")].Val; v.Epoch != 1 {
		t.Errorf("the volume of a living host was cut\n%s", s.timeline())
	}
}
