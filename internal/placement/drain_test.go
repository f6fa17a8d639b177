package placement_test

import (
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

// Nothing is drained that is not there, and what is planned for a host that is
// not drained yet is what draining it then does.
func TestADrainIsPlannedAsItIsDone(t *testing.T) {
	c, err := sketch.Draw(`
		host a1 rack=a
		host b1 rack=b mem=3000
		host c1 rack=c mem=3000
		volume db in-sync=a1,c1 writer=a1
		vm db volume=db host=a1 running mem=1024 priority=2
		vm web host=a1 running mem=1024
		vm big host=a1 running mem=2048 priority=0
		vm off host=a1 mem=512 off
		vm else host=b1 running mem=256`)
	if err != nil {
		t.Fatal(err)
	}
	say := func(ms []placement.Move) (out []string) {
		for _, m := range ms {
			to := "nowhere"
			for _, n := range []string{"a1", "b1", "c1"} {
				if m.To == sketch.Host(n) {
					to = n
				}
			}
			out = append(out, m.Name+" "+string(m.Stage)+" "+to)
		}
		return out
	}
	planned := say(placement.Moves(placement.Look(c.State()), nil, sketch.Host("a1")))
	if want := []string{"db waiting c1", "web waiting b1", "big stays nowhere"}; !slices.Equal(planned, want) {
		t.Fatalf("planned %q", planned)
	}
	if now := placement.Moves(placement.Look(c.State()), nil); len(now) != 0 {
		t.Fatalf("nothing is drained, and yet %q", say(now))
	}
	for _, line := range []string{"host a1 drained", "vm web leave"} {
		if err := c.Do(line); err != nil {
			t.Fatal(err)
		}
	}
	if now := say(placement.Moves(placement.Look(c.State()), nil)); !slices.Equal(now, []string{"web leaving c1", "db waiting c1", "big waiting b1"}) { // who is on the way has its place first
		t.Fatalf("drained: %q", now)
	}
	if err := c.Do("lose a1"); err != nil {
		t.Fatal(err)
	}
	if now := placement.Moves(placement.Look(c.State()), nil); len(now) != 0 {
		t.Fatalf("a lost host is drained: %q", say(now))
	}
}

// A volume is whole if its copies can be used now: one on a disk that has
// failed is none, though its host is alive.
func TestAVolumeIsWholeWithTheCopiesThatCanBeUsed(t *testing.T) {
	c, err := sketch.Draw(`
		host a1 rack=a
		host b1 rack=b
		volume db in-sync=a1,b1`)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		line string
		want bool
	}{
		{"volume db copies=3", true}, // there are no hosts for more
		{"host b1 disk-error=worn_out", false},
		{"host b1 disk-error=", true},
		{"lose a1", false},
		{"host c1 rack=c", false},
		{"return a1", false}, // now there is one for a third
		{"volume db copies=2", true},
		{"volume db in-sync=", false},
	} {
		if err := c.Do(step.line); err != nil {
			t.Fatal(err)
		}
		v := placement.Look(c.State())
		if got := v.Whole(v.Volumes[0]); got != step.want {
			t.Errorf("after %q: whole is %v", step.line, got)
		}
	}
}

// That a machine is off is believed if its host has said so since the VM's record was
// last changed: before that it may have been started again.
func TestWhoWasOffBeforeTheLastChangeMayRun(t *testing.T) {
	vm := cluster.VM{ID: holdfast.VMID{UUID: holdfast.UUID{1}}, Host: holdfast.HostID{UUID: holdfast.UUID{2}}, Generation: 3}
	off := cluster.Machine{VM: vm.ID, Host: vm.Host, Generation: 3, State: "off"}
	for _, c := range []struct {
		vm, machine kv.Rev
		change      func(*cluster.Machine)
		want        bool
	}{
		{5, 6, nil, true}, {5, 5, nil, true}, {6, 5, nil, false},
		{5, 6, func(m *cluster.Machine) { m.Generation-- }, false}, {5, 6, func(m *cluster.Machine) { m.State = "running" }, false}, {5, 6, func(m *cluster.Machine) { m.Host = holdfast.HostID{} }, false},
	} {
		m := off
		if c.change != nil {
			c.change(&m)
		}
		st := &cluster.State{VMs: map[holdfast.VMID]cluster.Versioned[cluster.VM]{vm.ID: {Val: vm, Mod: c.vm}}, Machines: map[holdfast.VMID]cluster.Versioned[cluster.Machine]{vm.ID: {Val: m, Mod: c.machine}}}
		if got := placement.IsOff(st, vm); got != c.want {
			t.Errorf("VM of revision %d, machine %+v of %d: off %v", c.vm, m, c.machine, got)
		}
	}
}
