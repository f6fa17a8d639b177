package store

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// reopen opens the disk anew within the life of the process.
func (b *bed) reopen() error {
	b.t.Helper()
	if b.s != nil {
		_ = b.try(b.s.Close)
	}
	b.d.Kill() // its device is closed
	return b.tryOpen()
}

// A disk whose syncs fail now and then is opened anew each time, while the
// process lives on, and at times the power goes. What was called durable is
// there, and the disk can always be opened: also if a sync failed beside one
// that went well, and if the root of a checkpoint was in memory only.
func TestADiskThatFailsNowAndThenKeepsWhatItCalledDurable(t *testing.T) {
	failed := 0
	for seed := range uint64(25) {
		b := newBedOf(t, 9000+seed, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 256 << 10}, memdisk.SSD())
		rng := b.w.Rand("what happens")
		v := b.create(1, 600)
		var durable holdfast.LSN
		check := func(what string) {
			t.Helper()
			if st := v.state(); st.Damage != "" || st.Durable < durable {
				t.Fatalf("seed %d: %s: %v was durable, %v is left (%s)", seed, what, durable, st.Durable, st.Damage)
			}
			durable = v.state().Durable
		}
		for round := range uint64(12) {
			b.d.SetChances(memdisk.Chances{SyncError: 0.03, WriteError: 0.002})
			for i := range uint64(60) {
				r := writeRec(v.vid, v.state().Prefix+1, rng.Uint64N(600), 1+round*100+i)
				if b.try(func() error { return v.r().Append([]record.Record{r}) }) != nil {
					break
				}
				if i%4 == 0 {
					end := v.state().Prefix
					b.host.Go(func() {
						if syncTo(v.r(), end) == nil {
							durable = max(durable, end)
						}
					})
					b.w.Run(b.w.Now() + time.Duration(rng.Int64N(int64(2*time.Millisecond))))
				}
				if i%16 == 0 {
					v.r().SetStable(durable)
					b.host.Go(func() { _ = b.s.Checkpoint() })
				}
			}
			b.settle()
			if b.s.Err() == nil && rng.IntN(4) > 0 {
				check("it goes on")
				continue
			}
			if b.s.Err() != nil {
				failed++
			}
			b.d.SetChances(memdisk.Chances{})
			if rng.IntN(3) == 0 { // and within the opening, too, something may happen
				b.d.FailNext(memdisk.Sync, 1+rng.IntN(2))
			}
			for tries := 0; b.reopen() != nil; tries++ {
				if tries == 3 {
					t.Fatalf("seed %d: the disk is well and cannot be opened: %v", seed, b.tryOpen())
				}
			}
			b.d.FailNext(memdisk.Sync, 0)
			check("opened anew")
			if rng.IntN(2) == 0 {
				b.crash()
				check("after a power cut")
			}
			if err := b.s.checkSpace(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for a := uint64(0); a < 600; a += 7 {
				if _, err := v.read(a, 1); err != nil {
					t.Fatalf("seed %d: block %d: %v", seed, a, err)
				}
			}
		}
	}
	if failed < 40 {
		t.Fatalf("only %d times did the disk fail", failed)
	}
}

// The sync behind the root of a checkpoint fails. When the disk is opened anew,
// the root is read from a cache, the medium has the one before; then the power
// goes while it is being opened. Nothing that the root on the medium names may
// have been written over by then.
func TestARootThatIsInMemoryOnlyIsNotBuiltUpon(t *testing.T) {
	for seed := range uint64(450) {
		b := newBedOf(t, 300+seed, testDisk, Options{SegmentBytes: testSegment}, memdisk.SSD())
		v := b.create(1, 600)
		for round := range 1 + seed%7 {
			for i := range uint64(40) {
				v.write(i, 1+round*100+i)
			}
			v.stable()
			b.run(b.s.Checkpoint)
		}
		b.settle()
		syncs := b.d.Stats().Syncs
		b.host.Go(func() { _ = b.s.Checkpoint() })
		b.w.RunUntil(func() bool { return b.d.Stats().Syncs > syncs }, b.w.Now()+time.Minute)
		b.d.FailNext(memdisk.Sync, 1) // that of the catalog has begun
		b.settle()
		if b.s.Err() == nil {
			t.Fatal("the root was synced")
		}
		_ = b.try(b.s.Close)
		b.d.Kill()
		opened := false
		b.host.Go(func() {
			dev, err := b.d.Open(b.host, b.lag)
			if err == nil {
				_, _ = Open(dev, b.opts)
			}
			opened = true
		})
		end := b.w.Now() + time.Duration(b.w.Rand("cut").Int64N(int64(2500*time.Microsecond)))
		b.w.RunUntil(func() bool { return opened }, end)
		b.crash()
		if st := v.state(); st.Damage != "" {
			t.Fatalf("seed %d: %s", seed, st.Damage)
		}
		last := seed%7*100 + 1
		v.want(0, last, last+1, last+2)
	}
}

// Two syncs are under way at once, that of a checkpoint and one of the log. The
// system tells one of them of the write that it lost.
func TestASyncBesideOneThatFailsProvesNothing(t *testing.T) {
	for seed := range uint64(150) {
		b := newBedOf(t, 600+seed, testDisk, Options{SegmentBytes: testSegment}, memdisk.SSD())
		v := b.create(1, 600)
		for i := range uint64(40) {
			v.write(i, 1+i)
		}
		v.stable()
		b.run(b.s.Checkpoint)
		for i := range uint64(40) {
			v.write(i, 101+i)
		}
		v.stable()
		rng := b.w.Rand("when")
		b.host.Go(func() { _ = b.s.Checkpoint() })
		before := b.d.Stats().Syncs
		b.w.RunUntil(func() bool { return b.d.Stats().Syncs > before }, b.w.Now()+time.Minute)
		b.d.FailNext(memdisk.Sync, 1)
		b.host.Go(func() {
			clock.Sleep(b.host, time.Duration(rng.Int64N(int64(200*time.Microsecond))))
			for i := range uint64(24) { // in several batches
				_ = v.r().Append([]record.Record{writeRec(v.vid, v.r().State().Prefix+1, i, 7+i)})
			}
			_ = syncTo(v.r(), v.r().State().Prefix)
		})
		b.settle()
		b.crash()
		if st := v.state(); st.Damage != "" {
			t.Fatalf("seed %d: %s", seed, st.Damage)
		}
		v.want(30, 131, 132, 133)
	}
}
