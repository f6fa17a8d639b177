package placement_test

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

// Two disks were swapped: nothing is put on them until they are back where they
// belong, for there nobody would look for it.
func TestADiskInAnotherHostTakesNothing(t *testing.T) {
	s := draw(t, `
		host a1 rack=a
		host b1 rack=b
		host c1 rack=c`)
	a, b := s.Alive[sketch.Host("a1")], s.Alive[sketch.Host("b1")]
	a.Val.Disks, b.Val.Disks = b.Val.Disks, a.Val.Disks
	s.Alive[sketch.Host("a1")], s.Alive[sketch.Host("b1")] = a, b
	spots, why := placement.PlaceVolume(s, gibBlocks, 2, placement.Constraints{})
	if got := hostsOf(s, spots); got != "c1" {
		t.Errorf("on %q", got)
	}
	if !strings.Contains(why.String(), "of host b1") {
		t.Errorf("no reason against a disk in another host: %s", why)
	}
}
