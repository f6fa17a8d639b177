package ha_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// TestPropertyAnyHistory lets hosts come and go, leaders change and VMs fail at
// random, and checks every change by the rules; then everybody comes back and
// everything must come to run and to be mended.
func TestPropertyAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := newStage()
		st.check = func(before *cluster.State, c ha.Change) { checkChange(t, before, c) }
		hosts := drawSite(t, st)
		st.start, st.resync = time.Second, 3*time.Second
		st.run(st.now + rapid.SampledFrom([]time.Duration{0, 5 * time.Second, 12 * time.Second}).Draw(t, "calm"))
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			disturb(t, st, hosts)
			st.run(st.now + time.Duration(rapid.IntRange(0, 40).Draw(t, "tenths"))*100*time.Millisecond*time.Duration(rapid.SampledFrom([]int{1, 1, 20}).Draw(t, "pace")))
		}
		for _, h := range hosts {
			st.do(t, "return "+h)
		}
		st.run(st.now + 10*time.Minute)
		checkWhole(t, st)
		if strings.Contains(st.out.String(), "does not come to rest") {
			t.Fatal(st.out.String())
		}
	})
}

func (st *stage) do(t *rapid.T, line string) {
	t.Logf("%6.1fs %s", st.now.Seconds(), line)
	if err := st.c.Do(line); err != nil {
		t.Fatal(err)
	}
}

// drawSite draws a cluster in which everything fits on any two racks.
func drawSite(t *rapid.T, st *stage) (hosts []string) {
	racks := rapid.IntRange(2, 5).Draw(t, "racks")
	for r := range racks {
		for i := range rapid.IntRange(1, 2).Draw(t, "hosts") {
			name := fmt.Sprintf("%c%d", 'a'+r, i+1)
			hosts = append(hosts, name)
			st.do(t, fmt.Sprintf("host %s rack=%c voter", name, 'a'+r))
		}
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "vms") {
		at := rapid.SliceOfNDistinct(rapid.SampledFrom(hosts), 2, 2, rapid.ID[string]).Draw(t, "copies")
		st.do(t, fmt.Sprintf("volume v%d in-sync=%s writer=%s", i, strings.Join(at, ","), at[0]))
		st.do(t, fmt.Sprintf("vm v%d volume=v%d host=%s running priority=%d", i, i, at[0], i%3))
	}
	return hosts
}

func disturb(t *rapid.T, st *stage, hosts []string) {
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0, 1, 2, 3:
		st.do(t, "lose "+rapid.SampledFrom(hosts).Draw(t, "host"))
	case 4, 5, 6:
		st.do(t, "return "+rapid.SampledFrom(hosts).Draw(t, "host"))
	case 7:
		st.do(t, "lose rack "+rapid.SampledFrom(hosts).Draw(t, "rack of")[:1])
	case 8:
		t.Logf("%6.1fs another leads", st.now.Seconds())
		st.leader, st.follower = st.follower, ha.New(ha.Config{})
	case 9:
		t.Logf("%6.1fs another leads that has seen nothing", st.now.Seconds())
		st.leader, st.follower = ha.New(ha.Config{}), ha.New(ha.Config{})
	}
}

// checkChange checks one change against the picture it is made on.
func checkChange(t *rapid.T, before *cluster.State, c ha.Change) {
	for _, rec := range c.Volumes {
		checkVolumeChange(t, before, c, before.Volumes[rec.Val.ID].Val, rec.Val)
	}
	perHost := map[holdfast.HostID]int{}
	for _, rec := range c.VMs {
		old := before.VMs[rec.Val.ID].Val
		perHost[rec.Val.Host]++
		_, up := before.Alive[rec.Val.Host]
		_, oldUp := before.Alive[old.Host]
		m := before.Machines[old.ID].Val
		switch {
		case rec.Val.Generation != old.Generation+1:
			t.Fatalf("VM %s goes from generation %d to %d", old.Name, old.Generation, rec.Val.Generation)
		case !up:
			t.Fatalf("VM %s is given to a host that is away", old.Name)
		case oldUp && m.Generation == old.Generation && m.State == "running":
			t.Fatalf("VM %s runs on a living host and is moved", old.Name)
		}
		vol := before.Volumes[old.Volume].Val
		if _, writerUp := before.Alive[vol.Writer]; !vol.Writer.IsZero() && !writerUp {
			t.Fatalf("VM %s is to start before volume %s is cut from its lost writer", old.Name, vol.Name)
		}
	}
	for h, n := range perHost {
		if n > 4 {
			t.Fatalf("host %v is to start %d VMs at once", h, n)
		}
	}
}

func checkVolumeChange(t *rapid.T, before *cluster.State, c ha.Change, old, now cluster.Volume) {
	if fmt.Sprint(old.InSync) != fmt.Sprint(now.InSync) {
		t.Fatalf("volume %s: the in-sync set is changed by %s", old.Name, c.What)
	}
	switch c.What {
	case ha.Cut:
		_, up := before.Alive[old.Writer]
		if up || now.Epoch != old.Epoch+1 || !now.Writer.IsZero() || len(placement.Look(before).InSync(old)) == 0 {
			t.Fatalf("volume %s is cut against the rules", old.Name)
		}
	case ha.Rebuild:
		added := now.Others[len(now.Others)-1]
		for _, r := range append(old.InSync, old.Others...) {
			if r.Host == added.Host {
				t.Fatalf("volume %s gets a second copy on one host", old.Name)
			}
		}
		fallthrough
	default:
		if now.Epoch != old.Epoch || now.Writer != old.Writer {
			t.Fatalf("volume %s: %s touches the writer", old.Name, c.What)
		}
	}
}

// checkWhole checks that everything runs and is mended.
func checkWhole(t *rapid.T, st *stage) {
	s := st.c.State()
	v := placement.Look(s)
	for _, vm := range v.VMs {
		m := s.Machines[vm.ID].Val
		if m.State != "running" || m.Generation != vm.Generation || !v.Up(vm.Host) {
			t.Fatalf("VM %s does not run in the end\n%s", vm.Name, st.out.String())
		}
	}
	for _, vol := range v.Volumes {
		if len(v.InSync(vol)) < vol.Copies || len(vol.Others) > 0 {
			t.Fatalf("volume %s has %d copies and %d others in the end\n%s", vol.Name, len(v.InSync(vol)), len(vol.Others), st.out.String())
		}
	}
	for _, rec := range s.SortedIncidents() {
		if rec.Val.Closed == nil {
			t.Fatalf("incident %s is open in the end\n%s", rec.Val.ID, st.out.String())
		}
	}
}
