package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// TestABurstAtANearlyFullDiskEnds: many writes at once find the volume's only
// disk nearly full, on the way there and on the way back. Those for which
// there was room when they came may be too many together; each must end, well
// or with an error.
func TestABurstAtANearlyFullDiskEnds(t *testing.T) {
	for seed := range uint64(4) {
		play(t, seed, 1, 1, func(sc *scene) {
			v := sc.hosts[0].open()
			sc.hosts[0].disk.SetSlow(1 + float64(seed)*20)
			for range 3 {
				snaps := byte(0)
				for ok := true; ok && snaps < 80; {
					if _, ok = sc.burst(v, int(seed%4)+1); ok {
						snaps++
						sc.snapshot(v, snaps)
					}
				}
				for n := range snaps {
					sc.dropSnapshot(v, n+1)
				}
				for range 30 {
					if ended, _ := sc.burst(v, int(seed%4)+1); !ended {
						return
					}
				}
			}
		})
	}
}

// burst writes so many MiB at once. It reports whether all writes ended, and
// whether there was room for them.
func (sc *scene) burst(v *Volume, wide int) (ended, room bool) {
	const piece = 1 << 20
	open, fin := wide, sc.w.Clock().NewEvent()
	room = true
	for i := range wide {
		sc.w.Clock().Go(func() {
			err := sc.do(v, export.Request{Op: export.Write, Off: int64(i) * piece, Length: piece, Data: fill(byte(i), piece/holdfast.BlockSize)})
			if holdfast.IsKind(err, holdfast.NoSpace) {
				room = false
			} else {
				sc.must(err)
			}
			if open--; open == 0 {
				fin.Set()
			}
		})
	}
	if !fin.Wait(2 * time.Minute) {
		sc.t.Errorf("at %v: %d of %d writes never end", sc.w.Now(), open, wide)
		return false, false
	}
	return true, room
}
