package placement_test

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

const twoPools = `
	pool fast tier=ram copies=2
	host a1 rack=a pool=fast disk=2
	host a2 rack=a
	host b1 rack=b pool=fast disk=2
	host b2 rack=b
	host c1 rack=c`

func TestAVolumeStandsOnDisksOfItsPoolOnly(t *testing.T) {
	s := draw(t, twoPools)
	spots, why := placement.PlaceVolume(s, gibBlocks, 2, placement.Constraints{})
	if got := hostsOf(s, spots); got != "a2 b2" {
		t.Errorf("the default pool: on %q: %s", got, why)
	}
	if !strings.Contains(why.String(), "not a1:disk0: in pool fast") {
		t.Errorf("no reason against the other pool's disks: %s", why)
	}
	spots, why = placement.PlaceVolume(s, gibBlocks, 3, placement.Constraints{Pool: sketch.Pool("fast")})
	if got := hostsOf(s, spots); got != "a1 b1" || why.Short != "3 copies asked for, room in pool fast on 2 hosts" {
		t.Errorf("pool fast: on %q: %s", got, why)
	}
}

func TestARebuildStaysInThePool(t *testing.T) {
	s := draw(t, twoPools+`
		volume db size=1 pool=fast in-sync=a1,b1
		lose rack b`)
	if spot, ok, why := placement.PlaceReplica(s, s.Volumes[sketch.Volume("db")].Val); ok {
		t.Errorf("a copy goes to %v outside of its pool", placement.Look(s).HostName(spot.Host))
	} else if why.Short != "no other disk in pool fast can take a copy of volume db" {
		t.Error(why)
	}
}

// A host whose memory was lost takes a copy of the same volume again, on the
// disk that took the place of the lost one.
func TestAMemoryThatWasLostHoldsNothing(t *testing.T) {
	s := draw(t, twoPools+`
		volume db size=1 pool=fast in-sync=a1,b1
		host b1 memory-lost`)
	v := placement.Look(s)
	db := s.Volumes[sketch.Volume("db")].Val
	if n := len(v.InSync(db)); n != 1 || s.Gone(db) {
		t.Errorf("%d copies, gone %v", n, s.Gone(db))
	}
	spot, ok, why := placement.PlaceReplica(s, db)
	if !ok || v.HostName(spot.Host) != "b1" || spot.Disk == sketch.Disk("b1") {
		t.Errorf("the copy goes to %s: %s", v.HostName(spot.Host), why)
	}
	for _, j := range placement.CanLose(s).Racks {
		if j.Can != (j.Name != "a") {
			t.Errorf("can lose rack %s: %v %v", j.Name, j.Can, j.Reasons)
		}
	}
}

func TestAVolumeWhoseMemoryIsLostEverywhereIsLost(t *testing.T) {
	s := draw(t, twoPools+`
		volume db size=1 pool=fast in-sync=a1,b1
		vm db volume=db host=a1
		host a1 memory-lost
		host b1 memory-lost`)
	v := placement.Look(s)
	if !s.Gone(s.Volumes[sketch.Volume("db")].Val) {
		t.Error("it is not gone")
	}
	_, left := placement.Restarts(v, v.VMs, nil)
	if len(left) != 1 || !strings.Contains(left[0].Reason, "volume db is lost") {
		t.Errorf("its VM: %v", left)
	}
	s.Bad = map[string]string{"disk/x": "unreadable"}
	if s.Gone(s.Volumes[sketch.Volume("db")].Val) {
		t.Error("it counts as lost though a record cannot be read")
	}
}

func TestDisksInMemoryTakeRoomFromVMs(t *testing.T) {
	s := draw(t, `
		pool fast tier=ram
		host a1 rack=a mem=8192 pool=fast disk=4
		host b1 rack=b mem=8192`)
	a, b := placement.MemoryLeft(s, sketch.Host("a1")), placement.MemoryLeft(s, sketch.Host("b1"))
	if b-a != 4096 {
		t.Errorf("%d and %d MiB left", a, b)
	}
	vm := draw(t, `vm big mem=6000`).VMs[sketch.VM("big")].Val
	if to, why := placement.PlaceVM(s, vm, placement.VMOptions{}); to != sketch.Host("b1") {
		t.Error(why)
	}
}
