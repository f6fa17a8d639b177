package volume

import (
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// Who waits in the foreground: for a disk to have synced or to give what is on
// it, or for another host to have records in memory.
const (
	// present is how long after the last operation of the foreground a rebuild
	// still minds it.
	present = 2 * time.Second
	// governWindow is how often the rate is set.
	governWindow = 100 * time.Millisecond
	// governSlack is how much longer than without a rebuild the foreground may
	// take: its 95th percentile, as a factor, and in any case as long.
	governSlack = 3
	governLeast = time.Millisecond
	// governFloor is what a rebuild gets whatever the foreground suffers, bytes a
	// second, or a tenth of what the disk or link has been seen to carry.
	governFloor = 4 << 20
	governShare = 10
	// governStep is by how much it rises at least.
	governStep = 8 << 20
	// governTop is the rate from which on there is no limit.
	governTop = 4 << 30

	governBurst  = 20 * time.Millisecond // what may be moved at once, at the rate
	governRest   = 500 * time.Millisecond
	governSample = 256
	quietEnough  = 8 // samples without a rebuild, before one goes faster than the floor beside them
)

// governor sets the rate of all rebuilds that read from a disk, write to it, or
// go to another host, by what the foreground feels there. While that takes at
// most governSlack times as long as without them the rate rises by equal steps;
// when it takes longer the rate falls by a third; it never falls below the
// guaranteed share. Without a foreground there is no limit but the cap.
//
// Its mutex is innermost. Where there is nothing to govern it is nil.
type governor struct {
	mu  sync.Mutex
	cap int64 // bytes a second; 0: none

	rate  float64       // beside a foreground, bytes a second
	seen  float64       // the highest that was moved without limit, bytes a second
	even  time.Duration // when what was moved is paid for
	last  time.Duration // when the foreground was last seen; negative: never
	begin time.Duration // of the window
	moved int64         // in it
	was   int64         // in the window before
	feels [feelings]feeling
}

// What the foreground may wait for. Each is felt by itself: a few syncs would
// not be seen among many reads, and the other way round.
const (
	ofSync = iota // of a disk, or records on their way over a link
	ofRead        // of what is on the medium
	feelings
)

// feeling is how long one kind of operation of the foreground takes.
type feeling struct {
	took  []time.Duration
	n     int           // operations in this window; took has some of them
	quiet time.Duration // what it takes without a rebuild; 0: not known yet
	known int           // samples that quiet comes from, up to quietEnough
	over  bool          // it took too long in the last window
}

func newGovernor(limit int64) *governor { return &governor{cap: limit, last: -present} }

// felt is told how long an operation of the foreground took, a sync or record;
// feltRead is told of a read that was not answered from memory.
func (g *governor) felt(d, now time.Duration)     { g.feel(ofSync, d, now) }
func (g *governor) feltRead(d, now time.Duration) { g.feel(ofRead, d, now) }

func (g *governor) feel(kind int, d, now time.Duration) {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.roll(now)
	g.last = now
	f := &g.feels[kind]
	if f.n < governSample {
		f.took = append(f.took, d)
	} else {
		f.took[f.n%governSample] = max(f.took[f.n%governSample], d)
	}
	f.n++
	g.mu.Unlock()
}

// roll ends the window when it is over, and sets the rate.
func (g *governor) roll(now time.Duration) {
	d := now - g.begin
	if d < governWindow {
		return
	}
	if g.moved > 0 && g.feels[ofSync].n+g.feels[ofRead].n == 0 && now-g.last >= present {
		g.seen = max(g.seen, float64(g.moved)/max(d, governWindow).Seconds())
	}
	g.steer()
	g.begin, g.was, g.moved = now, g.moved, 0
	if d >= 2*governWindow {
		g.was = 0
	}
}

// verdict is what a window says of the rate, the worst last.
type verdict int

const (
	nothing verdict = iota // it was not felt
	learnt                 // what is felt without a rebuild is not known, or there was none
	faster
	wait // it took too long once, which may have other reasons
	slower
)

// steer takes what the foreground felt in the window: whatever is felt worst
// counts.
func (g *governor) steer() {
	floor := g.floor()
	rate := max(g.rate, floor)
	still := g.moved == 0 && g.was == 0
	worst := nothing
	for i := range g.feels {
		worst = max(worst, g.feels[i].end(still, rate <= floor))
	}
	switch {
	case worst == nothing:
		return
	case worst == slower:
		rate = max(floor, rate*2/3)
	case worst == faster && float64(g.moved) > rate*governWindow.Seconds()/2: // else it is something else that holds it up
		rate = min(governTop, rate+max(g.seen/32, governStep))
	}
	g.rate = rate
}

// end judges a window, and begins another. still: there was no rebuild in it;
// least: one that is as slow as may be.
func (f *feeling) end(still, least bool) verdict {
	if f.n == 0 {
		return nothing
	}
	slices.Sort(f.took)
	high := f.took[len(f.took)*95/100]
	if still || f.known < quietEnough && least {
		if f.quiet == 0 {
			f.quiet = high
		}
		f.quiet += (high - f.quiet) / 8
		f.known = min(f.known+len(f.took), quietEnough)
	}
	f.n, f.took = 0, f.took[:0]
	bound := max(governSlack*f.quiet, governLeast)
	was := f.over
	f.over = high > bound
	switch {
	case still || f.known < quietEnough:
		return learnt
	case f.over && (was || high > 2*bound):
		return slower
	case f.over:
		return wait
	}
	return faster
}

func (g *governor) floor() float64 { return max(governFloor, g.seen/governShare) }

// limit is what may be moved now, bytes a second, 0: as much as goes; byCap says
// that it is the cap.
func (g *governor) limit(now time.Duration) (rate int64, byCap bool) {
	if g == nil {
		return 0, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limitLocked(now)
}

func (g *governor) limitLocked(now time.Duration) (rate int64, byCap bool) {
	if now-g.last < present {
		if r := max(g.rate, g.floor()); r < governTop && (g.cap == 0 || int64(r) < g.cap) {
			return int64(r), false
		}
	}
	return g.cap, g.cap > 0
}

// take notes that n bytes are about to be moved and returns how long to wait
// before.
func (g *governor) take(n int, now time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.roll(now)
	g.moved += int64(n)
	rate, _ := g.limitLocked(now)
	if rate == 0 {
		g.even = now
		return 0
	}
	wait := max(0, g.even-now)
	g.even = max(g.even, now-governBurst) + time.Duration(float64(n)/float64(rate)*float64(time.Second))
	g.even = min(g.even, now+governRest)
	return wait
}

// pace waits until n bytes may be moved. It blocks.
func (g *governor) pace(c clock.Clock, n int) {
	if g != nil {
		clock.Sleep(c, g.take(n, c.Now()))
	}
}

// gently reports whether there is a foreground to be minded.
func (g *governor) gently(now time.Duration) bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return now-g.last < present
}
