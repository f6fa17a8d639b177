package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// While an opening outwaits the leases of writers before, another host opens the
// volume, and writes. The first one does not open it any more: nobody asks the only
// replica in sync for a lease if that is the writer's own, so it would read what the
// other may have changed.
func TestAnOpeningThatIsOvertakenWhileItWaitsDoesNotOpen(t *testing.T) {
	play(t, 1, 2, 1, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		sc.write(a.open(), 0, fill(1, 1))
		a.powerCut()
		a.boot() // whoever was the writer may hold a lease of its replica
		var v *Volume
		var err error
		ended := sc.w.Clock().NewEvent()
		a.clk.Go(func() {
			v, err = a.s.Open(sc.vol.ID)
			ended.Set()
		})
		clock.Sleep(sc.w.Clock(), 2*time.Second)
		w := b.open()
		ended.Wait(clock.Forever)
		if !holdfast.IsKind(err, holdfast.Fenced) {
			t.Errorf("the first opening, of epoch %d, ends with %v; epoch %d is open", v.epoch, err, w.epoch)
		}
		if o := a.s.Opened(sc.vol.ID); o != nil {
			t.Errorf("epoch %d is open on the first host", o.epoch)
		}
		sc.write(w, 0, fill(2, 1))
		sc.expect(w, 0, fill(2, 1))
	})
}
