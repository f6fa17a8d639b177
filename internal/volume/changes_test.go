package volume

import (
	"reflect"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// What has changed since a snapshot is told at the writer, whether a replica is
// there or not, and at a host that carries the session.
func TestChangesSinceASnapshot(t *testing.T) {
	const b = holdfast.BlockSize
	play(t, 44, 4, 2, func(sc *scene) {
		for n, at := range []struct{ writer, asked *sceneHost }{
			{sc.hosts[0], sc.hosts[0]}, {sc.hosts[2], sc.hosts[2]}, {sc.hosts[2], sc.hosts[3]},
		} {
			v := at.writer.open()
			snap := byte(2*n + 2)
			sc.write(v, 0, fill(snap, 300))
			sc.snapshot(v, snap)
			sc.write(v, 10, fill('b', 20))
			sc.write(v, 40, fill('c', 1))
			at.asked.on(func() {
				d, err := at.asked.s.Target(v.Record()).Open(true)
				sc.must(err)
				defer d.Close()
				for _, c := range []struct {
					off, n int64
					most   int
					want   []export.Change
				}{
					{0, 300 * b, 100, []export.Change{{Length: 10 * b}, {Length: 20 * b, Dirty: true}, {Length: 10 * b}, {Length: b, Dirty: true}, {Length: 259 * b}}},
					{0, 300 * b, 2, []export.Change{{Length: 10 * b}, {Length: 20 * b, Dirty: true}}},
					{100, 300 * b, 1, []export.Change{{Length: 10*b - 100}}},
					{12*b + 5, 7, 100, []export.Change{{Length: 7, Dirty: true}}},
					{29*b + 5, 2 * b, 100, []export.Change{{Length: b - 5, Dirty: true}, {Length: b + 5}}},
					{40 * b, b, 100, []export.Change{{Length: b, Dirty: true}}},
				} {
					got, err := d.(export.Comparer).Changes(snapID(snap), c.off, c.n, c.most)
					if err != nil || !reflect.DeepEqual(got, c.want) {
						t.Errorf("turn %d, %d bytes at %d, at most %d pieces: %v, %v; want %v", n, c.n, c.off, c.most, got, err, c.want)
					}
				}
				if _, err := d.(export.Comparer).Changes(snapID(99), 0, b, 1); !holdfast.IsKind(err, holdfast.NotFound) {
					t.Errorf("turn %d, a snapshot that is not there: %v", n, err)
				}
				if _, err := d.(export.Comparer).Changes(snapID(snap), d.Size(), b, 1); !holdfast.IsKind(err, holdfast.Invalid) {
					t.Errorf("turn %d, beyond the end: %v", n, err)
				}
				if xs, err := d.Extents(0, 400*b, 10); err != nil || len(xs) == 0 || xs[0].Hole || at.writer == sc.hosts[0] && xs[0].Length != 300*b {
					t.Errorf("turn %d, extents: %v, %v", n, xs, err)
				}
			})
		}
	})
}

// The snapshots that a target tells are those of its volume now.
func TestATargetTellsItsSnapshots(t *testing.T) {
	play(t, 3, 2, 1, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		target := b.s.Target(sc.vol)
		v := a.open()
		sc.snapshot(v, 7)
		b.on(func() {
			got, err := target.Snapshots()
			if err != nil || len(got) != 1 || got[0].ID != snapID(7) {
				t.Errorf("snapshots %v, %v", got, err)
			}
		})
	})
}

func FuzzCarriedMap(f *testing.F) {
	ask := mapAsk{since: snapID(1), off: 4096, n: 8192, most: 3}
	f.Add(ask.appendTo(nil), appendRun(appendRun(nil, 4096, true), 4096, false))
	f.Add([]byte{1}, []byte{1, 0, 0, 0, 0, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, asked, told []byte) {
		a, err := decodeMapAsk(asked)
		if err != nil {
			a = mapAsk{n: 1 << 20, most: 8}
		} else if a.most < 0 || a.most > maxCarried {
			t.Fatalf("%+v", a)
		}
		left := a.n
		_ = a.decodeRuns(told, func(n int64, _ bool) {
			if left -= n; n <= 0 || left < 0 {
				t.Fatalf("a run of %d bytes of %d", n, a.n)
			}
		})
	})
}

// A volume that grew after it was offered is told with its new size, where it is
// open and elsewhere.
func TestATargetTellsWhatItsVolumeHasGrownTo(t *testing.T) {
	play(t, 3, 2, 1, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		a.open()
		b.s.Known = func(id holdfast.VolumeID) (rec cluster.Volume, ok bool) {
			rec, _, err := b.ReadVolume(id)
			return rec, err == nil
		}
		targets := []*Target{a.s.Target(sc.vol), b.s.Target(sc.vol)}
		sc.change(func(v *cluster.Volume) { v.Blocks += 100 })
		for i, h := range []*sceneHost{a, b} {
			h.on(func() {
				if got, want := targets[i].Size(), int64(sc.vol.Blocks+100)*holdfast.BlockSize; got != want {
					t.Errorf("host %d tells %d bytes, want %d", i, got, want)
				}
			})
		}
	})
}
