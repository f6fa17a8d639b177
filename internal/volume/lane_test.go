package volume

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// paired writes a block and flushes so many times, and tells how long each took.
func (sc *scene) paired(d export.Disk, n int) (took []time.Duration) {
	for i := range n {
		begin := sc.w.Now()
		for _, op := range []export.Op{export.Write, export.Flush} {
			ev := sc.w.Clock().NewEvent()
			r := export.Request{Op: op, Done: func(_ *export.Request, err error) { sc.must(err); ev.Set() }}
			if op == export.Write {
				r.Data, r.Length, r.Off = fill(byte(i), 1), holdfast.BlockSize, int64(i)*holdfast.BlockSize
			}
			d.Submit(&r)
			ev.Wait(clock.Forever)
		}
		took = append(took, sc.w.Now()-begin)
	}
	slices.Sort(took)
	return took
}

// Two volumes of a host have their other copy on one disk elsewhere, behind a
// slow line. What one of them has to send does not stand before what the other
// one sends: beside eight large writes a small one and its flush wait for a frame
// or two, not for all that a volume may have under way.
func TestAFloodDoesNotFillTheWayToAnotherHost(t *testing.T) {
	playPlain(t, 1, 2, 2, func(sc *scene) {
		const perSecond = 64 << 20
		p := simnet.LAN()
		p.Bandwidth = perSecond
		sc.net.SetParams(p)
		h := sc.hosts[0]
		small, flood := sc.session(h.open()), sc.session(h.openOf(sc.anotherOf(1024, 78, sc.hosts...)))
		sc.paired(small, 5)
		flooded := sc.w.Clock().NewEvent()
		writes := 0
		sc.w.Clock().Go(func() {
			writes = sc.load(h, flood, 8, time.Second, export.Write, 512<<10)
			flooded.Set()
		})
		sc.sleep(200 * time.Millisecond)
		took := sc.paired(small, 10)
		flooded.Wait(clock.Forever)
		wire := func(bytes int) time.Duration { return time.Duration(bytes) * time.Second / perSecond }
		if got, most := took[len(took)/2], wire(2*laneShared+frameBytes); got > most {
			t.Errorf("a write and its flush took %v beside a flood, half of the time; want at most %v", got, most)
		}
		if want := perSecond / (512 << 10) * 2 / 3; writes < want {
			t.Errorf("the flood made %d writes in a second, want two thirds of what the line carries, %d", writes, want)
		}
		t.Logf("median %v, longest %v, %d large writes", took[len(took)/2], took[len(took)-1], writes)
	})
}
