package placement_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

// anyCluster draws a small cluster of unlike hosts, with volumes and VMs.
func anyCluster(t *rapid.T) *cluster.State {
	var b strings.Builder
	var hosts []string
	racks := rapid.IntRange(1, 5).Draw(t, "racks")
	flag := func(name string, oneIn int) string {
		if rapid.IntRange(1, oneIn).Draw(t, name) == 1 {
			return " " + name
		}
		return ""
	}
	for r := range racks {
		rack := string(rune('a' + r))
		for i := range rapid.IntRange(1, 3).Draw(t, "hosts") {
			name := fmt.Sprintf("%s%d", rack, i+1)
			hosts = append(hosts, name)
			fmt.Fprintf(&b, "host %s rack=%s cpus=%d mem=%d free=%d%s%s%s%s\n", name, rack,
				rapid.IntRange(1, 8).Draw(t, "cpus"), rapid.IntRange(1, 16).Draw(t, "mem")*1024,
				rapid.IntRange(0, 100).Draw(t, "free"), flag("voter", 2), flag("down", 6), flag("drained", 8), flag("disk-error=io", 10))
		}
	}
	some := func(what string, most int) string {
		picked := rapid.SliceOfNDistinct(rapid.SampledFrom(hosts), 0, min(most, len(hosts)), rapid.ID[string]).Draw(t, what)
		return strings.Join(picked, ",")
	}
	volumes := rapid.IntRange(0, 5).Draw(t, "volumes")
	for i := range volumes {
		fmt.Fprintf(&b, "volume v%d size=%d copies=%d min=%d in-sync=%s\n", i, rapid.IntRange(1, 60).Draw(t, "size"),
			rapid.IntRange(1, 3).Draw(t, "copies"), rapid.IntRange(1, 2).Draw(t, "min"), some("in-sync", 3))
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "vms") {
		fmt.Fprintf(&b, "vm m%d cpus=%d mem=%d priority=%d%s", i, rapid.IntRange(1, 8).Draw(t, "vcpus"),
			rapid.IntRange(1, 8).Draw(t, "vmem")*512, rapid.IntRange(0, 2).Draw(t, "priority"), flag("off", 6))
		if volumes > 0 && rapid.Bool().Draw(t, "has volume") {
			fmt.Fprintf(&b, " volume=v%d", rapid.IntRange(0, volumes-1).Draw(t, "volume"))
		}
		if h := some("host", 1); h != "" {
			fmt.Fprintf(&b, " host=%s running", h)
		}
		b.WriteString("\n")
	}
	c, err := sketch.Draw(b.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	return c.State()
}

func TestPropertyVolumesArePlacedByTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyCluster(t)
		blocks := uint64(rapid.IntRange(1, 90).Draw(t, "GiB")) * gibBlocks
		copies := rapid.IntRange(1, 4).Draw(t, "copies")
		spots, why := placement.PlaceVolume(s, blocks, copies, placement.Constraints{})
		again, _ := placement.PlaceVolume(s, blocks, copies, placement.Constraints{})
		if !reflect.DeepEqual(spots, again) {
			t.Fatal("the same picture gave two placements")
		}
		hosts, racks := map[holdfast.HostID]bool{}, map[holdfast.FaultDomain]bool{}
		for _, sp := range spots {
			if hosts[sp.Host] {
				t.Fatalf("two copies on one host: %s", why)
			}
			hosts[sp.Host], racks[s.RackOf(sp.Host)] = true, true
			if reason := unfit(s, sp.Host, sp.Disk, blocks); reason != "" {
				t.Fatalf("on a disk that %s: %s", reason, why)
			}
		}
		fitHosts, fitRacks := fitting(s, blocks)
		if want := min(copies, fitHosts); len(spots) != want {
			t.Fatalf("%d copies placed, %d could be: %s", len(spots), want, why)
		}
		if want := min(copies, fitRacks); len(racks) != want {
			t.Fatalf("%d racks used, %d could be: %s", len(racks), want, why)
		}
		if (why.Short == "") != (len(racks) == copies) {
			t.Fatalf("%d copies in %d racks, and it says %q", copies, len(racks), why.Short)
		}
		for _, r := range why.Rejected {
			if r.Reason == "" {
				t.Fatalf("%s was turned down without a reason", r.What)
			}
		}
	})
}

// unfit is the rule again, written differently: why a disk may not take a copy.
func unfit(s *cluster.State, h holdfast.HostID, d holdfast.DiskID, blocks uint64) string {
	alive, ok := s.Alive[h]
	if !ok || s.Hosts[h].Val.Drained {
		return "stands on a host that is away or drained"
	}
	for _, u := range alive.Val.Disks {
		if u.Disk == d {
			switch {
			case u.Error != "":
				return "is broken"
			case u.Free*100 <= u.Total*15:
				return "is full"
			case int64(blocks)*holdfast.BlockSize*100 > u.Total*85:
				return "is too small"
			}
			return ""
		}
	}
	return "is not there"
}

func fitting(s *cluster.State, blocks uint64) (hosts, racks int) {
	seen := map[holdfast.FaultDomain]bool{}
	for id := range s.Hosts {
		if unfit(s, id, diskOf(s, id), blocks) == "" {
			hosts++
			seen[s.RackOf(id)] = true
		}
	}
	return hosts, len(seen)
}

// TestPropertyAYesIsNeverFalse checks every yes with an independent reckoning:
// what the plan says is carried out on the picture, and nothing is missing.
func TestPropertyAYesIsNeverFalse(t *testing.T) {
	yes, no := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := anyCluster(t)
		p := placement.FailoverPlan(s)
		if !reflect.DeepEqual(p, placement.FailoverPlan(s)) {
			t.Fatal("the same picture gave two plans")
		}
		for _, l := range append(p.Racks, p.Hosts...) {
			checkPlan(t, s, l)
			if len(l.Reasons()) > 0 {
				no++
				continue
			}
			yes++
			checkYes(t, s, l)
		}
	})
	if yes == 0 || no == 0 {
		t.Errorf("%d times yes and %d times no: the clusters drawn are too much alike", yes, no)
	}
}

// checkPlan checks that a plan keeps to the room there is, and accounts for
// every VM that it takes away.
func checkPlan(t *rapid.T, s *cluster.State, l placement.Loss) {
	lost := map[holdfast.HostID]bool{}
	for _, h := range l.Lost {
		lost[h] = true
	}
	cpus, mem := map[holdfast.HostID]int{}, map[holdfast.HostID]int{}
	planned := map[holdfast.VMID]bool{}
	use := func(vm cluster.VM, h holdfast.HostID) {
		cpus[h] += vm.CPUs
		mem[h] += vm.MemoryMiB + placement.VMOverheadMiB
	}
	for _, rec := range s.VMs {
		if rec.Val.Power == cluster.On && !lost[rec.Val.Host] {
			use(rec.Val, rec.Val.Host)
		}
	}
	for _, r := range l.Restarts {
		planned[r.VM] = true
		_, alive := s.Alive[r.To]
		if lost[r.To] || !alive || s.Hosts[r.To].Val.Drained {
			t.Fatalf("loss of %s: VM %s would restart on a host that cannot take it", l.Name, r.Name)
		}
		before := struct{ c, m int }{cpus[r.To], mem[r.To]}
		use(s.VMs[r.VM].Val, r.To)
		a := s.Alive[r.To].Val
		if cpus[r.To] > a.CPUs*placement.CPUOvercommit && cpus[r.To] > before.c || mem[r.To] > a.MemoryMiB {
			t.Fatalf("loss of %s: host is given more than it has by VM %s", l.Name, r.Name)
		}
	}
	for _, u := range l.Unplaced {
		planned[u.VM] = true
		if u.Reason == "" {
			t.Fatalf("VM %s stays down without a reason", u.Name)
		}
	}
	for id, rec := range s.VMs {
		_, up := s.Alive[rec.Val.Host]
		if rec.Val.Power == cluster.On && up && lost[rec.Val.Host] && !planned[id] && canStart(s, rec.Val) {
			t.Fatalf("loss of %s: VM %s is forgotten", l.Name, rec.Val.Name)
		}
	}
}

// checkYes reckons what is left after the loss.
func checkYes(t *rapid.T, s *cluster.State, l placement.Loss) {
	lost := map[holdfast.HostID]bool{}
	for _, h := range l.Lost {
		lost[h] = true
	}
	holds := func(r cluster.Replica) bool {
		a, ok := s.Alive[r.Host]
		return ok && len(a.Val.Disks) == 1 && a.Val.Disks[0].Disk == r.Disk && a.Val.Disks[0].Error == ""
	}
	for _, rec := range s.Volumes {
		had, left := 0, 0
		for _, r := range rec.Val.InSync {
			if holds(r) {
				had++
				if !lost[r.Host] {
					left++
				}
			}
		}
		if had > left && (left == 0 || left < rec.Val.Min) {
			t.Fatalf("it says that %s can be lost, but volume %s would have %d copies left", l.Name, rec.Val.Name, left)
		}
	}
	voters, left, gone := 0, 0, 0
	for id, h := range s.Hosts {
		if !h.Val.Voter {
			continue
		}
		voters++
		if _, ok := s.Alive[id]; ok && !lost[id] {
			left++
		} else if ok {
			gone++
		}
	}
	if gone > 0 && 2*left <= voters {
		t.Fatalf("it says that %s can be lost, but %d of %d voters would be left", l.Name, left, voters)
	}
	if len(l.Unplaced) > 0 {
		t.Fatalf("it says that %s can be lost, but VMs stay down", l.Name)
	}
}

func TestPropertyVMsAreNeverPlacedWhereTheyDoNotFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyCluster(t)
		for id, rec := range s.VMs {
			h, why := placement.PlaceVM(s, rec.Val, placement.VMOptions{})
			if h2, _ := placement.PlaceVM(s, rec.Val, placement.VMOptions{}); h2 != h {
				t.Fatal("the same picture gave two hosts")
			}
			for _, r := range why.Rejected {
				if r.Reason == "" {
					t.Fatalf("%s was turned down without a reason", r.What)
				}
			}
			if h.IsZero() {
				if len(why.Rejected) != len(s.Hosts) || why.Short == "" {
					t.Fatalf("VM %v placed nowhere, and not every host has a reason: %s", id, why)
				}
				continue
			}
			if _, ok := s.Alive[h]; !ok || s.Hosts[h].Val.Drained {
				t.Fatalf("on a host that is away or drained: %s", why)
			}
		}
	})
}

func diskOf(s *cluster.State, h holdfast.HostID) (d holdfast.DiskID) {
	for _, u := range s.Alive[h].Val.Disks {
		d = u.Disk
	}
	return d
}

// canStart reports whether a VM's volume, if it has one, has a copy to use.
func canStart(s *cluster.State, vm cluster.VM) bool {
	rec, ok := s.Volumes[vm.Volume]
	return vm.Volume.IsZero() || ok && len(placement.Look(s).InSync(rec.Val)) > 0
}
