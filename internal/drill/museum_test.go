package drill

import (
	"slices"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func TestTheMuseumSparesWhatIsOnlyInTheOtherRacks(t *testing.T) {
	in := func(rack string, sync bool) v1.Replica { return v1.Replica{Rack: rack, InSync: sync} }
	all := []v1.Volume{
		{Name: "here", Replicas: []v1.Replica{in("a", true), in("b", true)}},
		{Name: "stale-here", Replicas: []v1.Replica{in("a", false), in("b", true)}},
		{Name: "elsewhere", Replicas: []v1.Replica{in("b", true), in("c", true)}},
	}
	if got := onlyOutside(all, "a"); !slices.Equal(got, []string{"stale-here", "elsewhere"}) {
		t.Errorf("only outside rack a: %v", got)
	}
}
