package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

const (
	// opBytes is how many bytes one operation reads or writes at most: a longer
	// request counts as several.
	opBytes = 256 << 10
	// maxDelay is the longest that a request waits for limits, however low they
	// are. It is less than what initiators have patience for (30 s and more).
	maxDelay = 20 * time.Second
)

// bucket is what is left of a volume's limits: a machine, whose times come from
// outside. A request may start while no allowance is in debt, and then takes
// out what it costs, whatever is there; so those of any size pass sooner or
// later, and the rate is kept all the same.
type bucket struct {
	limits     cluster.Limits
	ops, bytes allowance
}

// allowance grows by rate, up to what it is worth after the burst.
type allowance struct {
	rate int64         // a second; 0: no limit
	even time.Duration // when it was, or will be, neither credit nor debt
}

// change sets other limits. Debts stay, in operations and bytes.
func (b *bucket) change(l cluster.Limits, now time.Duration) {
	b.limits = l
	b.ops.change(int64(l.IOPS), l.Burst(), now)
	b.bytes.change(int64(l.MBps)*1_000_000, l.Burst(), now)
}

func (a *allowance) change(rate int64, burst, now time.Duration) {
	switch {
	case a.rate == 0:
		a.even = now - burst
	case rate != 0 && a.even > now:
		debt := float64(a.even-now) * float64(a.rate) / float64(rate)
		a.even = now + time.Duration(min(debt, float64(maxDelay)))
	}
	a.rate = rate
}

// wait tells how long it is until a request may start; 0: it may now.
func (b *bucket) wait(now time.Duration) time.Duration {
	return max(b.ops.wait(now), b.bytes.wait(now))
}

func (a *allowance) wait(now time.Duration) time.Duration {
	if a.rate == 0 {
		return 0
	}
	return max(0, a.even-now)
}

// take takes out what a request costs that starts now.
func (b *bucket) take(ops, bytes int64, now time.Duration) {
	burst := b.limits.Burst()
	b.ops.take(ops, burst, now)
	b.bytes.take(bytes, burst, now)
}

func (a *allowance) take(n int64, burst, now time.Duration) {
	if a.rate == 0 {
		return
	}
	cost := min(float64(n)/float64(a.rate)*float64(time.Second), float64(time.Hour))
	a.even = min(max(a.even, now-burst)+time.Duration(cost), now+maxDelay)
}

// price is what a request costs. A trim or zero has no data, and a file system
// that is made trims all of its volume: it is one operation of any length.
func price(r *export.Request) (ops, bytes int64) {
	switch r.Op {
	case export.Flush:
		return 0, 0
	case export.Trim, export.Zero:
		return 1, 0
	}
	bytes = int64(len(r.Data))
	return max(1, (bytes+opBytes-1)/opBytes), bytes
}
