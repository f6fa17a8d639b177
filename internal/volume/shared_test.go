package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// ask does one request on a session.
func (h *sceneHost) ask(d export.Disk, r export.Request) (err error) {
	h.on(func() {
		done := h.clk.NewEvent()
		r.Done = func(_ *export.Request, e error) { err = e; done.Set() }
		d.Submit(&r)
		done.Wait(clock.Forever)
	})
	return err
}

// A flush of one session of a shared volume covers what was answered on another:
// the loss of all power does not take it.
func TestAFlushCoversAllSessions(t *testing.T) {
	play(t, 5, 3, 2, func(sc *scene) {
		a := sc.hosts[0]
		a.open()
		sc.change(func(v *cluster.Volume) { v.Shared = true })
		var one, two export.Disk
		a.on(func() {
			target := a.s.Target(sc.vol)
			if !target.Shared() {
				t.Error("a target does not tell that its volume is shared")
			}
			for _, d := range []*export.Disk{&one, &two} {
				var shared bool
				var err error
				*d, shared, err = target.OpenShared()
				sc.must(err)
				if !shared {
					t.Error("a session does not tell that it is shared")
				}
			}
		})
		sc.must(a.ask(one, export.Request{Op: export.Write, Length: 3 * holdfast.BlockSize, Data: fill('1', 3)}))
		got := fill(0, 3)
		sc.must(a.ask(two, export.Request{Op: export.Read, Length: 3 * holdfast.BlockSize, Data: got}))
		if got[0] != '1' {
			t.Error("what one session wrote another does not read")
		}
		sc.must(a.ask(two, export.Request{Op: export.Flush}))
		for _, h := range sc.hosts {
			h.powerCut()
		}
		clock.Sleep(sc.w.Clock(), time.Second)
		for _, h := range sc.hosts {
			h.boot()
		}
		sc.expect(a.open(), 0, fill('1', 3))
	})
}

// Who may write beside whom.
func TestOnlySharedSessionsWriteBesideEachOther(t *testing.T) {
	play(t, 6, 3, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		target, far := a.s.Target(sc.vol), b.s.Target(sc.vol)
		shared := func(h *sceneHost, target *Target) (d export.Disk, is bool, err error) {
			h.on(func() { d, is, err = target.OpenShared() })
			return d, is, err
		}
		alone := func(h *sceneHost, target *Target) (d export.Disk, err error) {
			h.on(func() { d, err = target.Open(false) })
			return d, err
		}
		refused := func(what string, err error) {
			t.Helper()
			if !holdfast.IsKind(err, holdfast.Busy) {
				t.Errorf("%s: %v", what, err)
			}
		}
		d, is, err := shared(a, target)
		sc.must(err)
		if _, _, err := shared(a, target); is {
			t.Error("a session of a volume that is not shared is")
		} else {
			refused("a second session of a volume that is not shared", err)
		}
		sc.change(func(v *cluster.Volume) { v.Shared = true })
		_, _, err = shared(a, target)
		refused("a shared session beside one that was told that it is alone", err)
		a.on(d.Close)

		d, is, err = shared(a, target)
		sc.must(err)
		e, is2, err := shared(a, target)
		sc.must(err)
		if !is || !is2 {
			t.Error("the sessions of a shared volume are not")
		}
		_, err = alone(a, target)
		refused("a session that wants to be alone", err)
		_, _, err = shared(b, far)
		refused("a carried session beside shared ones", err)
		b.on(func() {
			if far.Shared() {
				t.Error("a host that is not the writer tells that sessions are shared there")
			}
		})
		a.on(d.Close)
		_, err = alone(a, target)
		refused("a session that wants to be alone, beside the last one", err)
		a.on(e.Close)

		d, is, err = shared(b, far)
		sc.must(err)
		if is {
			t.Error("a carried session is shared")
		}
		_, _, err = shared(a, target)
		refused("a shared session beside a carried one", err)
		b.on(d.Close)

		a.s.Belongs = func(holdfast.VolumeID) bool { return true }
		d, is, err = shared(a, target)
		sc.must(err)
		if is || target.Shared() {
			t.Error("a VM's disk is shared")
		}
		_, _, err = shared(a, target)
		refused("a second session of a VM's disk", err)
		a.on(d.Close)
		if v.HasSession() {
			t.Error("a session is left")
		}
	})
}
