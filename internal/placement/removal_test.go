package placement_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

// planned removes hosts on paper and tells everything that is said of it.
func planned(t *testing.T, lines string, lost bool, hosts ...string) (placement.Removal, string) {
	t.Helper()
	c, err := sketch.Draw(lines)
	if err != nil {
		t.Fatal(err)
	}
	var ids []holdfast.HostID
	for _, h := range hosts {
		ids = append(ids, sketch.Host(h))
	}
	r := placement.PlanRemoval(c.State(), ids, lost)
	v := placement.Look(c.State())
	var out []string
	for _, c := range r.Volumes {
		out = append(out, fmt.Sprintf("%s unreachable=%v: %s", c.Volume.Name, c.Unreachable, c.Reason()))
	}
	for _, s := range r.Restarts {
		out = append(out, fmt.Sprintf("vm %s on %s", s.Name, v.HostName(s.To)))
	}
	for _, u := range r.Unplaced {
		out = append(out, "vm "+u.Name+" down: "+u.Reason)
	}
	out = append(out, fmt.Sprintf("votes %v go, %d of %d left", r.Votes.Go, r.Votes.Alive, r.Votes.Left))
	for _, no := range r.Refused {
		out = append(out, "refused: "+no)
	}
	return r, strings.Join(out, "\n")
}

const lostRack = `
	host a1 rack=a voter
	host a2 rack=a
	host b1 rack=b voter
	host b2 rack=b
	host c1 rack=c voter
	volume db in-sync=a1,b1 writer=b1
	volume only in-sync=b2
	volume stale in-sync=b1 others=c1
	volume waits in-sync=b1,a2
	volume theirs in-sync=a1,c1
	volume spare copies=1 in-sync=a1 others=b1
	vm db volume=db host=b1 running
	vm only volume=only host=b2 running
	vm else volume=theirs host=a1 running
	lose rack b
	lose a2`

func TestALostRackIsRemovedOnPaperFirst(t *testing.T) {
	r, said := planned(t, lostRack, true, "b1", "b2")
	want := `db unreachable=false: 1 of 2 copies left; another is built on c1:disk0 in rack c, 65 GiB not promised
only unreachable=true: its only copies are there
spare unreachable=false: it has its copies without the one there
stale unreachable=true: its only copies in sync are there; what host c1 has is stale
waits unreachable=true: no copy in sync is left on a living host: it waits for host a2
vm db on a1
vm only down: VM only cannot start: volume only has no in-sync copy on a living host
votes [b1] go, 2 of 2 left`
	if said != want {
		t.Errorf("it says\n%s", said)
	}
	var names []string
	var give []holdfast.VolumeID
	for _, c := range r.Unreachable() {
		err := r.Allow(give)
		if !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), c.Volume.Name) {
			t.Errorf("with %v given up: %v", names, err)
		}
		names, give = append(names, c.Volume.Name), append(give, c.Volume.ID)
	}
	if err := r.Allow(give); err != nil || !slices.Equal(names, []string{"only", "stale", "waits"}) {
		t.Errorf("with %v given up: %v", names, err)
	}
}

func TestWhatCannotBeRemovedIsRefused(t *testing.T) {
	const three = `
	host a1 rack=a voter
	host b1 rack=b voter
	host c1 rack=c voter
	volume db in-sync=a1,b1 writer=a1
	vm db volume=db host=a1 running
	`
	for _, c := range []struct {
		what, lines string
		lost        bool
		hosts       []string
		want        string
	}{
		{"a living host as lost", three, true, []string{"a1"}, "host a1 is alive"},
		{"one that is not drained", three, false, []string{"a1"}, "host a1 is not drained"},
		{"one that VMs are left on", three + "host a1 drained", false, []string{"a1"}, "VM db is still on host a1"},
		{"one that copies are left on", three + "host b1 drained", false, []string{"b1"}, "a copy of volume db is still there"},
		{"one that is empty", three + "host c1 drained", false, []string{"c1"}, ""},
		{"without a majority after it", three + "host c1 drained\nlose a1", false, []string{"c1"}, "the control plane would have 1 of 2 voters alive"},
		{"without a majority before it", three + "lose a1\nlose b1", true, []string{"b1"}, "the control plane has no majority: 1 of 3 voters alive"},
		{"the lost one of three", three + "lose a1", true, []string{"a1"}, ""},
		{"the only voter", "host a1 rack=a voter drained\nhost b1 rack=b", false, []string{"a1"}, "the only voter of the control plane"},
		{"all hosts", "host a1 rack=a drained", false, []string{"a1"}, "no host would be left"},
		{"with an external etcd", "host a1 rack=a\nhost b1 rack=b\nlose a1", true, []string{"a1"}, ""},
	} {
		r, _ := planned(t, c.lines, c.lost, c.hosts...)
		err := r.Allow(nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want != "" && (!holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

func TestTheVolumesOnAHostAreFound(t *testing.T) {
	c, err := sketch.Draw(lostRack)
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	for _, v := range placement.HeldBy(c.State(), sketch.Host("b1")) {
		held = append(held, v.Val.Name)
	}
	if !slices.Equal(held, []string{"db", "spare", "stale", "waits"}) {
		t.Errorf("holds %v", held)
	}
}
