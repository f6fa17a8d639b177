package volume

import (
	"testing"
	"time"
)

// governed is a disk, or a link, that carries so much; an operation of the
// foreground takes the longer the more of it a rebuild has.
type governed struct {
	g        *governor
	now      time.Duration
	carries  float64                          // bytes a second
	feels    func(busy float64) time.Duration // an operation of the foreground; nil: there is none
	every    time.Duration                    // how often there is one
	reads    func(busy float64) time.Duration // a read of it; nil: there are none
	rebuild  bool                             // there is something to rebuild
	bad, ops int                              // operations above bound
	bound    time.Duration
}

// run plays for a while and returns how many bytes a second the rebuild moved.
func (d *governed) run(lasts time.Duration) float64 {
	const portion = 128 << 10
	const tick = time.Millisecond
	moved, busy, credit := 0.0, 0.0, 0.0
	next, fg := d.now, d.now
	end := d.now + lasts
	for ; d.now < end; d.now += tick {
		n := 0.0
		credit = min(credit+d.carries*tick.Seconds(), portion+d.carries*tick.Seconds())
		for d.rebuild && next <= d.now && credit > 0 {
			n += portion
			credit -= portion
			next = max(next, d.now) + d.g.take(portion, d.now)
			if next <= d.now {
				next = d.now // the disk is what bounds it
			}
		}
		moved += n
		busy += (n/(d.carries*tick.Seconds()) - busy) / 10
		for d.feels != nil && fg <= d.now {
			took := d.feels(min(busy, 0.99))
			d.ops++
			if took > d.bound {
				d.bad++
			}
			d.g.felt(took, d.now)
			fg += d.every
		}
		for k := 0; d.reads != nil && k < 10; k++ { // as many in a tick
			took := d.reads(min(busy, 0.99))
			d.ops++
			if took > d.bound {
				d.bad++
			}
			d.g.feltRead(took, d.now)
		}
	}
	return moved / lasts.Seconds()
}

func queueing(idle time.Duration) func(float64) time.Duration {
	return func(busy float64) time.Duration { return time.Duration(float64(idle) / (1 - busy)) }
}

func newGoverned(limit int64) *governed {
	return &governed{g: newGovernor(limit), carries: 400e6, every: 2 * time.Millisecond, bound: time.Hour}
}

// TestARebuildWithoutForegroundHasTheWholeDisk and soon again when that has ended.
func TestARebuildWithoutForegroundHasTheWholeDisk(t *testing.T) {
	d := newGoverned(0)
	d.rebuild = true
	if got := d.run(5 * time.Second); got < 0.95*d.carries {
		t.Errorf("%.0f MB/s of %.0f", got/1e6, d.carries/1e6)
	}
	if limit, _ := d.g.limit(d.now); limit != 0 {
		t.Errorf("it is limited to %d without a reason", limit)
	}
	d.feels = queueing(time.Millisecond)
	d.run(5 * time.Second)
	if limit, byCap := d.g.limit(d.now); limit == 0 || byCap {
		t.Error("it is not limited beside a foreground")
	}
	d.feels = nil
	d.run(present)
	if got := d.run(5 * time.Second); got < 0.95*d.carries {
		t.Errorf("after the foreground %.0f MB/s of %.0f", got/1e6, d.carries/1e6)
	}
}

// TestTheForegroundSteersTheRate: what it takes without a rebuild is known from
// before; then the rate settles where it takes as many times as long as it may.
func TestTheForegroundSteersTheRate(t *testing.T) {
	for _, idle := range []time.Duration{time.Millisecond, 8 * time.Millisecond} {
		d := newGoverned(0)
		d.feels = queueing(idle)
		d.run(5 * time.Second)
		d.rebuild = true
		d.run(20 * time.Second) // until it has found its rate
		d.bound, d.ops, d.bad = 5*idle, 0, 0
		got := d.run(30 * time.Second)
		if share := got / d.carries; share < 0.4 || share > 0.75 {
			t.Errorf("idle %v: the rebuild has %.2f of the disk, want about 2/3", idle, share)
		}
		if d.bad*100 > d.ops {
			t.Errorf("idle %v: %d of %d operations took more than five times as long as without a rebuild", idle, d.bad, d.ops)
		}
	}
}

// TestAForegroundThatIsMetInTheMiddle of a rebuild: how long it takes without one
// is found out first.
func TestAForegroundThatIsMetInTheMiddle(t *testing.T) {
	d := newGoverned(0)
	d.rebuild = true
	d.run(5 * time.Second)
	d.feels, d.bound = queueing(time.Millisecond), 5*time.Millisecond
	got := d.run(30 * time.Second)
	if share := got / d.carries; share < 0.3 || share > 0.75 {
		t.Errorf("the rebuild has %.2f of the disk", share)
	}
	if d.bad*100 > d.ops {
		t.Errorf("%d of %d operations took more than five times as long as without a rebuild", d.bad, d.ops)
	}
}

// TestTheGuaranteedShare is what a rebuild gets beside a foreground that is never
// content.
func TestTheGuaranteedShare(t *testing.T) {
	d := newGoverned(0)
	d.rebuild = true
	d.run(3 * time.Second) // the disk shows what it can
	d.rebuild, d.feels = false, queueing(time.Millisecond)
	d.run(3 * time.Second)
	d.rebuild, d.feels = true, func(busy float64) time.Duration {
		if busy > 0.001 {
			return time.Second
		}
		return time.Millisecond
	}
	d.run(5 * time.Second)
	got := d.run(20 * time.Second)
	if share := got / d.carries; share < 0.09 || share > 0.12 {
		t.Errorf("the rebuild has %.3f of the disk, want a tenth", share)
	}
	slow := newGoverned(0) // one that is never seen to do much
	slow.feels = d.feels
	slow.run(time.Second)
	slow.rebuild = true
	slow.run(2 * time.Second)
	if got := slow.run(20 * time.Second); got < 0.9*governFloor || got > 1.2*governFloor {
		t.Errorf("the rebuild has %.1f MiB/s, want %d", got/(1<<20), governFloor>>20)
	}
}

// TestARebuildYieldsToAReader that writes nothing, and a few syncs are not lost
// sight of among very many reads that feel nothing.
func TestARebuildYieldsToAReader(t *testing.T) {
	d := newGoverned(0)
	d.reads = queueing(time.Millisecond)
	d.run(5 * time.Second)
	d.rebuild = true
	d.run(20 * time.Second)
	d.bound, d.ops, d.bad = 5*time.Millisecond, 0, 0
	got := d.run(30 * time.Second)
	if share := got / d.carries; share < 0.4 || share > 0.75 {
		t.Errorf("beside a reader the rebuild has %.2f of the disk, want about 2/3", share)
	}
	if d.bad*100 > d.ops {
		t.Errorf("%d of %d reads took more than five times as long as without a rebuild", d.bad, d.ops)
	}
	d = newGoverned(0)
	d.reads = func(float64) time.Duration { return 100 * time.Microsecond }
	d.feels, d.every = queueing(time.Millisecond), 20*time.Millisecond
	d.run(5 * time.Second)
	d.rebuild = true
	d.run(20 * time.Second)
	if got := d.run(30 * time.Second); got > 0.75*d.carries {
		t.Errorf("a sync in 200 operations is not felt: the rebuild has %.2f of the disk", got/d.carries)
	}
}

// TestTheCapHolds with and without a foreground, and is told.
func TestTheCapHolds(t *testing.T) {
	d := newGoverned(20e6)
	d.rebuild = true
	if got := d.run(20 * time.Second); got < 0.95*20e6 || got > 1.1*20e6 {
		t.Errorf("%.1f MB/s, want 20", got/1e6)
	}
	if limit, byCap := d.g.limit(d.now); limit != 20e6 || !byCap {
		t.Errorf("it says %d, %v", limit, byCap)
	}
	d.feels = queueing(time.Millisecond)
	d.run(10 * time.Second)
	if got := d.run(20 * time.Second); got < 0.7*20e6 || got > 1.1*20e6 {
		t.Errorf("%.1f MB/s beside a foreground, want 20", got/1e6)
	}
}
