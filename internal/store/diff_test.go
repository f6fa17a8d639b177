package store

import (
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// changed walks a whole Diff, limit extents at a time, and lists its blocks:
// true where they read as zero.
func (v *vol) changed(from, to RootRef, limit int) map[uint64]bool {
	v.b.t.Helper()
	out := make(map[uint64]bool)
	for at, last := uint64(0), uint64(0); ; {
		var ext []Extent
		var next, size uint64
		v.b.run(func() (err error) {
			ext, next, size, err = v.r().Diff(from, to, at, limit)
			return err
		})
		for _, e := range ext {
			for i := range e.Blocks {
				if a := e.Addr + i; a < last || a < at || a >= next {
					v.b.t.Fatalf("block %d of %+v is not in order in a step from %d to %d", a, e, at, next)
				} else {
					out[a], last = e.Hole, a
				}
			}
		}
		if next == size {
			return out
		}
		if next <= at {
			v.b.t.Fatalf("a step from %d goes on at %d", at, next)
		}
		at = next
	}
}

func (v *vol) wantChanged(what string, got map[uint64]bool, data []uint64, holes []uint64) {
	v.b.t.Helper()
	var d, h []uint64
	for a, hole := range got {
		if hole {
			h = append(h, a)
		} else {
			d = append(d, a)
		}
	}
	slices.Sort(d)
	slices.Sort(h)
	if !slices.Equal(d, data) || !slices.Equal(h, holes) {
		v.b.t.Errorf("%s: data %v and holes %v changed, want %v and %v", what, d, h, data, holes)
	}
}

func TestDiffTellsWhatChanged(t *testing.T) {
	for _, merged := range []bool{false, true} {
		b := newBed(t, 3)
		v := b.create(1, 4000)
		settle := func() {
			if merged {
				v.stable()
			}
		}
		v.write(10, 1, 2, 3)
		v.write(600, 4)
		v.zero(3000, 2)
		settle()
		v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
		settle()
		v.write(11, 5)
		v.zero(600, 100) // one block had data
		v.write(2000, 6)
		settle()
		v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(2)})
		v.write(2000, 7)
		v.write(602, 8)
		settle()
		one, two, head := RootRef{Snapshot: snapID(1)}, RootRef{Snapshot: snapID(2)}, RootRef{}
		var ext []Extent
		var next, size uint64
		b.run(func() (err error) {
			ext, next, size, err = v.r().DiffUntil(one, head, 600, 2000, MaxExtents)
			return err
		})
		if next != 2000 || size != 4000 || !slices.Equal(ext, []Extent{{600, 1, true}, {602, 1, false}}) {
			t.Errorf("blocks 600 to 1999, merged %v: %v, on to %d of %d", merged, ext, next, size)
		}
		for _, limit := range []int{1, 2, MaxExtents} {
			v.wantChanged("first to second", v.changed(one, two, limit), []uint64{11, 2000}, []uint64{600})
			v.wantChanged("second to first", v.changed(two, one, limit), []uint64{11, 600}, []uint64{2000})
			v.wantChanged("second to head", v.changed(two, head, limit), []uint64{602, 2000}, nil)
			v.wantChanged("head to head", v.changed(head, head, limit), nil, nil)
			v.wantChanged("nothing to first", v.changed(RootRef{Nothing: true}, one, limit), []uint64{10, 11, 12, 600}, nil)
		}
		v.control(record.Record{Kind: record.Revert, Snapshot: snapID(1)})
		settle()
		v.wantChanged("first to the head after a revert", v.changed(one, head, 8), nil, nil)
		v.write(3, 9)
		v.wantChanged("second to the head after a revert", v.changed(two, head, 8), []uint64{3, 11, 600}, []uint64{2000})
		err := b.try(func() error { _, _, _, err := v.r().Diff(RootRef{Snapshot: snapID(9)}, head, 0, 1); return err })
		if !holdfast.IsKind(err, holdfast.NotFound) {
			t.Errorf("a snapshot that is not there: %v", err)
		}
	}
}
