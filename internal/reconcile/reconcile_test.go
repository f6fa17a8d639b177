package reconcile_test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
	"github.com/holdfast-cloud/holdfast/internal/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a simulated cluster: real kv, client, election and loop on every
// host, and an imitated agent that starts what its host is assigned.
type site struct {
	*testing.T
	w       *simclock.World
	srv     *memkv.Server
	hosts   map[string]*host
	all     []*simclock.Host
	user    *cluster.Client
	start   *cluster.State  // the sketch that the site began as
	started []started       // by the agents
	log     strings.Builder // of the loops
}

type host struct {
	name     string
	clk      *simclock.Host
	client   *cluster.Client
	election *cluster.Election
	loop     *reconcile.Loop
	voters   *voters
}

// voters is a control plane that takes its time, and refuses a few times first.
type voters struct {
	clk    clock.Clock
	refuse int
	done   []string
}

func (v *voters) Promote(h cluster.Host) error {
	if v.refuse > 0 {
		v.refuse--
		return holdfast.Errorf(holdfast.Unavailable, "host %s has not caught up yet", h.Name)
	}
	clock.Sleep(v.clk, time.Second)
	v.done = append(v.done, h.Name)
	return nil
}

func (v *voters) Retire(h cluster.Host) error {
	clock.Sleep(v.clk, time.Second)
	v.done = append(v.done, "-"+h.Name)
	return nil
}

type randReader struct{ r *rand.Rand }

func (r randReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.r.Uint32())
	}
	return len(p), nil
}

// newSite sets up the cluster that lines describe, and lets it find its feet.
func newSite(t *testing.T, seed uint64, change func(*memkv.Config), lines string) *site {
	pic, err := sketch.Draw(lines)
	if err != nil {
		t.Fatal(err)
	}
	w := simclock.NewWorld(seed)
	cfg := memkv.Config{Clock: w.Clock(), Rand: w.Rand}
	s := &site{T: t, w: w, hosts: map[string]*host{}, start: pic.State()}
	s.srv = memkv.NewServer(cfg)
	t.Cleanup(func() { w.Close(s.all...) })
	if change != nil {
		change(&cfg)
		s.srv = memkv.NewServer(cfg)
	}
	s.user = s.newClient("user", w.Clock())
	s.do(func() { s.record() })
	for _, h := range placement.Look(s.start).Hosts {
		s.power(h.Name)
	}
	w.Run(w.Now() + 15*time.Second)
	return s
}

func (s *site) newClient(name string, clk clock.Clock) *cluster.Client {
	return cluster.Open(s.srv.Handle(name, clk), clk, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// do runs f as a task of the world.
func (s *site) do(f func()) {
	s.Helper()
	done := false
	s.w.Clock().Go(func() { f(); done = true })
	if !s.w.RunUntil(func() bool { return done }, s.w.Now()+time.Hour) {
		s.Fatalf("the task did not end: %v", s.w)
	}
}

// record writes the sketch into the cluster.
func (s *site) record() {
	v := placement.Look(s.start)
	t := s.user.Begin()
	for _, h := range v.Hosts {
		t.PutHost(h.Host, 0)
	}
	for _, d := range s.start.Disks {
		t.PutDisk(d.Val, 0)
	}
	for _, vol := range v.Volumes {
		t.PutVolume(vol, 0)
	}
	for _, vm := range v.VMs {
		t.PutVM(vm, 0)
		if m, ok := s.start.Machines[vm.ID]; ok {
			t.PutMachine(m.Val, 0)
		}
	}
	if _, err := t.Settle(time.Minute); err != nil {
		s.Error(err)
	}
}

// power gives a host a (new) life.
func (s *site) power(name string) {
	clk := s.w.Host(name, simclock.Skew{Offset: time.Duration(len(name)) * time.Minute})
	s.all = append(s.all, clk)
	h := &host{name: name, clk: clk, client: s.newClient(name, clk), voters: &voters{clk: clk}}
	s.hosts[name] = h
	a := s.start.Alive[sketch.Host(name)].Val
	clk.Go(func() {
		ka := h.client.KeepAlive(a)
		h.election = h.client.Campaign(ka, sketch.Host(name))
		h.loop = reconcile.Start(reconcile.Options{Clock: clk, Cluster: h.client, Office: h.election, Voters: h.voters,
			Rand: randReader{s.w.Rand("replicas/" + name)}, Log: slog.New(slog.NewTextHandler(&s.log, nil))})
		s.agent(h)
	})
}

// agent opens and starts what its host is assigned, and takes in what is being
// built, like a quick agent on an empty disk.
func (s *site) agent(h *host) {
	ev := h.clk.NewEvent()
	h.client.Subscribe(ev)
	for {
		ev.Wait(time.Second)
		st := h.client.State()
		v := placement.Look(st)
		for _, vm := range v.VMs {
			m := st.Machines[vm.ID]
			if vm.Power != cluster.On || vm.Host != sketch.Host(h.name) || m.Val.Generation == vm.Generation {
				continue
			}
			s.startVM(h, v, vm, m)
		}
		for _, vol := range v.Volumes {
			s.takeIn(h, v, vol)
		}
	}
}

func (s *site) startVM(h *host, v *placement.View, vm cluster.VM, m cluster.Versioned[cluster.Machine]) {
	t := h.client.Begin()
	vols, _ := v.VolumesOf(vm)
	for _, vol := range vols {
		mod := v.State.Volumes[vol.ID].Mod
		vol.Epoch++
		vol.Writer = vm.Host
		in := v.InSync(vol)
		for _, r := range vol.InSync {
			if !slices.Contains(in, r) {
				vol.Others = append(slices.Clone(vol.Others), r)
			}
		}
		vol.InSync = in
		t.PutVolume(vol, mod)
	}
	t.PutMachine(cluster.Machine{VM: vm.ID, Host: vm.Host, Generation: vm.Generation, State: "running"}, m.Mod)
	if rev, err := t.Settle(5 * time.Second); err == nil {
		s.started = append(s.started, started{vm.Name, h.name, vm.Generation})
		h.client.WaitRev(rev, time.Second)
	}
}

// takeIn adds to the in-sync set what is being built, if this host writes.
func (s *site) takeIn(h *host, v *placement.View, vol cluster.Volume) {
	i := slices.IndexFunc(vol.Others, v.Usable)
	if vol.Writer != sketch.Host(h.name) || i < 0 {
		return
	}
	mod := v.State.Volumes[vol.ID].Mod
	vol.InSync = append(slices.Clone(vol.InSync), vol.Others[i])
	vol.Others = slices.Delete(slices.Clone(vol.Others), i, i+1)
	t := h.client.Begin()
	t.PutVolume(vol, mod)
	if rev, err := t.Commit(); err == nil {
		h.client.WaitRev(rev, time.Second)
	}
}

// until lets the world go on until f holds of the user's picture.
func (s *site) until(limit time.Duration, what string, f func(*cluster.State) bool) time.Duration {
	s.Helper()
	begun := s.w.Now()
	if !s.w.RunUntil(func() bool { return f(s.user.State()) }, begun+limit) {
		s.Fatalf("not within %v: %s\n%s", limit, what, s.timeline())
	}
	return s.w.Now() - begun
}

func (s *site) leader() string {
	return placement.Look(s.user.State()).HostName(s.user.State().Leader)
}

func (s *site) vm(name string) cluster.VM { return s.user.State().VMs[sketch.VM(name)].Val }

func (s *site) timeline() string {
	var b strings.Builder
	for _, rec := range s.user.State().SortedIncidents() {
		fmt.Fprintf(&b, "incident %s, racks %v\n", rec.Val.ID, rec.Val.Racks)
		for _, st := range rec.Val.Steps {
			fmt.Fprintf(&b, "  %s %s: %s\n", st.At.Format("15:04:05.000"), st.What, st.Text)
		}
	}
	return b.String()
}

// checkTimeline fails if a step is told twice.
func (s *site) checkTimeline() {
	s.Helper()
	for _, rec := range s.user.State().SortedIncidents() {
		seen := map[string]bool{}
		for _, st := range rec.Val.Steps {
			k := st.What + st.Text
			if seen[k] {
				s.Errorf("told twice: %s: %s\n%s", st.What, st.Text, s.timeline())
			}
			seen[k] = true
		}
	}
}

func runsOn(vm, host string) func(*cluster.State) bool {
	return func(st *cluster.State) bool {
		rec, m := st.VMs[sketch.VM(vm)].Val, st.Machines[sketch.VM(vm)].Val
		return rec.Host == sketch.Host(host) && m.Generation == rec.Generation && m.State == "running"
	}
}

func mended(st *cluster.State) bool {
	for _, rec := range st.Incidents {
		if rec.Val.Closed == nil {
			return false
		}
	}
	return len(st.Incidents) > 0
}

const threeRacks = `
host a1 rack=a voter
host b1 rack=b peer
host c1 rack=c peer
volume db1 in-sync=a1,b1 writer=a1
volume web in-sync=b1,c1 writer=c1
vm db1 volume=db1 host=a1 running
vm web volume=web host=c1 running
`

func TestTheChangesOfOnePassDoNotCollide(t *testing.T) {
	s := newSite(t, 1, nil, threeRacks+"vm diskless host=a1 running\nvolume spare in-sync=a1,c1 writer=a1")
	s.hosts["a1"].clk.Kill()
	s.until(8*time.Second, "diskless runs on b1", runsOn("diskless", "b1"))
	s.until(time.Minute, "db1 runs on b1", runsOn("db1", "b1"))
	if strings.Contains(s.log.String(), "change not made") {
		t.Errorf("collisions though nobody else changed anything:\n%s", s.log.String())
	}
}

func TestARackDiesAndItsVMRunsWhereItsCopyIs(t *testing.T) {
	s := newSite(t, 1, nil, threeRacks)
	s.hosts["a1"].clk.Kill()
	took := s.until(8*time.Second, "db1 runs on b1", runsOn("db1", "b1"))
	t.Logf("lost to running: %v of simulated time", took)
	s.until(time.Minute, "mended", mended)
	if vol := s.user.State().Volumes[sketch.Volume("db1")].Val; len(vol.InSync) != 2 || len(vol.Others) != 0 {
		t.Errorf("db1 has %d copies in sync and %d others", len(vol.InSync), len(vol.Others))
	}
	if web := s.vm("web"); web.Generation != 1 {
		t.Error("web was touched")
	}
	s.checkTimeline()
	if testing.Verbose() {
		t.Log(s.timeline())
	}
}

func TestTheLeadersRackDies(t *testing.T) {
	for seed := range uint64(5) {
		s := newSite(t, seed, nil, threeRacks)
		lead := s.leader()
		rack := lead[:1]
		s.hosts[lead].clk.Kill()
		s.until(10*time.Second, "another leads", func(st *cluster.State) bool {
			return !st.Leader.IsZero() && st.Leader != sketch.Host(lead)
		})
		for _, vm := range []string{"db1", "web"} {
			if s.start.VMs[sketch.VM(vm)].Val.Host == sketch.Host(lead) {
				s.until(3*time.Second, vm+" moved", func(st *cluster.State) bool {
					rec := st.VMs[sketch.VM(vm)].Val
					return rec.Host != sketch.Host(lead) && st.Machines[sketch.VM(vm)].Val.Generation == rec.Generation
				})
			}
		}
		s.until(time.Minute, "mended after the loss of rack "+rack, mended)
		s.checkTimeline()
	}
}

func TestNothingMovesWhileTheControlPlaneIsAway(t *testing.T) {
	s := newSite(t, 2, nil, threeRacks)
	s.srv.SetDown(true)
	s.w.Run(s.w.Now() + 30*time.Second)
	s.srv.SetDown(false)
	s.w.Run(s.w.Now() + 30*time.Second)
	if n := len(s.user.State().Incidents); n != 0 {
		t.Errorf("%d incidents from an outage of the control plane:\n%s", n, s.timeline())
	}
	if db1 := s.vm("db1"); db1.Generation != 1 {
		t.Error("db1 was moved")
	}
	if len(s.started) != 0 {
		t.Errorf("started %v", s.started)
	}
}

func TestOneAssignmentForEachLossOverABadNetwork(t *testing.T) {
	for seed := range uint64(20) {
		s := newSite(t, seed, func(c *memkv.Config) { c.LoseRequest, c.LoseReply = 0.02, 0.05 }, threeRacks)
		before := s.vm("db1")
		victim := before.Host
		name := placement.Look(s.user.State()).HostName(victim)
		s.hosts[name].clk.Kill()
		s.until(time.Minute, "db1 moved and running", func(st *cluster.State) bool {
			rec := st.VMs[sketch.VM("db1")].Val
			return rec.Host != victim && st.Machines[sketch.VM("db1")].Val.Generation == rec.Generation
		})
		s.w.Run(s.w.Now() + time.Minute)
		s.checkTimeline()
		for _, rec := range s.user.State().SortedIncidents() {
			assigned := 0
			for _, st := range rec.Val.Steps {
				if st.What == ha.Assigned && strings.HasPrefix(st.Text, "db1 ") {
					assigned++
				}
			}
			if assigned > 1 {
				t.Errorf("seed %d: db1 assigned %d times in one incident\n%s", seed, assigned, s.timeline())
			}
		}
	}
}

func TestAUsersChangesAreNeitherLostNorInTheWay(t *testing.T) {
	s := newSite(t, 3, nil, threeRacks)
	edits := 0
	s.w.Clock().Go(func() {
		for edits < 200 {
			st, err := s.user.Refresh()
			if err != nil {
				continue
			}
			rec := st.VMs[sketch.VM("db1")]
			rec.Val.Resets++
			tx := s.user.Begin()
			tx.PutVM(rec.Val, rec.Mod)
			if _, err := tx.Commit(); err == nil {
				edits++
			}
			clock.Sleep(s.w.Clock(), 30*time.Millisecond)
		}
	})
	s.hosts["a1"].clk.Kill()
	s.until(20*time.Second, "db1 runs on b1", runsOn("db1", "b1"))
	s.until(time.Minute, "all edits made", func(*cluster.State) bool { return edits == 200 })
	s.w.Run(s.w.Now() + time.Second)
	if got := s.vm("db1").Resets; got != 200 {
		t.Errorf("%d of 200 edits are left", got)
	}
}

func TestAFrozenLeaderThawsAndChangesNothing(t *testing.T) {
	for seed := range uint64(5) {
		s := newSite(t, seed, nil, threeRacks)
		lead := s.leader()
		s.hosts[lead].clk.Pause()
		s.until(15*time.Second, "another leads", func(st *cluster.State) bool {
			return !st.Leader.IsZero() && st.Leader != sketch.Host(lead)
		})
		s.w.Run(s.w.Now() + 5*time.Second)
		s.hosts[lead].clk.Resume()
		s.until(time.Minute, "mended", mended)
		s.checkTimeline()
		if s.leader() == lead {
			t.Error("the frozen host leads again though another holds the office")
		}
	}
}

func TestAllPowerIsLostAndComesBack(t *testing.T) {
	for seed := range uint64(5) {
		s := newSite(t, seed, nil, threeRacks)
		for _, n := range []string{"a1", "b1", "c1"} {
			s.hosts[n].clk.Kill()
		}
		s.srv.SetDown(true)
		s.w.Run(s.w.Now() + time.Minute)
		s.srv.SetDown(false)
		for i, n := range []string{"c1", "b1", "a1"} {
			s.w.Run(s.w.Now() + time.Duration(i)*2*time.Second)
			s.power(n)
		}
		s.w.Run(s.w.Now() + 30*time.Second)
		if n := len(s.user.State().Incidents); n != 0 {
			t.Errorf("seed %d: %d incidents though every host came back in time\n%s", seed, n, s.timeline())
		}
		if s.vm("db1").Host != sketch.Host("a1") || s.vm("web").Host != sketch.Host("c1") {
			t.Error("a VM was moved though its host came back in time")
		}
	}
}

func TestLearnersBecomeVotersTwoAtATime(t *testing.T) {
	s := newSite(t, 4, nil, threeRacks)
	s.until(time.Minute, "three voters", func(st *cluster.State) bool {
		n := 0
		for _, h := range st.Hosts {
			if h.Val.Voter {
				n++
			}
		}
		return n == 3
	})
	var done []string
	for _, n := range []string{"a1", "b1", "c1"} {
		done = append(done, s.hosts[n].voters.done...)
	}
	if !slices.Equal(done, []string{"b1", "c1"}) {
		t.Errorf("promoted %v", done)
	}
}

// A vote that is one too many goes only after it has been so for a while: a host
// may be about to join.
func TestAVoteTooManyGoesAfterAWhile(t *testing.T) {
	s := newSite(t, 4, nil, "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter")
	gone := s.user.State().Hosts[sketch.Host("c1")]
	s.hosts["c1"].clk.Kill()
	s.until(time.Minute, "rack c is away", func(st *cluster.State) bool { return !st.AliveHost(gone.Val.ID) })
	s.do(func() {
		c := s.user.Begin()
		c.DeleteHost(gone.Val.ID, gone.Mod)
		rev, err := c.Commit()
		if err != nil || !s.user.WaitRev(rev, time.Minute) {
			t.Errorf("the host is not removed: %v", err)
		}
	})
	took := s.until(time.Minute, "one vote", func(st *cluster.State) bool {
		a, b := st.Hosts[sketch.Host("a1")].Val, st.Hosts[sketch.Host("b1")].Val
		return a.Voter != b.Voter && (a.Peer == "") != (b.Peer == "")
	})
	if took < 10*time.Second || took > 14*time.Second {
		t.Errorf("the second vote was taken away after %v of simulated time, want 11 s", took)
	}
}

func TestALearnerThatHasNotCaughtUpIsAskedAgainInASecond(t *testing.T) {
	s := newSite(t, 4, nil, threeRacks)
	lead := s.hosts[s.leader()].voters
	lead.refuse, lead.done = 3, nil
	rec := s.user.State().Hosts[sketch.Host("b1")]
	s.do(func() {
		rec.Val.Voter = false
		c := s.user.Begin()
		c.PutHost(rec.Val, rec.Mod)
		rev, err := c.Commit()
		if err != nil || !s.user.WaitRev(rev, time.Minute) {
			t.Errorf("the record is not there: %v", err)
		}
	})
	took := s.until(time.Minute, "b1 votes", func(st *cluster.State) bool { return st.Hosts[rec.Val.ID].Val.Voter })
	if took < 3*time.Second || took > 5*time.Second {
		t.Errorf("three refusals and a promotion of a second took %v of simulated time, want 4 s", took)
	}
	if !slices.Equal(lead.done, []string{"b1"}) {
		t.Errorf("promoted %v", lead.done)
	}
}

func TestSameSeedSameTimeline(t *testing.T) {
	history := func() string {
		s := newSite(t, 9, func(c *memkv.Config) { c.LoseReply = 0.05 }, threeRacks)
		s.hosts["a1"].clk.Kill()
		s.w.Run(s.w.Now() + time.Minute)
		return s.timeline() + fmt.Sprint(s.user.State().Rev, s.started)
	}
	if a, b := history(), history(); a != b || !strings.Contains(a, "mended") {
		t.Errorf("one seed gave two histories:\n%s\n%s", a, b)
	}
}

func TestStopLeavesNothingRunning(t *testing.T) {
	s := newSite(t, 5, nil, threeRacks)
	for _, n := range []string{"a1", "b1", "c1"} {
		h := s.hosts[n]
		done := false
		h.clk.Go(func() { h.loop.Stop(); h.election.Stop(); done = true })
		s.until(time.Minute, n+" stopped", func(*cluster.State) bool { return done })
	}
	if !s.user.State().Leader.IsZero() {
		s.until(time.Second, "nobody leads", func(st *cluster.State) bool { return st.Leader.IsZero() })
	}
}
