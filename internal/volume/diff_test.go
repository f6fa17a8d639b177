package volume

import (
	"reflect"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// What changed is told on whichever host the writer is, with a replica or not.
func TestDiffTellsWhatChanged(t *testing.T) {
	play(t, 44, 3, 2, func(sc *scene) {
		for _, h := range []*sceneHost{sc.hosts[0], sc.hosts[2]} {
			v := h.open()
			n := byte(2 * (1 + len(v.Record().Snapshots)))
			sc.write(v, 0, fill(n, 300))
			sc.snapshot(v, n)
			sc.write(v, 10, fill('b', 20))
			sc.snapshot(v, n+1)
			sc.write(v, 20, fill('c', 20))
			one, two := replica.RootRef{Snapshot: snapID(n)}, replica.RootRef{Snapshot: snapID(n + 1)}
			for _, step := range []struct {
				from, to replica.RootRef
				want     []replica.Extent
			}{
				{one, two, []replica.Extent{{Addr: 10, Blocks: 20}}},
				{one, replica.RootRef{}, []replica.Extent{{Addr: 10, Blocks: 30}}},
				{two, replica.RootRef{}, []replica.Extent{{Addr: 20, Blocks: 20}}},
				{replica.RootRef{Nothing: true}, one, []replica.Extent{{Addr: 0, Blocks: 300}}},
			} {
				var got []replica.Extent
				sc.at(v, func() error {
					for at := uint64(0); ; {
						d, err := v.Diff(step.from, step.to, at, 1)
						if err != nil || d.Next == d.Size {
							got = append(got, d.Extents...)
							return err
						}
						got, at = append(got, d.Extents...), d.Next
					}
				})
				if !reflect.DeepEqual(got, step.want) {
					t.Errorf("from %v to %v: %v, want %v", step.from, step.to, got, step.want)
				}
			}
		}
	})
}
