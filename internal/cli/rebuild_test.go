package cli

import (
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func TestWhatIsSaidOfRebuilds(t *testing.T) {
	v := v1.Volume{Replicas: []v1.Replica{
		{Host: "a", InSync: true},
		{Host: "b", Rebuild: &v1.Rebuild{Done: 0.41, Rate: 64 << 20, LeftSecs: 48}},
		{Host: "c", Rebuild: &v1.Rebuild{Done: 0.1, Rate: 9 << 20, Limit: 20<<20 + 5, LimitedBy: "the foreground at its disk"}},
		{Host: "d", Rebuild: &v1.Rebuild{Waits: true, Ahead: 12}},
	}}
	want := "b 41 %, 64MiB/s, 48s left, c 10 %, 9MiB/s, at most 20MiB/s by the foreground at its disk, d waits for 12 others"
	if got := rebuilds(v); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
