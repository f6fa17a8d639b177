package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// TestTheBucket: at each time, how long a request would have to wait, and then
// one that starts whatever that says.
func TestTheBucket(t *testing.T) {
	const ms, mb = time.Millisecond, 1_000_000
	type step struct {
		at   time.Duration
		wait time.Duration
		ops  int64
		size int64
	}
	for _, c := range []struct {
		name   string
		limits cluster.Limits
		steps  []step
	}{
		{"without limits nothing waits", cluster.Limits{}, []step{{0, 0, 1, 1 << 40}, {0, 0, 1, 1}}},
		{"one after the other", cluster.Limits{IOPS: 10}, []step{
			{0, 0, 1, 0}, {0, 0, 1, 0}, {0, 100 * ms, 0, 0}, {60 * ms, 40 * ms, 0, 0}, {100 * ms, 0, 1, 0}, {100 * ms, 100 * ms, 0, 0}}},
		{"what was saved up is spent at once", cluster.Limits{IOPS: 10, BurstMS: 1000}, []step{
			{0, 0, 10, 0}, {0, 0, 1, 0}, {0, 100 * ms, 0, 0}}},
		{"no more is saved up than the burst", cluster.Limits{IOPS: 10, BurstMS: 1000}, []step{
			{0, 0, 11, 0}, {time.Hour, 0, 11, 0}, {time.Hour, 100 * ms, 0, 0}}},
		{"half of it after half the time", cluster.Limits{IOPS: 10, BurstMS: 1000}, []step{
			{0, 0, 10, 0}, {500 * ms, 0, 6, 0}, {500 * ms, 100 * ms, 0, 0}}},
		{"a request above the burst goes into debt", cluster.Limits{MBps: 2}, []step{
			{0, 0, 1, 10 * mb}, {0, 4900 * ms, 0, 0}, {4900 * ms, 0, 1, mb}, {4900 * ms, 500 * ms, 0, 0}}},
		{"the tighter limit counts", cluster.Limits{IOPS: 100, MBps: 1}, []step{
			{0, 0, 11, mb}, {0, 900 * ms, 0, 0}, {890 * ms, 10 * ms, 91, 0}, {900 * ms, 800 * ms, 0, 0}}},
		{"no debt is longer than anybody's patience", cluster.Limits{MBps: 1}, []step{
			{0, 0, 1, 1 << 40}, {0, maxDelay, 1, 1 << 40}, {time.Second, maxDelay - time.Second, 0, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const start = 1000 * time.Hour
			var b bucket
			b.change(c.limits, start)
			for i, s := range c.steps {
				now := start + s.at
				if got := b.wait(now); got != s.wait {
					t.Errorf("step %d, at %v: waits %v, want %v", i, s.at, got, s.wait)
				}
				if s.ops > 0 {
					b.take(s.ops, s.size, now)
				}
			}
		})
	}
}

func TestADebtStaysWhenTheLimitsChange(t *testing.T) {
	var b bucket
	now := 5 * time.Second
	change := func(l cluster.Limits, want time.Duration) {
		t.Helper()
		if b.change(l, now); b.wait(now) != want {
			t.Errorf("with %v: waits %v, want %v", l, b.wait(now), want)
		}
	}
	change(cluster.Limits{IOPS: 10}, 0)
	b.take(21, 0, now) // 20 owed
	change(cluster.Limits{IOPS: 10}, 2*time.Second)
	change(cluster.Limits{IOPS: 20}, time.Second)
	change(cluster.Limits{IOPS: 4}, 5*time.Second)
	change(cluster.Limits{IOPS: 4, BurstMS: 10_000}, 5*time.Second)
	change(cluster.Limits{IOPS: 1}, maxDelay)
	change(cluster.Limits{MBps: 1}, 0)
	change(cluster.Limits{IOPS: 1}, 0)
}

func TestThePriceOfARequest(t *testing.T) {
	for _, c := range []struct {
		req        export.Request
		ops, bytes int64
	}{
		{export.Request{Op: export.Read, Data: make([]byte, 512)}, 1, 512},
		{export.Request{Op: export.Write, Data: make([]byte, opBytes)}, 1, opBytes},
		{export.Request{Op: export.Write, Data: make([]byte, opBytes+1)}, 2, opBytes + 1},
		{export.Request{Op: export.Write}, 1, 0},
		{export.Request{Op: export.Flush}, 0, 0},
		{export.Request{Op: export.Trim, Length: 1 << 44}, 1, 0},
		{export.Request{Op: export.Zero, Length: holdfast.BlockSize}, 1, 0},
	} {
		if ops, bytes := price(&c.req); ops != c.ops || bytes != c.bytes {
			t.Errorf("operation %d of %d bytes costs %d operations and %d bytes, want %d and %d", c.req.Op, len(c.req.Data), ops, bytes, c.ops, c.bytes)
		}
	}
}
