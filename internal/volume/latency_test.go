package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

func TestLatencyClasses(t *testing.T) {
	for _, c := range []struct {
		took  time.Duration
		class int
	}{
		{-1, 0}, {0, 0}, {64 * time.Microsecond, 0}, {64*time.Microsecond + 1, 1}, {128 * time.Microsecond, 1},
		{time.Millisecond, 4}, {16 * time.Second, latencyClasses - 1}, {17 * time.Second, latencyClasses}, {1 << 62, latencyClasses},
	} {
		var l Latency
		l.add(c.took)
		if l.Count != 1 || l.Sum != max(c.took, 0) {
			t.Errorf("%v: %+v", c.took, l)
		}
		for i, n := range l.Class {
			if (n == 1) != (i == c.class) {
				t.Errorf("%v is in class %d up to %v, want %d", c.took, i, LatencyLimit(i), c.class)
			}
		}
	}
}

// TestLatenciesOfAVolume: every request of a client counts once, one that failed
// does not, and each copy has its share in a flush.
func TestLatenciesOfAVolume(t *testing.T) {
	play(t, 37, 3, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		before := v.Latencies()
		for i := range 5 {
			sc.write(v, int64(i), fill('x', 1))
		}
		sc.must(sc.do(v, export.Request{Op: export.Zero, Off: 0, Length: holdfast.BlockSize}))
		sc.flush(v)
		sc.expect(v, 1, fill('x', 1))
		if sc.do(v, export.Request{Op: export.Write, Off: 1 << 50, Length: holdfast.BlockSize, Data: fill('y', 1)}) == nil {
			t.Error("it writes beyond its end")
		}
		l := v.Latencies()
		if w, r, f := l.Write.Count-before.Write.Count, l.Read.Count-before.Read.Count, l.Flush.Count-before.Flush.Count; w != 6 || r != 1 || f != 1 {
			t.Errorf("counted %d writes, %d reads, %d flushes; want 6, 1, 1", w, r, f)
		}
		if len(l.Hops) != 2 {
			t.Fatalf("%d hops, want one for each copy: %+v", len(l.Hops), l.Hops)
		}
		for _, hop := range l.Hops {
			self := hop.Host == sc.hosts[0].id
			if hop.Sync.Count == 0 || hop.Sync.Sum <= 0 || self != (hop.Append.Count == 0) {
				t.Errorf("host %s, this one %v: %+v", hop.Host.Short(), self, hop)
			}
		}
	})
}
