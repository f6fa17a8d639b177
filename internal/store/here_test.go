package store

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// alone has a writer write and flush, and nobody else do anything, for so long
// that the store counts on it.
func alone(b *bed, v *vol) {
	for i := range uint64(loneRounds + 1) {
		v.write(i, i+1)
		v.sync()
	}
}

// syncHere is SyncHere of all that is held; it reports whether that was over when
// the call returned.
func (v *vol) syncHere() (here bool) {
	v.b.t.Helper()
	v.b.run(func() error {
		done := false
		v.r().SyncHere(v.r().State().Prefix, func(err error) {
			done = true
			if err != nil {
				v.b.t.Error(err)
			}
		})
		here = done
		for !done {
			v.b.host.NewEvent().Wait(1000)
		}
		return nil
	})
	return here
}

func newSlowBed(t *testing.T, seed uint64) *bed {
	return newBedOf(t, seed, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 4 << 20}, memdisk.SSD())
}

func TestWhoIsAloneSyncsOnItsOwnTask(t *testing.T) {
	b := newSlowBed(t, 41)
	v := b.create(1, 1000)
	v.write(0, 1)
	if v.syncHere() {
		t.Error("the first sync of all was done by who asked, though nobody can know yet that it is alone")
	}
	alone(b, v)
	for i := range uint64(20) {
		v.write(100+i, i+1)
		if !v.syncHere() {
			t.Fatalf("sync %d of one who is alone was left to another task", i)
		}
		if st := v.state(); st.Durable != st.Prefix {
			t.Fatalf("it is over, and %v of %v is on disk", st.Durable, st.Prefix)
		}
	}
	b.crash()
	for i := range uint64(20) {
		v.want(100+i, i+1)
	}
}

// TestWhatComesMeanwhileIsNotForgotten has another volume flush again and again
// while the one that was alone syncs on its own task.
func TestWhatComesMeanwhileIsNotForgotten(t *testing.T) {
	b := newSlowBed(t, 42)
	v, other := b.create(1, 1000), b.create(2, 1000)
	alone(b, v)
	rounds, ended := 30, 0
	for i := range uint64(rounds) {
		b.host.Go(func() {
			defer func() { ended++ }()
			b.host.NewEvent().Wait(300 * 1000) // amid a sync of the first
			r := other.r()
			rec := writeRec(other.vid, r.State().Prefix+1, i, i+1)
			if err := r.Append([]record.Record{rec}); err != nil {
				t.Error(err)
			}
			if err := syncTo(r, rec.LSN); err != nil {
				t.Error(err)
			}
		})
		v.write(i, 1000+i)
		v.syncHere()
	}
	b.settle()
	if ended != rounds {
		t.Fatalf("%d of %d syncs have ended", ended, rounds)
	}
	b.crash()
	for i := range uint64(rounds) {
		v.want(i, 1000+i)
		other.want(i, i+1)
	}
}

func TestADiskIsClosedWhileSomebodySyncs(t *testing.T) {
	b := newSlowBed(t, 43)
	v := b.create(1, 1000)
	alone(b, v)
	v.write(7, 77)
	var outcome error
	ended := false
	b.host.Go(func() {
		v.r().SyncHere(v.r().State().Prefix, func(err error) { outcome, ended = err, true })
	})
	b.restart()
	if !ended || outcome != nil && !holdfast.IsKind(outcome, holdfast.Closed) {
		t.Errorf("the sync ended: %v, %v", ended, outcome)
	}
	v.want(7, 77)
}

func TestASyncOnOnesOwnTaskThatFailsSaysSo(t *testing.T) {
	b := newSlowBed(t, 44)
	v := b.create(1, 1000)
	alone(b, v)
	v.write(7, 77)
	b.d.FailNext(memdisk.Sync, 1)
	var outcome error
	b.run(func() error {
		v.r().SyncHere(v.r().State().Prefix, func(err error) { outcome = err })
		return nil
	})
	if outcome == nil {
		t.Error("a sync that failed is said to be good")
	}
}
