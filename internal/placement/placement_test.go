package placement_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

const gibBlocks = (1 << 30) / holdfast.BlockSize

func draw(t testing.TB, lines string) *cluster.State {
	t.Helper()
	c, err := sketch.Draw(lines)
	if err != nil {
		t.Fatal(err)
	}
	return c.State()
}

func hostsOf(s *cluster.State, spots []placement.Spot) string {
	var out []string
	for _, sp := range spots {
		out = append(out, placement.Look(s).HostName(sp.Host))
	}
	return strings.Join(out, " ")
}

func TestVolumesSpreadOverRacksThenHostsByFreeSpace(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		size        int
		copies      int
		want        string
		short       string // part of what falls short
		rejects     string // part of some reason
	}{
		{name: "two copies in two racks, the emptiest disks", lines: `
			host a1 rack=a free=50
			host a2 rack=a free=70
			host b1 rack=b free=60
			host c1 rack=c free=40`, size: 10, copies: 2, want: "a2 b1"},
		{name: "space that is promised counts as used", lines: `
			host a1 rack=a
			host b1 rack=b
			host c1 rack=c
			volume thin size=60 in-sync=a1,b1`, size: 10, copies: 1, want: "c1"},
		{name: "fewer racks than copies: distinct hosts, and it says so", lines: `
			host a1 rack=a
			host a2 rack=a free=90
			host b1 rack=b free=50`, size: 1, copies: 3, want: "a1 b1 a2", short: "some share a rack"},
		{name: "racks of one name in two sites are two racks", lines: `
			host a1 rack=a site=x
			host a2 rack=a site=y`, size: 1, copies: 2, want: "a1 a2"},
		{name: "never two copies on one host", lines: `
			host a1 rack=a`, size: 1, copies: 2, want: "a1", short: "2 copies asked for, room on 1 host"},
		{name: "dead, drained, broken and full are passed over with a reason", lines: `
			host a1 rack=a down
			host b1 rack=b drained
			host c1 rack=c disk-error=fsync
			host d1 rack=d free=15
			host e1 rack=e free=16`, size: 1, copies: 2, want: "e1", short: "2 copies asked for, room on 1 host", rejects: "its reserve is 15 GiB"},
		{name: "a volume larger than a disk less its reserve", lines: `
			host a1 rack=a`, size: 86, copies: 1, want: "", short: "1 copy asked for, room on 0 hosts", rejects: "is more than the disk's 100 GiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := draw(t, c.lines)
			spots, why := placement.PlaceVolume(s, uint64(c.size)*gibBlocks, c.copies, placement.Constraints{})
			if got := hostsOf(s, spots); got != c.want {
				t.Errorf("on %q, want %q: %s", got, c.want, why)
			}
			if (why.Short != "") != (c.short != "") || !strings.Contains(why.Short, c.short) {
				t.Errorf("falls short by %q, want %q", why.Short, c.short)
			}
			if !strings.Contains(why.String(), c.rejects) {
				t.Errorf("reasons: %s\nwant: %s", why, c.rejects)
			}
		})
	}
}

func TestImpossibleSizesAreRefused(t *testing.T) {
	s := draw(t, "host a1 rack=a")
	for _, blocks := range []uint64{0, holdfast.MaxVolumeBlocks + 1, 1 << 63} {
		if spots, why := placement.PlaceVolume(s, blocks, 1, placement.Constraints{}); len(spots) != 0 || !strings.Contains(why.Short, "out of range") {
			t.Errorf("%d blocks: %v, %s", blocks, spots, why)
		}
	}
	if spots, _ := placement.PlaceVolume(s, 1, -1, placement.Constraints{}); len(spots) != 0 {
		t.Error("placed a negative number of copies")
	}
}

func TestALinkedCloneStandsWhereItsOriginDoes(t *testing.T) {
	s := draw(t, `
		host a1 rack=a
		host b1 rack=b free=20
		host c1 rack=c free=20`)
	spots, why := placement.PlaceVolume(s, gibBlocks, 2, placement.Constraints{Only: []holdfast.DiskID{sketch.Disk("b1"), sketch.Disk("c1")}})
	if got := hostsOf(s, spots); got != "b1 c1" {
		t.Errorf("on %q: %s", got, why)
	}
}

func TestACloneIsRebuiltBesideWhatItWasClonedFrom(t *testing.T) {
	s := draw(t, `
		host a1 rack=a down
		host b1 rack=b
		host b2 rack=b
		host c1 rack=c
		host d1 rack=d free=40
		volume image in-sync=b1 others=d1 image
		volume clone in-sync=b1 others=a1 origin=image`)
	spot, ok, why := placement.PlaceReplica(s, s.Volumes[sketch.Volume("clone")].Val)
	if !ok || spot.Host != sketch.Host("d1") || !strings.Contains(why.Chosen[0], "beside") {
		t.Errorf("%v %v: %s", spot, ok, why)
	}
	s = draw(t, `
		host a1 rack=a down
		host b1 rack=b
		host b2 rack=b
		host c1 rack=c
		volume image in-sync=b1,b2 image
		volume clone in-sync=b1 others=a1 origin=image`)
	if spot, ok, why = placement.PlaceReplica(s, s.Volumes[sketch.Volume("clone")].Val); !ok || spot.Host != sketch.Host("c1") {
		t.Errorf("another rack comes first: %v %v: %s", spot, ok, why)
	}
}

func TestARebuildGoesToAnotherRackIfThereIsOne(t *testing.T) {
	s := draw(t, `
		host a1 rack=a down
		host b1 rack=b
		host b2 rack=b
		host c1 rack=c free=30
		volume v in-sync=b1 others=a1`)
	spot, ok, why := placement.PlaceReplica(s, s.Volumes[sketch.Volume("v")].Val)
	if !ok || spot.Host != sketch.Host("c1") {
		t.Errorf("%v %v: %s", spot, ok, why)
	}
	s = draw(t, `
		host a1 rack=a down
		host b1 rack=b
		host b2 rack=b
		volume v in-sync=b1 others=a1`)
	spot, ok, why = placement.PlaceReplica(s, s.Volumes[sketch.Volume("v")].Val)
	if !ok || spot.Host != sketch.Host("b2") || !strings.Contains(why.Short, "shares rack b") {
		t.Errorf("%v %v: %s", spot, ok, why)
	}
	s = draw(t, `
		host a1 rack=a down
		host b1 rack=b
		volume v in-sync=b1 others=a1`)
	if spot, ok, why = placement.PlaceReplica(s, s.Volumes[sketch.Volume("v")].Val); ok {
		t.Errorf("%v: %s", spot, why)
	}
}

func TestVMsGoWhereTheirCopyIsIfTheyFit(t *testing.T) {
	const base = `
		host a1 rack=a mem=8192 cpus=2
		host b1 rack=b mem=32768 cpus=2
		host c1 rack=c mem=16384 cpus=2 drained
		host d1 rack=d down
		volume v in-sync=a1,d1
		`
	for _, c := range []struct{ name, lines, want, why string }{
		{"its copy is nearer than more memory", "vm x volume=v mem=4096", "a1", "holds an in-sync copy"},
		{"no room there", "vm x volume=v mem=7400", "b1", "not a1: needs 7464 MiB of memory, 7373 of 7373 MiB left"},
		{"without a volume, the most memory", "vm x", "b1", "not c1: drained"},
		{"four virtual CPUs for each real one", "vm x cpus=8", "b1", ""},
		{"no more than that", "vm x cpus=9", "", "needs 9 virtual CPUs, 8 of 8 left"},
		{"what is on counts, wherever it runs", "vm big mem=28000 host=b1\nvm x mem=2000", "a1", "not b1: needs 2064"},
		{"what is off does not", "vm big mem=28000 host=b1 off\nvm x mem=2000", "b1", ""},
		{"a machine that still runs does, though it should be off", "vm big mem=28000 host=b1 off running\nvm x mem=2000", "a1", ""},
		{"a machine keeps its memory until it is started anew", "vm big mem=100 host=b1 running\nmachine big mem=28000\nvm x mem=2000", "a1", "not b1: needs 2064"},
		{"and what it is to have then is kept for it", "vm big mem=28000 host=b1 running\nmachine big mem=100\nvm x mem=2000", "a1", "not b1: needs 2064"},
		{"memory is not overcommitted and the host keeps some", "vm x mem=29429", "", "29492 of 29492 MiB left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := draw(t, base+c.lines)
			h, why := placement.PlaceVM(s, s.VMs[sketch.VM("x")].Val, placement.VMOptions{})
			if h != sketch.Host(c.want) {
				t.Errorf("on %q, want %q: %s", placement.Look(s).HostName(h), c.want, why)
			}
			if !strings.Contains(why.String(), c.why) {
				t.Errorf("reasons: %s\nwant: %s", why, c.why)
			}
		})
	}
}

func TestAvoidedHostsAreTheLastResortAndPlansAreKept(t *testing.T) {
	s := draw(t, `
		host a1 rack=a
		host b1 rack=b mem=4096
		volume v in-sync=a1
		vm x volume=v`)
	vm := s.VMs[sketch.VM("x")].Val
	avoid := map[holdfast.HostID]string{sketch.Host("a1"): "unsteady"}
	if h, why := placement.PlaceVM(s, vm, placement.VMOptions{Avoid: avoid}); h != sketch.Host("b1") {
		t.Errorf("an avoided host was taken: %s", why)
	}
	vm.MemoryMiB = 8192
	if h, why := placement.PlaceVM(s, vm, placement.VMOptions{Avoid: avoid}); h != sketch.Host("a1") || !strings.Contains(why.Short, "unsteady") {
		t.Errorf("the only host that fits was not taken, or not said why: %s", why)
	}
	vm.MemoryMiB = 1024
	if h, why := placement.PlaceVM(s, vm, placement.VMOptions{Prefer: sketch.Host("b1")}); h != sketch.Host("b1") {
		t.Errorf("the planned host was not kept: %s", why)
	}
}

func TestWhatCanBeLost(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"nothing at all", "", "Can lose nothing: no host is alive."},
		{"one host", "host a1 rack=a voter", "Cannot lose host a1: it is the only one alive."},
		{"three racks, two copies, three voters", `
			host a1 rack=a voter
			host b1 rack=b voter
			host c1 rack=c voter
			volume db1 in-sync=a1,b1
			vm db1 volume=db1 host=a1 running`,
			"Can lose any 1 rack."},
		{"one copy of one volume", `
			host a1 rack=a voter
			host b1 rack=b voter
			host c1 rack=c voter
			volume db1 in-sync=a1 copies=1`,
			"Can lose rack b or c. Cannot lose rack a: volume db1 has its only copy there."},
		{"both copies in one rack", `
			host a1 rack=a voter
			host a2 rack=a
			host b1 rack=b voter
			host c1 rack=c voter
			volume db1 in-sync=a1,a2`,
			"Can lose rack b or c or any 1 host. Cannot lose rack a: volume db1 has all its 2 copies there."},
		{"two racks, one voter", `
			host a1 rack=a voter
			host b1 rack=b
			volume db1 in-sync=a1,b1`,
			"Can lose rack b. Cannot lose rack a: the only voter of the control plane is there. With a witness either could be lost: see 'holdfast serve --help'."},
		{"two racks and a witness", `
			host a1 rack=a voter
			host b1 rack=b voter
			host w1 rack=w witness voter
			volume v in-sync=a1,b1 writer=a1
			vm v volume=v host=a1 running`,
			"Can lose any 1 rack or the witness."},
		{"two racks and a witness that does not vote yet", `
			host a1 rack=a voter
			host b1 rack=b peer
			host w1 rack=w witness peer`,
			"Can lose rack b or the witness w. Cannot lose rack a: the only voter of the control plane is there."},
		{"one of two racks is away, the witness is there", `
			host a1 rack=a voter down
			host b1 rack=b voter
			host w1 rack=w witness voter
			volume v in-sync=b1 others=a1`,
			"Cannot lose host b1: it is the only one alive that has data. Nor the witness w: the control plane would have 1 of 3 voters, it needs 2."},
		{"one of two racks of two hosts is away, the witness is there", `
			host a1 rack=a voter down
			host b1 rack=b voter
			host b2 rack=b
			host w1 rack=w witness voter
			volume v in-sync=b1,b2`,
			"Can lose host b2. Cannot lose host b1: the control plane would have 1 of 3 voters, it needs 2. Cannot lose rack b: it is the only one alive that has data. Nor the witness w: the control plane would have 1 of 3 voters, it needs 2."},
		{"the witness is away", `
			host a1 rack=a voter
			host b1 rack=b voter
			host w1 rack=w witness voter down
			volume v in-sync=a1,b1`,
			"Cannot lose rack a: the control plane would have 1 of 3 voters, it needs 2. Nor rack b."},
		{"only the witness is there", `
			host a1 rack=a voter down
			host b1 rack=b voter down
			host w1 rack=w witness voter`,
			"Can lose nothing: of all hosts only the witness w is alive, which has no data."},
		{"three voters, two of them in one rack", `
			host a1 rack=a voter
			host a2 rack=a voter
			host b1 rack=b voter`,
			"Can lose rack b or any 1 host. Cannot lose rack a: the control plane would have 1 of 3 voters, it needs 2. With a witness either could be lost: see 'holdfast serve --help'."},
		{"an external control plane is not judged", `
			host a1 rack=a
			host b1 rack=b`,
			"Can lose any 1 rack."},
		{"a rack is down already", `
			host a1 rack=a voter down
			host b1 rack=b voter
			host c1 rack=c voter`,
			"Cannot lose rack b: the control plane would have 1 of 3 voters, it needs 2. Nor rack c."},
		{"no room for what runs there", `
			host a1 rack=a voter mem=8192
			host b1 rack=b voter mem=4096
			host c1 rack=c voter mem=4096
			vm big mem=6000 host=a1 running`,
			"Can lose rack b or c. Cannot lose rack a: no host has room for VM big."},
		{"a copy on a broken disk is none", `
			host a1 rack=a voter
			host b1 rack=b voter disk-error=io
			host c1 rack=c voter
			volume db1 in-sync=a1,b1`,
			"Can lose rack b or c. Cannot lose rack a: volume db1 has its only copy there."},
		{"a copy being built is none", `
			host a1 rack=a voter
			host b1 rack=b voter
			host c1 rack=c voter
			volume db1 in-sync=a1 others=b1`,
			"Can lose rack b or c. Cannot lose rack a: volume db1 has its only copy there."},
		{"a volume that would stall", `
			host a1 rack=a voter
			host b1 rack=b voter
			host c1 rack=c voter
			volume db1 in-sync=a1,b1 min=2`,
			"Can lose rack c. Cannot lose rack a: volume db1 would stall: 1 copy left, it needs 2. Nor rack b."},
		{"a VM that waits for a host will need room too", `
			host a1 rack=a voter mem=8192
			host b1 rack=b voter mem=8192
			host c1 rack=c voter mem=2048
			vm one mem=6000 host=a1 running
			vm waits mem=6000`,
			"Can lose rack c. Cannot lose rack a: no host has room for VM one. Nor rack b."},
		{"one rack of three hosts", `
			host a1 rack=a voter
			host a2 rack=a voter
			host a3 rack=a voter
			volume db1 in-sync=a1,a2`,
			"Can lose any 1 host. Cannot lose rack a: it is the only one alive."},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := placement.CanLose(draw(t, c.lines)).Sentence; got != c.want {
				t.Errorf("got:  %s\nwant: %s", got, c.want)
			}
		})
	}
}

func TestAVMThatFitsNowhereDoesNotSpoilTheVerdictOnTheOthers(t *testing.T) {
	s := draw(t, `
		host a1 rack=a voter
		host b1 rack=b voter
		host c1 rack=c voter
		vm whale mem=999999`)
	if got := placement.CanLose(s).Sentence; got != "Can lose any 1 rack." {
		t.Error(got)
	}
}

func TestTheFailoverPlanKeepsTheRestartOrder(t *testing.T) {
	s := draw(t, `
		host a1 rack=a
		host b1 rack=b mem=6000
		vm low mem=512 priority=0 host=a1
		vm small mem=512 host=a1
		vm large mem=2048 host=a1
		vm top mem=512 priority=2 host=a1
		vm off mem=512 host=a1 off
		vm other mem=512 host=b1`)
	p := placement.FailoverPlan(s)
	var got []string
	for _, r := range p.Racks[0].Restarts {
		got = append(got, r.Name)
	}
	if want := []string{"top", "large", "small", "low"}; !slices.Equal(got, want) {
		t.Errorf("restarts %v, want %v", got, want)
	}
	if n := len(p.Racks[1].Restarts); n != 1 {
		t.Errorf("the loss of b restarts %d", n)
	}
}
