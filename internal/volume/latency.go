package volume

import (
	"math/bits"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// latencyClasses is how many classes Latency has.
const latencyClasses = 19

// Latency counts how long something took, in classes whose limits double: up to
// 64 µs, up to 128 µs and so on, up to 2^18 × 64 µs, which is 16.8 s. What took
// longer is in the sum alone.
type Latency struct {
	Class [latencyClasses]uint64
	Count uint64
	Sum   time.Duration
}

// shortest is the exponent of the first class, in microseconds.
const shortest = 6

// LatencyLimit returns the limit of a class, which it includes.
func LatencyLimit(class int) time.Duration { return time.Microsecond << (shortest + class) }

// add counts one; less than 0 counts as 0.
func (l *Latency) add(took time.Duration) {
	took = max(took, 0)
	l.Count++
	l.Sum += took
	us := uint64((took + time.Microsecond - 1) / time.Microsecond)
	class := max(bits.Len64(max(us, 1)-1)-shortest, 0)
	if class < latencyClasses {
		l.Class[class]++
	}
}

// Latencies tell where the time of a volume's requests goes since it was opened.
type Latencies struct {
	// Read, Write and Flush are requests of sessions from when they were let in by
	// the volume's limits to their answer, those that failed left out. A trim or
	// zero is a write.
	Read, Write, Flush Latency
	Hops               []HopLatency // in the order in which their replicas came
}

// HopLatency is what the writer waits for at one replica.
type HopLatency struct {
	Host   holdfast.HostID
	Append Latency // records on their way there, into its memory, and the answer; nothing of this host's own
	Sync   Latency // its disk makes them durable, the way there included
}

// Latencies returns what was counted since the opening.
func (v *Volume) Latencies() Latencies {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.latency
	l.Hops = slices.Clone(l.Hops)
	return l
}

// noteAnswers counts what is about to be answered; v.mu is held.
func (v *Volume) noteAnswers(done []finished) {
	var now time.Duration // one reading of the clock for all
	for _, f := range done {
		o := f.op
		if o.began == 0 || f.err != nil {
			continue
		}
		if now == 0 {
			now = v.s.Clock.Now()
		}
		switch o.req.Op {
		case export.Read:
			v.latency.Read.add(now - o.began)
		case export.Flush:
			v.latency.Flush.add(now - o.began)
		default:
			v.latency.Write.add(now - o.began)
		}
	}
}
