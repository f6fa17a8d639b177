package placement_test

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

func num(n int) *int { return &n }

func TestAVolumeIsChanged(t *testing.T) {
	always, yes, no := cluster.Always, true, false
	s := draw(t, `
		host a1 rack=a
		disk a1/x
		host b1 rack=b
		host c1 rack=c free=40
		volume v in-sync=a1,b1 writer=a1`)
	for _, c := range []struct {
		name   string
		change placement.Change
		steps  string
		fails  string
	}{
		{"nothing", placement.Change{Copies: num(2), Min: num(1)}, "", ""},
		{"one more", placement.Change{Copies: num(3)}, "A copy is built on c1:disk0 in rack c", ""},
		{"one fewer", placement.Change{Copies: num(1)}, "v without that on b1:disk0: it stands on a1:disk0", ""},
		{"more than there are hosts", placement.Change{Copies: num(4)}, "", "cannot have 4 copies"},
		{"none", placement.Change{Copies: num(0)}, "", "out of range"},
		{"more than may be", placement.Change{Copies: num(9)}, "", "out of range"},
		{"a least that there is", placement.Change{Min: num(2)}, "as long as 2 copies are in sync", ""},
		{"a least that there is not yet", placement.Change{Copies: num(3), Min: num(3)}, "", "nothing could be written"},
		{"a least above the copies", placement.Change{Min: num(3)}, "", "out of range"},
		{"limits", placement.Change{IOPS: num(500), MBps: num(20), BurstMS: num(2500)}, "are limited to 500 IOPS, 20 MB/s, burst 2.5s", ""},
		{"no limits where there are none", placement.Change{IOPS: num(0)}, "", ""},
		{"a negative limit", placement.Change{MBps: num(-1)}, "", "give 1 to"},
		{"a limit above what there is", placement.Change{IOPS: num(cluster.MaxIOPS + 1)}, "", "give 1 to"},
		{"a burst for hours", placement.Change{IOPS: num(1), BurstMS: num(3_600_000)}, "", "at most 1m0s"},
		{"a burst of nothing", placement.Change{BurstMS: num(1000)}, "", "limits nothing"},
		{"shared", placement.Change{Shared: &yes}, "Several NBD clients may write it", ""},
		{"not shared, as it is", placement.Change{Shared: &no}, "", ""},
		{"always on disk", placement.Change{Durability: &always}, "when it is on disk", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, steps, err := placement.ChangeVolume(s, s.Volumes[sketch.Volume("v")].Val, c.change)
			if got := strings.Join(steps, " "); err == nil && (!strings.Contains(got, c.steps) || c.steps == "" && got != "") {
				t.Errorf("leads to %q, want %q", got, c.steps)
			}
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("fails with %v, want %q", err, c.fails)
			}
		})
	}
}

// TestLimitsAreChangedOneByOne: what is not named stays, and the burst goes with
// the last rate.
func TestLimitsAreChangedOneByOne(t *testing.T) {
	s := draw(t, "host a1 rack=a\nvolume v in-sync=a1 writer=a1")
	v := s.Volumes[sketch.Volume("v")].Val
	for _, c := range []struct {
		change placement.Change
		want   cluster.Limits
	}{
		{placement.Change{IOPS: num(500), BurstMS: num(2000)}, cluster.Limits{IOPS: 500, BurstMS: 2000}},
		{placement.Change{MBps: num(20)}, cluster.Limits{IOPS: 500, MBps: 20, BurstMS: 2000}},
		{placement.Change{IOPS: num(0)}, cluster.Limits{MBps: 20, BurstMS: 2000}},
		{placement.Change{Min: num(1)}, cluster.Limits{MBps: 20, BurstMS: 2000}},
		{placement.Change{MBps: num(0)}, cluster.Limits{}},
	} {
		next, _, _, err := placement.ChangeVolume(s, v, c.change)
		if err != nil || next.Limits != c.want {
			t.Errorf("limits are %q, %v; want %q", next.Limits, err, c.want)
		}
		v = next
	}
}

// TestWhereACopyMoves: never beside another, and never where the copies would
// share a rack that do not share one now.
func TestWhereACopyMoves(t *testing.T) {
	s := draw(t, `
		host a1 rack=a
		disk a1/x
		host a2 rack=a free=90
		host b1 rack=b
		host b2 rack=b
		volume v in-sync=a1,b1 writer=a1`)
	at := func(disk string) placement.Somewhere {
		host, _, on := strings.Cut(disk, "/")
		out := placement.Somewhere{Host: sketch.Host(host)}
		if on {
			out.Disk = sketch.Disk(strings.TrimSuffix(disk, "/disk0"))
		}
		return out
	}
	for _, c := range []struct {
		from, to, want, fails string
		kind                  holdfast.Kind
	}{
		{from: "a1", to: "", want: "a2"},
		{from: "a1/disk0", to: "", want: "a1"},
		{from: "a1", to: "a1", want: "a1"},
		{from: "a1", to: "a1/x", want: "a1"},
		{from: "a1", to: "a1/disk0", kind: holdfast.NoSpace},
		{from: "a1", to: "b2", kind: holdfast.NoSpace, fails: "in a rack without"},
		{from: "a1", to: "b1", kind: holdfast.NoSpace, fails: "holds a copy already"},
		{from: "b1", to: "b2", want: "b2"},
		{from: "a2", to: "b2", kind: holdfast.NotFound, fails: "has no copy in sync there"},
		{from: "a1", to: "d1", kind: holdfast.NoSpace},
	} {
		_, spot, _, err := placement.PlaceMove(s, s.Volumes[sketch.Volume("v")].Val, at(c.from), at(c.to))
		if holdfast.KindOf(err) != c.kind && (err != nil || c.want == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("from %s to %q: %v", c.from, c.to, err)
		}
		if got := placement.Look(s).HostName(spot.Host); err == nil && got != c.want {
			t.Errorf("from %s to %q: goes to %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// TestAnEvacuationIsPlannedAsItWillBe: what goes first takes the room.
func TestAnEvacuationIsPlannedAsItWillBe(t *testing.T) {
	s := draw(t, `
		host a1 rack=a
		host b1 rack=b
		host c1 rack=c disk=20
		volume big size=60 in-sync=a1,b1
		volume clone size=10 origin=image in-sync=a1,b1
		volume image size=10 in-sync=a1,b1 image
		volume half in-sync=b1 others=a1`)
	var got []string
	for _, d := range placement.Departures(s, sketch.Disk("a1")) {
		got = append(got, d.Name+" "+string(d.Stage)+" "+d.To)
	}
	if want := "big stays , half waiting c1:disk0, image waiting c1:disk0, clone waiting c1:disk0"; strings.Join(got, ", ") != want {
		t.Errorf("planned: %s\nwant: %s", strings.Join(got, ", "), want)
	}
	if s.Disks[sketch.Disk("a1")].Val.Evacuate || len(s.Volumes[sketch.Volume("image")].Val.Others) > 0 {
		t.Error("planning changed the picture")
	}
}
