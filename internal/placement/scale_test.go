package placement_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

// poor is a cluster of which as many volumes lack a copy.
func poor(t *testing.T, volumes int) *placement.View {
	t.Helper()
	c := sketch.New()
	do := func(format string, a ...any) {
		if err := c.Do(fmt.Sprintf(format, a...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []string{"a", "b", "c"} {
		do("host %s1 rack=%s cpus=64 mem=262144 voter", r, r)
	}
	for i := range volumes {
		do("volume v%d size=1 in-sync=a1,b1 writer=a1", i)
	}
	do("lose b1")
	return placement.Look(c.State())
}

// TestWhatIsMissingIsFoundInOneLook: what is to be done about each of the volumes
// that lack a copy costs as much with many of them as with few. Bytes are counted,
// which no busy machine changes much.
func TestWhatIsMissingIsFoundInOneLook(t *testing.T) {
	cost := func(volumes int) float64 {
		v := poor(t, volumes)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, vol := range v.Volumes {
			v.Release(vol)
			v.PlaceReplica(vol)
			v.Whole(vol)
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / float64(volumes)
	}
	if few, many := cost(100), cost(800); many > 2*few {
		t.Errorf("%.0f bytes for each of 100 volumes, %.0f for each of 800", few, many)
	}
}
