package baddays

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/diary"
)

// isolation is a lab with a network of its own and guests whose machines are
// listened to at each host by itself.
type isolation struct {
	*scene
	d      *diary.Diary
	vms    []string
	serves map[string]int // the hosts' own processes: nothing here restarts one
}

// newIsolation brings such a lab up; with no response named, one VM for each.
func newIsolation(t *testing.T, racks int, responses ...string) *isolation {
	t.Helper()
	needs(t, "qemu-system-x86_64")
	if err := lab.CanNetns(); err != nil {
		t.Skipf("not tested: %v", err)
	}
	i := &isolation{scene: newLabOf(t, lab.Options{Racks: racks, PerRack: 1, DiskSize: lab.DefaultDiskSize, Netns: true}), serves: map[string]int{}}
	i.importProbe()
	c := client.Socket(i.l.Hosts[0].Socket())
	defer c.Close()
	for n, r := range responses {
		name := fmt.Sprintf("%s-%d", r, n+1)
		if _, err := c.CreateVM(t.Context(), v1.VMSpec{Name: name, Image: "probe", MemoryMiB: 32, Isolation: r}); err != nil {
			t.Fatal(err)
		}
		i.vms = append(i.vms, name)
	}
	i.d = diary.Follow(i.l, i.vms...)
	t.Cleanup(i.d.Close)
	tellStops(t)
	for _, h := range i.l.Hosts {
		i.serves[h.Name] = i.servePID(h)
	}
	i.settled()
	return i
}

// tellStops logs when this machine itself stood still, which explains pauses that
// nothing else does.
func tellStops(t *testing.T) {
	const every, much = 100 * time.Millisecond, time.Second
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		last := time.Now()
		for {
			select {
			case <-ended:
				return
			case <-time.After(every):
			}
			if now := time.Now(); now.Sub(last) > much {
				t.Logf("until %s this test itself did not run for %.1f s", now.UTC().Format(time.TimeOnly), now.Sub(last).Seconds())
			}
			last = time.Now()
		}
	})
	t.Cleanup(func() { close(ended); watch.Wait() })
}

// in is the lab in a subtest.
func (i *isolation) in(t *testing.T) *isolation {
	j := *i
	j.scene = i.as(t)
	return &j
}

// settled waits until nothing is wrong and every guest writes; it is how every
// part begins and ends. It returns the VMs.
func (i *isolation) settled() map[string]v1.VM {
	i.t.Helper()
	out := map[string]v1.VM{}
	for _, h := range i.l.Hosts { // each by itself: one that was cut off tells old news for a moment
		only := &scene{t: i.t, l: &lab.Lab{Hosts: []lab.Host{h}}}
		only.until("host "+h.Name+" to see all others", func() (bool, string) {
			st, err := only.status()
			return err == nil && st.CanLose.Unknown == "" && st.Counts.HostsAlive == len(i.l.Hosts), fmt.Sprint(st.Sentence, err)
		})
	}
	for _, name := range i.vms {
		vm := i.running(name, 0)
		i.writesOn(name, vm.Host)
		i.inSync(name)
		out[name] = vm
	}
	i.whole()
	i.oneMachine(len(i.vms))
	i.good()
	return out
}

// good ends the test if something happened that never must.
func (i *isolation) good() {
	i.t.Helper()
	if w := i.d.Wrong(); len(w) > 0 {
		i.t.Fatalf("VM %s", strings.Join(w, "; VM "))
	}
	for _, h := range i.l.Hosts {
		if now := i.servePID(h); now != i.serves[h.Name] {
			i.t.Fatalf("the process of host %s was %d and is %d: a healthy host was restarted", h.Name, i.serves[h.Name], now)
		}
	}
}

// writesOn waits until a VM's machine on a host, or on any with "", has flushed
// more than anybody had.
func (i *isolation) writesOn(vm, host string) {
	i.t.Helper()
	was := i.d.Flushed(vm)
	i.until("VM "+vm+" to write", func() (bool, string) {
		i.t.Helper()
		if w := i.d.Wrong(); len(w) > 0 {
			i.t.Fatalf("VM %s", strings.Join(w, "; VM "))
		}
		b, _ := i.d.On(vm, host)
		if host == "" {
			b.Last = i.d.Flushed(vm)
		}
		return b.Last > was+20, fmt.Sprintf("it has flushed %d, before it was %d", b.Last, was)
	})
}

func (i *isolation) cut(what string) {
	i.t.Helper()
	if err := i.l.Cut(what); err != nil {
		i.t.Fatal(err)
	}
}

func (i *isolation) heal() {
	i.t.Helper()
	if err := i.l.Heal(""); err != nil {
		i.t.Fatal(err)
	}
}

// said is what a VM's own host says its machine does, whoever hears it.
func (i *isolation) said(vm v1.VM, want string) {
	i.t.Helper()
	c := client.Socket(i.host(vm.Host).Socket())
	defer c.Close()
	i.until("the machine of VM "+vm.Name+" to be "+want+" on host "+vm.Host, func() (bool, string) {
		now, err := c.VM(i.t.Context(), vm.Name)
		if err != nil || now.Machine == nil {
			return false, fmt.Sprint(err)
		}
		return now.Machine.State == want, now.Machine.State
	})
}

// verifyAll has every guest verify all of its disk.
func (i *isolation) verifyAll() {
	i.t.Helper()
	for _, name := range i.vms {
		boots := len(i.d.Bouts(name))
		if out, code := i.run(i.anyHost(), nil, "vm", "reset", name); code != 0 {
			i.t.Fatal(out)
		}
		i.until("VM "+name+" to verify its disk", func() (bool, string) {
			all := i.d.Bouts(name)
			return len(all) > boots && all[len(all)-1].Verified != nil, fmt.Sprintf("%d boots", len(all))
		})
	}
	i.good()
}

// stayed checks that a VM's machine is the one it was.
func (i *isolation) stayed(before v1.VM) {
	i.t.Helper()
	now := i.running(before.Name, 0)
	if now.Machine.PID != before.Machine.PID || now.Assigned != before.Assigned || now.Host != before.Host {
		i.t.Errorf("VM %s was process %d on host %s (assignment %d) and is %d on %s (%d)", before.Name,
			before.Machine.PID, before.Host, before.Assigned, now.Machine.PID, now.Host, now.Assigned)
	}
}

// TestIsolation cuts all racks off from each other, so that nobody can take
// anything over: every isolation response does what it says, and when the racks
// are connected again guests go on where they stood.
func TestIsolation(t *testing.T) {
	t.Parallel()
	i := newIsolation(t, 3, "pause", "off", "leave")
	i.everybodyAlone()
	i.verifyAll()
}

func (i *isolation) everybodyAlone() {
	i.t.Helper()
	before := i.settled()
	for _, r := range []string{"a", "b", "c"} {
		i.cut(r)
	}
	for name, vm := range before {
		response, _, _ := strings.Cut(name, "-")
		i.said(vm, map[string]string{"pause": "paused", "off": "off", "leave": "running"}[response])
	}
	i.heal()
	after := i.settled()
	for name, vm := range before {
		if strings.HasPrefix(name, "off") {
			if after[name].Machine.PID == vm.Machine.PID {
				i.t.Errorf("VM %s is to be powered off by a host that is cut off, and its machine is the one it was", name)
			}
			continue
		}
		i.stayed(vm)
	}
}

// long skips what takes too long for every test run.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("HOLDFAST_ISOLATION") == "" {
		t.Skip("not tested: it takes minutes; 'make isolation' does")
	}
}

// during is how long the longest troubles last.
func during(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("HOLDFAST_ISOLATION"))
	if err != nil {
		t.Fatalf("HOLDFAST_ISOLATION says for how long a link flaps, such as 10m: %v", err)
	}
	return d
}

// TestRacksAreCutOff cuts the rack of each VM off, so that it is taken over:
// whatever the response, one machine writes.
func TestRacksAreCutOff(t *testing.T) {
	long(t)
	t.Parallel()
	all := newIsolation(t, 3, "pause", "off", "leave")
	for _, name := range all.vms {
		t.Run(name, func(t *testing.T) {
			i := all.in(t)
			before := i.settled()
			vm := before[name]
			i.cut(vm.Rack)
			moved := i.outside(vm.Rack).running(name, vm.Assigned+1)
			i.writesOn(name, moved.Host)
			if name != "leave-3" {
				i.said(vm, map[string]string{"pause-1": "paused", "off-2": "off"}[name])
				i.stoodFirst(name, vm.Host, moved.Host)
			}
			i.heal()
			after := i.settled()
			for other, was := range before {
				want := was.Assigned
				if was.Rack == vm.Rack {
					want++
				}
				if after[other].Assigned != want {
					t.Errorf("VM %s was assigned %d times", other, after[other].Assigned-was.Assigned)
				}
			}
		})
	}
	all.verifyAll()
}

// stoodFirst checks that the machine of a VM on one host was held before the one
// on another ran, by what both hosts say in their logs.
func (i *isolation) stoodFirst(vm, from, to string) {
	i.t.Helper()
	held, ran := i.logged(from, "this host is cut off", vm), i.logged(to, "machine running", vm)
	if !held.Before(ran) {
		i.t.Errorf("VM %s was held on host %s at %v, after it ran on host %s at %v", vm, from, held, to, ran)
	}
	i.t.Logf("VM %s was held on host %s %.2f s before it ran on host %s", vm, from, ran.Sub(held).Seconds(), to)
}

// logged is when a host last said something of a VM.
func (i *isolation) logged(host, msg, vm string) (at time.Time) {
	i.t.Helper()
	b, err := os.ReadFile(i.host(host).Log())
	if err != nil {
		i.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "msg=\""+msg+"\"") && strings.Contains(line+" ", " vm="+vm+" ") {
			when, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
			if at, err = time.Parse(time.RFC3339Nano, when); err != nil {
				i.t.Fatal(err)
			}
		}
	}
	if at.IsZero() {
		i.t.Fatalf("host %s has not said %q of VM %s", host, msg, vm)
	}
	return at
}

// outside is the lab without a rack, whose hosts may not know the present.
func (i *isolation) outside(rack string) *scene {
	part := *i.l
	part.Hosts = slices.DeleteFunc(slices.Clone(part.Hosts), func(h lab.Host) bool { return h.Rack == rack })
	return &scene{t: i.t, l: &part}
}

// TestHalfOfANetwork cuts what is between racks in one way only, or a part of it.
// While it lasts somebody must be able to run each VM, and afterwards everything
// must be as it was.
func TestHalfOfANetwork(t *testing.T) {
	long(t)
	t.Parallel()
	all := newIsolation(t, 3, "pause", "pause", "leave")
	// W is the rack of the first VM, R that of the other copy of its disk, X the third.
	for _, c := range []string{"W>*", "R>W X>W", "W>R", "R>W", "W-R", "W:data", "W:kv", "W-R:data", "W>R:data", "R>W:data", "W>*:kv", "X>W:kv R>W:kv", "X", "X>*"} {
		t.Run(c, func(t *testing.T) {
			i := all.in(t)
			before := i.settled()
			w := before[i.vms[0]].Rack
			r := i.otherCopy(i.vms[0], w)
			x := i.other(w, r)
			for _, what := range strings.Fields(strings.NewReplacer("W", w, "R", r, "X", x).Replace(c)) {
				i.cut(what)
			}
			begun := time.Now()
			for _, name := range i.vms {
				i.writesOn(name, "")
			}
			// Long enough for leases to end and for what was taken over to be
			// taken back, if that is what happens.
			time.Sleep(max(0, 25*time.Second-time.Since(begun)))
			for _, name := range i.vms {
				i.writesOn(name, "")
			}
			i.heal()
			after := i.settled()
			i.tellPauses(begun)
			for name, was := range before {
				if n := after[name].Assigned - was.Assigned; n > 1 {
					t.Errorf("VM %s was moved %d times", name, n)
				} else if n == 1 {
					t.Logf("VM %s was moved from host %s to %s", name, was.Host, after[name].Host)
				}
			}
		})
	}
	all.verifyAll()
}

// otherCopy is the rack of the copy of a VM's disk that is not in a rack.
func (i *isolation) otherCopy(vm, rack string) string {
	i.t.Helper()
	for _, r := range i.inSync(vm).Replicas {
		if r.Rack != rack {
			return r.Rack
		}
	}
	i.t.Fatalf("the disk of VM %s has no copy outside of rack %s", vm, rack)
	return ""
}

// tellPauses logs for how long each guest could not write.
func (i *isolation) tellPauses(since time.Time) {
	for _, name := range i.vms {
		worst, last := time.Duration(0), time.Time{}
		for _, b := range i.d.Bouts(name) {
			if !last.IsZero() && b.FirstAt.After(since) {
				worst = max(worst, b.FirstAt.Sub(last))
			}
			if b.PauseAt.After(since.Add(-time.Second)) {
				worst = max(worst, b.Pause)
			}
			if !b.LastAt.IsZero() {
				last = b.LastAt
			}
		}
		i.t.Logf("VM %s could not write for %.1f s at most", name, worst.Seconds())
	}
}

// TestALinkFlaps connects a rack badly for a long time: its cable works for
// moments. What was moved needlessly is counted.
func TestALinkFlaps(t *testing.T) {
	long(t)
	t.Parallel()
	i := newIsolation(t, 3, "pause", "pause", "pause", "pause")
	before := i.settled()
	rack := before[i.vms[0]].Rack
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	begun, downs, down := time.Now(), 0, time.Duration(0)
	for time.Since(begun) < during(t) {
		i.cut(rack)
		d := 200*time.Millisecond + time.Duration(rng.Int64N(int64(2500*time.Millisecond)))
		time.Sleep(d)
		i.heal()
		downs, down = downs+1, down+d
		time.Sleep(300*time.Millisecond + time.Duration(rng.Int64N(int64(4*time.Second))))
		i.good()
	}
	after := i.settled()
	moves := int64(0)
	for name, was := range before {
		n := after[name].Assigned - was.Assigned
		moves += n
		if n > 0 {
			t.Logf("VM %s was moved %d times: %s", name, n, after[name].Came)
		}
	}
	i.tellPauses(begun)
	fails := i.failOvers(begun)
	t.Logf("seed %d: the link of rack %s was down %d times in %v, for %v in all; needless fail-overs: %d, of %d VMs together", seed, rack, downs, time.Since(begun).Round(time.Second), down.Round(time.Second), fails, moves)
	if fails > 1 {
		t.Errorf("%d needless fail-overs; at most 1 is allowed", fails)
	}
	i.verifyAll()
}

// failOvers counts how often VMs were given to other hosts since some time; those
// of one rack are given away together.
func (i *isolation) failOvers(since time.Time) (n int) {
	i.t.Helper()
	all, err := ask(i.scene, func(ctx context.Context, c *client.Client) ([]v1.Incident, error) { return c.Incidents(ctx) })
	if err != nil {
		i.t.Fatal(err)
	}
	var at []time.Time
	for _, inc := range all {
		for _, s := range inc.Steps {
			if s.What == "assigned" && s.At.After(since) {
				at = append(at, s.At)
			}
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	for k, when := range at {
		if k == 0 || when.Sub(at[k-1]) > 10*time.Second {
			n++
		}
	}
	return n
}

// TestTheControlPlaneIsAway has the hosts reach each other's replicas and not the
// control plane, which has no majority anywhere: guests write on for as long as
// it takes.
func TestTheControlPlaneIsAway(t *testing.T) {
	long(t)
	t.Parallel()
	i := newIsolation(t, 3, "pause", "off", "leave")
	before := i.settled()
	for _, r := range []string{"a", "b", "c"} {
		i.cut(r + ":kv")
	}
	begun := time.Now()
	for time.Since(begun) < during(t) {
		for _, name := range i.vms {
			i.writesOn(name, before[name].Host)
		}
		i.good()
		time.Sleep(time.Second)
	}
	i.tellPauses(begun)
	for _, name := range i.vms {
		if n := len(i.d.Bouts(name)); n != 1 {
			t.Errorf("VM %s booted %d times", name, n)
		}
	}
	i.heal()
	i.settled()
	for _, vm := range before {
		i.stayed(vm)
	}
	i.verifyAll()
}
