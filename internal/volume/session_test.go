package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// TestAClosedSessionWritesNoMore: a write waits behind another one, whose edges
// cannot be read just now, when its session is closed. The next session does
// not begin before the first write has ended, and the second is never made.
func TestAClosedSessionWritesNoMore(t *testing.T) {
	play(t, 1, 1, 1, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		sc.write(v, 0, fill(1, 1))
		sc.flush(v)
		var first export.Disk
		h.on(func() { first, _ = v.Session(false) })
		ends := make([]error, 2)
		ended := 0
		submit := func(i int, r export.Request) {
			r.Done = func(_ *export.Request, err error) { ends[i] = err; ended++ }
			h.on(func() { first.Submit(&r) })
		}
		h.disk.SetHung(true)
		submit(0, export.Request{Op: export.Write, Off: 512, Length: 512, Data: fill(2, 1)[:512]})
		submit(1, export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: fill(3, 1)})
		closed := sc.w.Clock().NewEvent()
		h.clk.Go(func() { first.Close(); closed.Set() })
		clock.Sleep(sc.w.Clock(), time.Second)
		h.on(func() {
			if _, err := v.Session(false); !holdfast.IsKind(err, holdfast.Busy) {
				t.Errorf("another session while a write of the first is under way: %v", err)
			}
		})
		h.disk.SetHung(false)
		closed.Wait(clock.Forever)
		if ended != 2 || ends[0] != nil || !holdfast.IsKind(ends[1], holdfast.Closed) {
			t.Errorf("%d writes ended, with %v", ended, ends)
		}
		want := fill(1, 1)
		copy(want[512:1024], fill(2, 1))
		sc.expect(v, 0, want)
		clock.Sleep(sc.w.Clock(), time.Second)
		sc.expect(v, 0, want)
	})
}

// TestASessionOfALostHostKeepsNobodyOut: the writer is never asked for another
// session by a third host; who begins one on the writer itself is let in too.
func TestASessionOfALostHostKeepsNobodyOut(t *testing.T) {
	play(t, 1, 2, 1, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		b.on(func() {
			_, err := b.s.Target(v.Record()).Open(false)
			sc.must(err)
		})
		b.powerCut()
		clock.Sleep(sc.w.Clock(), 2*sessionIdle)
		a.on(func() {
			d, err := v.Session(false)
			sc.must(err)
			d.Close()
		})
	})
}

// TestUnalignedWritesAtOnceShareABlock, wherever the writer reads it from.
func TestUnalignedWritesAtOnceShareABlock(t *testing.T) {
	for host := range 3 {
		play(t, 7, 3, 2, func(sc *scene) {
			v := sc.hosts[host].open()
			for range 40 {
				sc.write(v, 0, fill(1, 1))
				want := fill(1, 1)
				left := clock.NewGroup(sc.w.Clock())
				for i := range 8 {
					part := fill(byte(2+i), 1)[:100]
					copy(want[300*i+7:], part)
					left.Go(func() {
						sc.must(sc.do(v, export.Request{Op: export.Write, Off: int64(300*i + 7), Length: 100, Data: part}))
					})
				}
				left.Wait()
				sc.expect(v, 0, want)
			}
		})
	}
}

// TestWhoConnectsMeanwhileWaits: the writer's host cannot be reached any more, and
// is not taken for lost yet, when somebody connects elsewhere.
func TestWhoConnectsMeanwhileWaits(t *testing.T) {
	play(t, 29, 3, 2, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		v := a.open()
		sc.write(v, 1, fill('x', 1))
		sc.flush(v)
		sc.net.CutHost(a.id, true, true)
		sc.w.Clock().AfterFunc(time.Second, a.powerCut) // before it could do without the other copy
		c.on(func() {
			d, err := c.s.Target(sc.vol).Open(false)
			if err != nil {
				t.Errorf("at %v: %v", sc.w.Now(), err)
				return
			}
			defer d.Close()
			got, ev := make([]byte, holdfast.BlockSize), c.clk.NewEvent()
			d.Submit(&export.Request{Op: export.Read, Off: holdfast.BlockSize, Length: holdfast.BlockSize, Data: got, Done: func(_ *export.Request, e error) { err = e; ev.Set() }})
			ev.Wait(clock.Forever)
			if err != nil || got[0] != 'x' {
				t.Errorf("it reads %q: %v", got[0], err)
			}
		})
	})
}

// TestWhoConnectsAfterAnotherWaitsForItsEnd: a client hangs up, and the next one
// is there before the host has noticed. One that stays keeps the next one out.
func TestWhoConnectsAfterAnotherWaitsForItsEnd(t *testing.T) {
	play(t, 31, 3, 2, func(sc *scene) {
		for _, host := range []int{0, 2} {
			for _, stays := range []bool{false, true} {
				var first export.Disk
				sc.hosts[1].on(func() {
					d, err := sc.hosts[1].s.Target(sc.vol).Open(false)
					sc.must(err)
					first = d
				})
				if !stays {
					sc.hosts[1].clk.AfterFunc(time.Second, first.Close)
				}
				h := sc.hosts[host]
				h.on(func() {
					d, err := h.s.Target(sc.vol).Open(false)
					if stays != holdfast.IsKind(err, holdfast.Busy) || !stays && err != nil {
						t.Errorf("at host %d while the first one stays (%v): %v", host, stays, err)
					}
					if err == nil {
						d.Close()
					}
				})
				sc.hosts[1].on(first.Close)
			}
		}
	})
}
