package store

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
)

// A batch may be written and made durable in one step only if nothing written
// before it waits for a sync: that step says nothing of other writes.
func TestASyncCoversTheBatchesWrittenBefore(t *testing.T) {
	oneStep := 0
	for seed := range uint64(60) {
		b := newBedOf(t, 9000+seed, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 4 << 20}, memdisk.SSD())
		v := b.create(1, 300)
		full := uint64(b.s.shape.soft) * (seed % 4) // as many blocks as close none or some batches
		for i := range full {
			v.write(i, 100+i)
		}
		b.run(func() error { clock.Sleep(b.host, 20*time.Millisecond); return nil }) // they are written, not synced
		v.write(299, 7)
		syncs := b.d.Stats().Syncs
		v.sync()
		if full == 0 && b.d.Stats().Syncs == syncs+1 {
			oneStep++
		}
		want := v.state().Durable
		b.crash()
		if got := v.state(); got.Durable < want || got.Damage != "" {
			t.Fatalf("seed %d: %v was durable, %v is left (%s)", seed, want, got.Durable, got.Damage)
		}
		for _, i := range []uint64{0, full / 2, 299} {
			if got, err := v.read(i, 1); err != nil {
				t.Fatalf("seed %d: block %d: %v %v", seed, i, got, err)
			}
		}
	}
	if oneStep == 0 {
		t.Error("a lone batch was never made durable in one step")
	}
}
