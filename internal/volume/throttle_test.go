package volume

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// limit changes the limits in the volume's record, and tells its writer of that
// as the node does.
func (sc *scene) limit(h *sceneHost, l cluster.Limits) {
	h.on(func() {
		rec, mod, err := h.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Limits = l
		mod, err = h.CommitVolume(rec, mod)
		sc.must(err)
		h.s.NoteRecord(rec, mod)
	})
}

func (sc *scene) session(v *Volume) (d export.Disk) {
	var err error
	d, err = v.Session(false)
	sc.must(err)
	return d
}

// load keeps so many requests under way for so long, and tells how many ended
// well by then.
func (sc *scene) load(h *sceneHost, d export.Disk, depth int, lasts time.Duration, op export.Op, size int) (n int) {
	over, left := false, depth
	ended := sc.w.Clock().NewEvent()
	for i := range depth {
		h.clk.Go(func() {
			data := fill(byte(i+1), 1)
			if size > len(data) {
				data = fill(byte(i+1), size/holdfast.BlockSize)
			}
			for !over {
				ev := h.clk.NewEvent()
				r := export.Request{Op: op, Off: int64(i * size), Length: int64(size), Data: data[:size]}
				r.Done = func(_ *export.Request, err error) {
					if sc.must(err); !over {
						n++
					}
					ev.Set()
				}
				d.Submit(&r)
				ev.Wait(clock.Forever)
			}
			if left--; left == 0 {
				ended.Set()
			}
		})
	}
	clock.Sleep(sc.w.Clock(), lasts)
	over = true
	got := n
	ended.Wait(clock.Forever)
	return got
}

// TestAVolumeKeepsToItsLimits for ten seconds: neither more than they allow nor
// much less.
func TestAVolumeKeepsToItsLimits(t *testing.T) {
	const block = holdfast.BlockSize
	for _, c := range []struct {
		name       string
		limits     cluster.Limits
		op         export.Op
		size       int
		want, upto int // requests in 10 s
	}{
		{"writes", cluster.Limits{IOPS: 50}, export.Write, block, 500, 506},
		{"reads", cluster.Limits{IOPS: 50}, export.Read, block, 500, 506},
		{"trims", cluster.Limits{IOPS: 50}, export.Trim, block, 500, 506},
		{"pieces of blocks", cluster.Limits{IOPS: 50}, export.Write, 512, 500, 506},
		{"big writes by bytes", cluster.Limits{MBps: 1}, export.Write, 128 * block, 19, 20},
		{"big reads by bytes", cluster.Limits{MBps: 1}, export.Read, 128 * block, 19, 20},
		{"big writes by operations", cluster.Limits{IOPS: 8}, export.Write, 128 * block, 40, 41},
		{"a burst", cluster.Limits{IOPS: 50, BurstMS: 4000}, export.Write, block, 700, 702},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, 3, 2, 2, func(sc *scene) {
				h := sc.hosts[0]
				v := h.open()
				sc.limit(h, c.limits)
				d := sc.session(v)
				if n := sc.load(h, d, 8, 10*time.Second, c.op, c.size); n < c.want || n > c.upto {
					t.Errorf("%d requests in 10 s, want %d to %d", n, c.want, c.upto)
				}
				h.on(d.Close)
			})
		})
	}
}

// batch submits n writes at once, and notes which ended how, in that order.
type batch struct {
	ended []int
	errs  []error
}

func (sc *scene) batch(h *sceneHost, d export.Disk, n int) *batch {
	b := &batch{errs: make([]error, n)}
	h.on(func() {
		for i := range n {
			r := &export.Request{Op: export.Write, Off: int64(i) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: fill(byte(i+1), 1), Next: i < n-1}
			r.Done = func(_ *export.Request, err error) { b.ended, b.errs[i] = append(b.ended, i), err }
			d.Submit(r)
		}
	})
	return b
}

// count checks how many have ended.
func (sc *scene) count(b *batch, from, upto int) {
	sc.t.Helper()
	if n := len(b.ended); n < from || n > upto {
		sc.t.Errorf("at %v: %d requests have ended, want %d to %d", sc.w.Now(), n, from, upto)
	}
}

func TestLimitsChangeWhileRequestsWait(t *testing.T) {
	play(t, 5, 2, 2, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		d := sc.session(v)
		second := func() { clock.Sleep(sc.w.Clock(), time.Second) }
		sc.limit(h, cluster.Limits{IOPS: 10})
		b := sc.batch(h, d, 200)
		second()
		sc.count(b, 11, 12)
		sc.limit(h, cluster.Limits{IOPS: 50})
		second()
		sc.count(b, 60, 64)
		sc.limit(h, cluster.Limits{IOPS: 2})
		second()
		sc.count(b, 62, 66)
		sc.limit(h, cluster.Limits{})
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		sc.count(b, 200, 200)
		if !slices.IsSorted(b.ended) {
			t.Errorf("they ended in another order than they came: %v", b.ended)
		}
		if v.throttle != nil {
			t.Error("a volume without limits goes on looking for them")
		}
		more := sc.batch(h, d, 200)
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		sc.count(more, 200, 200)
		for i, err := range append(b.errs, more.errs...) {
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
		sc.expect(v, 199, fill(200, 1))
		h.on(d.Close)
	})
}

// TestAFlushIsNotLimited: it returns while writes wait, and covers those that
// completed before it.
func TestAFlushIsNotLimited(t *testing.T) {
	play(t, 6, 2, 2, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		d := sc.session(v)
		sc.limit(h, cluster.Limits{IOPS: 1})
		b := sc.batch(h, d, 10)
		began := sc.w.Now()
		done := sc.w.Clock().NewEvent()
		h.on(func() {
			d.Submit(&export.Request{Op: export.Flush, Done: func(_ *export.Request, err error) { sc.must(err); done.Set() }})
		})
		done.Wait(clock.Forever)
		if took := sc.w.Now() - began; took > 200*time.Millisecond || len(b.ended) == 10 {
			t.Errorf("a flush took %v, and %d of 10 writes have ended", took, len(b.ended))
		}
		h.on(d.Close)
	})
}

// TestNobodyWaitsForWhatIsHeldBack: writes that were to be sent along with the
// next one do not wait for it if that has to.
func TestNobodyWaitsForWhatIsHeldBack(t *testing.T) {
	play(t, 11, 2, 2, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		d := sc.session(v)
		for range 20 {
			sc.limit(h, cluster.Limits{IOPS: 1, BurstMS: 3000})
			b := sc.batch(h, d, 5)
			clock.Sleep(sc.w.Clock(), 5*time.Millisecond)
			sc.count(b, 4, 4)
			sc.limit(h, cluster.Limits{})
			clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
			sc.count(b, 5, 5)
		}
		h.on(d.Close)
	})
}

// TestAClosedSessionDoesNotWaitForLimits: what has not begun never will, and
// the next session is not billed for it.
func TestAClosedSessionDoesNotWaitForLimits(t *testing.T) {
	play(t, 7, 2, 2, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		d := sc.session(v)
		sc.write(v, 9, fill('x', 1))
		sc.limit(h, cluster.Limits{IOPS: 2})
		b := sc.batch(h, d, 10)
		began := sc.w.Now()
		h.on(d.Close)
		if took := sc.w.Now() - began; took > time.Second {
			t.Errorf("the session took %v to close", took)
		}
		sc.count(b, 10, 10)
		failed := 0
		for _, err := range b.errs {
			if holdfast.IsKind(err, holdfast.Closed) {
				failed++
			} else {
				sc.must(err)
			}
		}
		if failed < 8 {
			t.Errorf("%d of 10 requests were ended by the close", failed)
		}
		d = sc.session(v)
		clock.Sleep(sc.w.Clock(), 2*time.Second)
		next := sc.batch(h, d, 1)
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		sc.count(next, 1, 1)
		sc.expect(v, 9, fill('x', 1))
		h.on(d.Close)
	})
}

// TestAFencedVolumeEndsWhatWaitsForItsLimits, with the reason, and leaves
// nothing behind.
func TestAFencedVolumeEndsWhatWaitsForItsLimits(t *testing.T) {
	play(t, 8, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		d := sc.session(v)
		sc.limit(a, cluster.Limits{IOPS: 1, BurstMS: 3000})
		waits := sc.batch(a, d, 20)
		b.open()
		clock.Sleep(sc.w.Clock(), time.Second)
		sc.count(waits, 20, 20)
		for _, err := range waits.errs[15:] {
			if !holdfast.IsKind(err, holdfast.Fenced) {
				t.Errorf("a request that waited ended with %v", err)
			}
		}
		a.on(v.tasks.Wait)
	})
}

// TestNothingWaitsLongerThanInitiatorsDo, however low the limit; and afterwards
// the volume is soon as quick as it may be.
func TestNothingWaitsLongerThanInitiatorsDo(t *testing.T) {
	play(t, 9, 2, 2, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		d := sc.session(v)
		sc.limit(h, cluster.Limits{IOPS: 1})
		b := sc.batch(h, d, 100)
		clock.Sleep(sc.w.Clock(), maxDelay-time.Second)
		sc.count(b, 19, 21)
		clock.Sleep(sc.w.Clock(), 2*time.Second)
		sc.count(b, 100, 100)
		clock.Sleep(sc.w.Clock(), maxDelay)
		again := sc.batch(h, d, 1)
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		sc.count(again, 1, 1)
		h.on(d.Close)
	})
}

// TestLimitsHoldForAllWhoUseAVolume, from whichever host, and stay when another
// host becomes its writer.
func TestLimitsHoldForAllWhoUseAVolume(t *testing.T) {
	play(t, 10, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		a.open()
		sc.limit(a, cluster.Limits{IOPS: 20})
		v := b.open()
		var far export.Disk
		c.on(func() {
			var err error
			rec, _, err := c.ReadVolume(sc.vol.ID)
			sc.must(err)
			far, err = c.s.Target(rec).Open(true)
			sc.must(err)
		})
		d := sc.session(v)
		reads := 0
		fin := sc.w.Clock().NewEvent()
		sc.w.Clock().Go(func() {
			reads = sc.load(c, far, 4, 10*time.Second, export.Read, holdfast.BlockSize)
			fin.Set()
		})
		writes := sc.load(b, d, 4, 10*time.Second, export.Write, holdfast.BlockSize)
		fin.Wait(clock.Forever)
		if n := reads + writes; n < 198 || n > 205 || min(reads, writes) < 80 {
			t.Errorf("%d reads and %d writes in 10 s at 20 a second", reads, writes)
		}
		if s := v.Stats(); s.Delayed < 180 {
			t.Errorf("%d requests were counted as delayed", s.Delayed)
		}
		c.on(far.Close)
		b.on(d.Close)
	})
}
