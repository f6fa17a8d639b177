package reconcile_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

const fiveRacks = `
host a1 rack=a voter
host b1 rack=b voter
host b2 rack=b
host c1 rack=c voter
host d1 rack=d
volume v1 in-sync=a1,b1 writer=a1
volume v2 in-sync=b2,c1 writer=b2
volume v3 in-sync=c1,d1 writer=c1
vm v1 volume=v1 host=a1 running priority=2
vm v2 volume=v2 host=b2 running
vm v3 volume=v3 host=c1 running
vm free host=d1 running
`

// TestAnyWeather kills, freezes, cuts off and restores hosts and the control
// plane at random; when the weather has passed, everything must run and be
// mended.
func TestAnyWeather(t *testing.T) {
	seeds := uint64(25)
	if testing.Short() {
		seeds = 5
	}
	incidents, moved := 0, 0
	for seed := range seeds {
		s := newSite(t, seed, func(c *memkv.Config) { c.LoseReply = 0.01 }, fiveRacks)
		s.weather(12)
		s.w.Run(s.w.Now() + 5*time.Minute)
		if !s.calm() {
			t.Fatalf("seed %d (go test -run TestAnyWeather ./internal/reconcile): not everything is well again\n%s", seed, s.timeline())
		}
		incidents += len(s.user.State().Incidents)
		moved += len(s.started)
	}
	t.Logf("%d seeds, %d incidents, %d restarts", seeds, incidents, moved)
	if incidents == 0 || moved == 0 {
		t.Error("the weather was too fine to prove anything")
	}
}

func (s *site) weather(storms int) {
	names := []string{"a1", "b1", "b2", "c1", "d1"}
	r := s.w.Rand("weather")
	for range storms {
		name := names[r.IntN(len(names))]
		h := s.hosts[name]
		switch r.IntN(8) {
		case 0, 1, 2:
			h.clk.Kill()
		case 3:
			h.clk.Pause()
		case 4:
			h.clk.Resume()
		case 5:
			s.srv.Cut(name, r.IntN(2) == 0, r.IntN(2) == 0)
		case 6:
			s.srv.SetDown(true)
		case 7:
			s.srv.ChangeLeader(2 * time.Second)
		}
		s.w.Run(s.w.Now() + time.Duration(r.IntN(8000))*time.Millisecond)
		s.srv.SetDown(false)
		if name := names[r.IntN(len(names))]; s.hosts[name].clk.Dead() && r.IntN(2) == 0 {
			s.power(name)
		}
	}
	for _, name := range names {
		s.srv.Cut(name, false, false)
		s.hosts[name].clk.Resume()
		if s.hosts[name].clk.Dead() {
			s.power(name)
		}
	}
}

// calm reports whether every VM runs, every volume has its copies, nothing more
// than it needs, and every incident is closed.
func (s *site) calm() bool {
	s.Helper()
	st := s.user.State()
	v := placement.Look(st)
	ok := true
	for _, vm := range v.VMs {
		m := st.Machines[vm.ID].Val
		if m.State != "running" || m.Generation != vm.Generation || m.Host != vm.Host || !v.Up(vm.Host) {
			s.Errorf("VM %s does not run on %s: %s, generation %d of %d", vm.Name, v.HostName(vm.Host), m.State, m.Generation, vm.Generation)
			ok = false
		}
	}
	for _, vol := range v.Volumes {
		if len(v.InSync(vol)) < vol.Copies || len(vol.Others) > 0 {
			s.Errorf("volume %s has %d copies in sync and %d others", vol.Name, len(v.InSync(vol)), len(vol.Others))
			ok = false
		}
	}
	for _, rec := range st.SortedIncidents() {
		if rec.Val.Closed == nil {
			s.Errorf("incident %s is open", rec.Val.ID)
			ok = false
		}
	}
	return ok && s.oneStartEach()
}

// oneStartEach reports whether no agent started a generation that another had
// started before: every assignment is to one host.
func (s *site) oneStartEach() bool {
	s.Helper()
	seen := map[string]string{}
	for _, st := range s.started {
		key := fmt.Sprintf("%s %d", st.vm, st.generation)
		if by, ok := seen[key]; ok && by != st.host {
			s.Errorf("VM %s generation %d was started by %s and by %s", st.vm, st.generation, by, st.host)
			return false
		}
		seen[key] = st.host
	}
	return true
}

// started is one start by an imitated agent.
type started struct {
	vm, host   string
	generation int64
}
