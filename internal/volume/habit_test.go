package volume

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// wrotes plays n writes and a flush, and returns how many of the writes were
// expected to be flushed.
func wrotes(h *habit, n int) (expected int) {
	for i := range n {
		h.wrote(holdfast.MakeLSN(1, uint64(i+1)))
		if h.upto != 0 {
			expected++
		}
	}
	h.flushed()
	return expected
}

func TestAFlushIsExpectedAfterAsManyWritesAsBefore(t *testing.T) {
	var h habit
	for i, step := range []struct{ writes, expected int }{
		{2, 0}, {2, 0}, {2, 0}, // it is getting to know
		{2, 1}, {2, 1}, // the second of two
		{0, 0}, {2, 1}, // a flush of nothing changes nothing
		{5, 1}, {5, 0}, {5, 0}, {5, 1}, // a wrong guess, and a new habit
		{1, 0}, {5, 0}, {1, 0}, // none
	} {
		if got := wrotes(&h, step.writes); got != step.expected {
			t.Errorf("step %d: %d of %d writes were expected to be flushed, want %d", i, got, step.writes, step.expected)
		}
	}
}

// TestWhatIsAboutToBeFlushedIsOnItsWayToTheDisks: a replica makes durable what an
// initiator with a habit wrote before the flush asks for it; the flush itself
// waits for the disks as ever, and power may fail in between.
func TestWhatIsAboutToBeFlushedIsOnItsWayToTheDisks(t *testing.T) {
	play(t, 31, 3, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		for i := range int64(5) {
			sc.write(v, i, fill(byte(i+1), 1))
			sc.flush(v)
		}
		sc.write(v, 5, fill(6, 1))
		clock.Sleep(sc.w.Clock(), stableEvery/2) // long before the volume would sync by itself
		v.mu.Lock()
		stable, issued := v.m.Stable(), v.m.Issued()
		v.mu.Unlock()
		if stable != issued {
			t.Errorf("after a habit of flushes %v is stable, though %v was written", stable, issued)
		}
		sc.write(v, 6, fill(7, 1)) // a second write: a habit ends
		sc.write(v, 7, fill(8, 1))
		clock.Sleep(sc.w.Clock(), stableEvery/2)
		v.mu.Lock()
		stable, issued = v.m.Stable(), v.m.Issued()
		v.mu.Unlock()
		if stable >= issued {
			t.Errorf("%v is stable though nobody asked for it", stable)
		}
		sc.flush(v)
		sc.hosts[0].powerCut()
		sc.hosts[1].powerCut()
		sc.hosts[0].boot()
		sc.hosts[1].boot()
		v = sc.hosts[0].open()
		for i := range int64(8) {
			sc.expect(v, i, fill(byte(i+1), 1))
		}
	})
}

// TestRequestsThatComeTogetherShareAFrame: what is submitted with Next set waits
// for Push, and no longer.
func TestRequestsThatComeTogetherShareAFrame(t *testing.T) {
	play(t, 32, 3, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		d, err := v.Session(false)
		sc.must(err)
		done := 0
		for i := range int64(8) {
			d.Submit(&export.Request{Op: export.Write, Off: i * holdfast.BlockSize, Length: holdfast.BlockSize, Data: fill(byte(i+1), 1), Next: true,
				Done: func(_ *export.Request, err error) { sc.must(err); done++ }})
		}
		v.mu.Lock()
		before := v.flying[1] + v.flying[0]
		v.mu.Unlock()
		d.(export.Pusher).Push(false)
		v.mu.Lock()
		after := v.flying[1] + v.flying[0]
		v.mu.Unlock()
		if before != 0 || after != 1 {
			t.Errorf("%d frames are under way before they are pushed and %d after, want none and one", before, after)
		}
		clock.Sleep(sc.w.Clock(), stableEvery)
		if done != 8 {
			t.Errorf("%d of 8 writes are complete", done)
		}
		d.Close()
	})
}
