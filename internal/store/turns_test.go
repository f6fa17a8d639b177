package store

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// flood appends records of so many blocks as fast as it may, as a writer with many
// requests at hand does, and counts the blocks.
func (v *vol) flood(over *bool, count int, n *int) {
	b := v.b
	b.host.Go(func() {
		r := v.r()
		rec := record.Record{Kind: record.Write, LSN: v.state().Prefix + 1, Count: uint32(count), Hashes: make([]uint64, count)}
		for i := range count {
			rec.Data = append(rec.Data, content(uint64(i))...)
		}
		turn := b.host.NewEvent()
		for !*over {
			for !r.MayWrite(turn.Set) && !*over {
				turn.Wait(clock.Forever)
			}
			for i := range rec.Hashes {
				rec.Hashes[i] = checksum.Block(v.vid, uint64(i), rec.LSN+holdfast.LSN(i), rec.Data[i*blockSize:(i+1)*blockSize])
			}
			if err := r.Append([]record.Record{rec}); err != nil {
				b.t.Error(err)
				return
			}
			rec.LSN += holdfast.LSN(count)
			*n += count
			r.SetStable(v.durable())
		}
	})
}

func (v *vol) durable() holdfast.LSN { _, d := v.r().Position(); return d }

func (s *Store) pressed() bool {
	s.lock()
	defer s.unlock()
	return s.pressure()
}

// busyBed has a disk that takes 500 MiB/s, and volumes of odd number, whose blocks
// are stored as they are.
func busyBed(t *testing.T) *bed {
	return newBedOf(t, 51, 256<<20, Options{SegmentBytes: 1 << 20, CheckpointBytes: 16 << 20}, memdisk.SSD())
}

// TestAFlushDoesNotWaitBehindAFlood: between a small write and the end of its
// flush the log takes no more of another volume's than the room for several,
// twice, and a batch.
func TestAFlushDoesNotWaitBehindAFlood(t *testing.T) {
	b := busyBed(t)
	f, v := b.create(1, 4000), b.create(3, 4000)
	over, flooded, pairs := false, 0, 0
	f.flood(&over, 16, &flooded)
	b.run(func() error { clock.Sleep(b.host, time.Second); return nil })
	most := int64(0)
	b.run(func() error {
		for i := range uint64(300) {
			clock.Sleep(b.host, time.Millisecond)
			r := v.r()
			before := b.s.Usage().Log
			if !r.MayWrite(func() {}) && !b.s.pressed() { // by the cleaner: then everybody waits
				t.Error("a writer that has nothing in the log had to wait")
			}
			rec := writeRec(v.vid, v.state().Prefix+1, i, i+1)
			if err := r.Append([]record.Record{rec}); err != nil {
				return err
			}
			if err := syncTo(r, rec.Last()); err != nil {
				return err
			}
			r.SetStable(rec.Last())
			if i > 0 { // the first finds one that was alone
				most = max(most, b.s.Usage().Log-before)
			}
			pairs++
		}
		return nil
	})
	over = true
	b.settle()
	if limit := 3 * b.s.o.SharedLogBytes; most > limit {
		t.Errorf("a flush waited for %d KiB, want at most %d", most>>10, limit>>10)
	}
	if flooded < 300*64 {
		t.Errorf("the flood wrote only %d blocks beside %d pairs", flooded, pairs)
	}
}

// TestADiskIsSharedByWeight among volumes that all want more than there is,
// whatever the sizes of their records.
func TestADiskIsSharedByWeight(t *testing.T) {
	b := busyBed(t)
	x, y := b.create(1, 4000), b.create(3, 4000)
	y.r().SetWeight(300)
	over, nx, ny := false, 0, 0
	x.flood(&over, 64, &nx)
	y.flood(&over, 4, &ny)
	b.run(func() error { clock.Sleep(b.host, 2*time.Second); return nil })
	over = true
	b.settle()
	if r := float64(ny) / float64(nx); nx < 20000 || r < 3*0.8 || r > 3*1.2 {
		t.Errorf("weights of 100 and 300 got %d and %d blocks, 1 to %.2f", nx, ny, r)
	}
}

// TestOneVolumeGetsAllOfTheDisk: taking turns costs a volume nothing that is alone.
func TestOneVolumeGetsAllOfTheDisk(t *testing.T) {
	alone := func(room int64) int64 {
		b := newBedOf(t, 52, 256<<20, Options{SegmentBytes: 1 << 20, CheckpointBytes: 16 << 20, SharedLogBytes: room}, memdisk.SSD())
		v, over, n := b.create(1, 4000), false, 0
		v.flood(&over, 16, &n)
		b.run(func() error { clock.Sleep(b.host, time.Second); return nil })
		written := b.s.Usage().Log
		over = true
		b.settle()
		return written
	}
	if n, most := alone(0), alone(32<<20); n < most*98/100 {
		t.Errorf("%d KiB were written in a second, with all the room that there may be %d", n>>10, most>>10)
	}
}

// TestWhoWaitsForItsTurnLearnsOfTheEndOfTheDisk: no writer waits for ever for a
// disk that is given up.
func TestWhoWaitsForItsTurnLearnsOfTheEndOfTheDisk(t *testing.T) {
	b := busyBed(t)
	v := b.create(1, 4000)
	woken := false
	b.run(func() error {
		r := v.r()
		b.s.lock()
		b.s.gate.Take(&r.flow, 64<<20) // as if much were under way
		b.s.unlock()
		if r.MayWrite(func() { woken = true }) {
			t.Error("a full log lets more in")
		}
		b.s.lock()
		b.s.fence(holdfast.Errorf(holdfast.IO, "the disk is gone"))
		b.s.unlock()
		return nil
	})
	b.settle()
	if !woken || !v.r().MayWrite(nil) {
		t.Error("a writer waits for a disk that is given up")
	}
}
