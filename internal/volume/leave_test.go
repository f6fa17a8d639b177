package volume

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// begin opens a session at a host.
func (sc *scene) begin(h *sceneHost, readOnly bool) (d export.Disk, err error) {
	h.on(func() { d, err = h.s.Target(sc.vol).Open(readOnly) })
	return d, err
}

// use does one operation in a session.
func (sc *scene) use(h *sceneHost, d export.Disk, r export.Request) (err error) {
	h.on(func() {
		ev := h.clk.NewEvent()
		r.Done = func(_ *export.Request, e error) { err = e; ev.Set() }
		d.Submit(&r)
		ev.Wait(clock.Forever)
	})
	return err
}

// TestADrainedHostGivesAVolumeUpWhenNobodyUsesIt: it goes on writing while a
// session lasts, also for others that come; the first session after that makes
// another host the writer.
func TestADrainedHostGivesAVolumeUpWhenNobodyUsesIt(t *testing.T) {
	play(t, 31, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		a.open()
		d, err := sc.begin(c, false)
		sc.must(err)
		a.drained = true
		sc.must(sc.use(c, d, export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: fill('x', 1)}))
		if w := a.s.Used(); len(w) != 1 || w[0] != sc.vol.ID {
			t.Errorf("the drained host says that it writes %v", w)
		}
		if _, err := sc.begin(b, false); !holdfast.IsKind(err, holdfast.Busy) {
			t.Errorf("a second writing session: %v", err)
		}
		reader, err := sc.begin(b, true)
		sc.must(err)
		c.on(d.Close)
		if w := a.s.Used(); len(w) != 0 {
			t.Errorf("the drained host says that it writes %v", w)
		}
		again, err := sc.begin(c, false) // the reader still needs the drained host
		sc.must(err)
		if sc.recorded().Writer != a.id {
			t.Error("the volume was taken from the host where somebody reads it")
		}
		c.on(again.Close)
		b.on(reader.Close)

		d, err = sc.begin(c, false)
		sc.must(err)
		if sc.recorded().Writer != b.id || a.s.Opened(sc.vol.ID) != nil {
			t.Errorf("the drained host is the writer still: %v", sc.recorded().Writer)
		}
		got := make([]byte, holdfast.BlockSize)
		sc.must(sc.use(c, d, export.Request{Op: export.Read, Length: holdfast.BlockSize, Data: got}))
		if !bytes.Equal(got, fill('x', 1)) {
			t.Error("what was written by way of the drained host is not there")
		}
		if rec := sc.recorded(); len(rec.InSync) != 2 || rec.Generation != 0 {
			t.Errorf("it has %d copies, cache generation %d", len(rec.InSync), rec.Generation)
		}
		sc.must(sc.use(c, d, export.Request{Op: export.Flush}))
		c.on(d.Close)
	})
}

// TestADrainedHostGoesOnWhereNobodyElseCan: the other replica's host is away.
func TestADrainedHostGoesOnWhereNobodyElseCan(t *testing.T) {
	play(t, 32, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		v := a.open()
		a.drained = true
		b.powerCut()
		d, err := sc.begin(c, false)
		sc.must(err)
		sc.must(sc.use(c, d, export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: fill('x', 1), FUA: true}))
		if a.s.Opened(sc.vol.ID) != v {
			t.Error("the volume was closed though nobody else can open it")
		}
		c.on(d.Close)
	})
}
