package volume

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// busyWriter writes blocks one after the other in a session, several at once,
// and reads each back when it is acknowledged.
type busyWriter struct {
	over    bool
	done    *clock.Group
	blocks  int
	longest time.Duration // of one write and its reading
	err     error
}

// keepWriting starts it at a host; each of its tasks has blocks of its own.
func (sc *scene) keepWriting(h *sceneHost, d export.Disk) *busyWriter {
	w := &busyWriter{done: clock.NewGroup(sc.w.Clock())}
	for task := range 4 {
		w.done.Go(func() {
			for i := 0; !w.over && w.err == nil; i++ {
				at := int64(task*20+i%20) * holdfast.BlockSize
				want := fill(byte(1+i%250), 1)
				began := sc.w.Now()
				got := make([]byte, len(want))
				err := sc.use(h, d, export.Request{Op: export.Write, Off: at, Length: holdfast.BlockSize, Data: want})
				if err == nil && i%3 == 0 {
					err = sc.use(h, d, export.Request{Op: export.Flush})
				}
				if err == nil {
					err = sc.use(h, d, export.Request{Op: export.Read, Off: at, Length: holdfast.BlockSize, Data: got})
				}
				if err == nil && !bytes.Equal(got, want) {
					err = fmt.Errorf("block %d reads %d, %d was written", at/holdfast.BlockSize, got[0], want[0])
				}
				if err != nil && w.err == nil {
					w.err = err
				}
				w.blocks++
				w.longest = max(w.longest, sc.w.Now()-began)
				clock.Sleep(sc.w.Clock(), 10*time.Millisecond)
			}
		})
	}
	return w
}

func (w *busyWriter) stop() { w.over = true; w.done.Wait() }

// drain has a host hand over what it writes, until the volume's writer is another.
func (sc *scene) drain(h *sceneHost, limit time.Duration) {
	h.drained = true
	for waited := time.Duration(0); sc.recorded().Writer == h.id && waited < limit; waited += 100 * time.Millisecond {
		h.on(func() { h.s.HandOver(func() {}) })
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
	}
}

// TestADrainedHostHandsItsVolumeOver while it is written, to a host that carries
// the session or to another one; and back again. Nothing fails, and nothing waits
// for long.
func TestADrainedHostHandsItsVolumeOver(t *testing.T) {
	for carrier := range 3 {
		play(t, uint64(50+carrier), 3, 2, func(sc *scene) {
			a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[carrier]
			a.open()
			var d export.Disk
			c.on(func() {
				var err error
				d, err = c.s.Target(sc.vol).Following().Open(false)
				sc.must(err)
			})
			w := sc.keepWriting(c, d)
			clock.Sleep(sc.w.Clock(), time.Second)
			epoch := sc.recorded().Epoch
			for _, way := range [][2]*sceneHost{{a, b}, {b, a}} {
				before := w.blocks
				w.longest = 0
				sc.drain(way[0], 2*time.Second)
				clock.Sleep(sc.w.Clock(), time.Second)
				if rec := sc.recorded(); rec.Writer != way[1].id || rec.Epoch != epoch+1 || rec.Generation != 0 || len(rec.InSync) != 2 {
					t.Errorf("carried by %d: the volume is written by %v at epoch %d, generation %d, %d copies", carrier, rec.Writer.Short(), rec.Epoch, rec.Generation, len(rec.InSync))
				}
				if w.longest > time.Second/2 || w.blocks < before+50 || w.err != nil {
					t.Errorf("carried by %d: %d blocks were written meanwhile, the longest in %v: %v", carrier, w.blocks-before, w.longest, w.err)
				}
				if used := len(way[0].s.Used()) != 0; used != (way[0] == c) || way[0].s.Opened(sc.vol.ID) != nil {
					t.Errorf("carried by %d: the drained host still has the volume open, or says that it is used (%v)", carrier, used)
				}
				way[0].drained, epoch = false, epoch+1
			}
			w.stop()
			sc.must(w.err)
			if _, err := sc.begin(b, false); !holdfast.IsKind(err, holdfast.Busy) {
				t.Errorf("another writing session beside the one that was handed over: %v", err)
			}
			clock.Sleep(sc.w.Clock(), 2*sessionIdle)
			sc.must(sc.use(c, d, export.Request{Op: export.Flush}))
			c.on(d.Close)
			next, err := sc.begin(b, false)
			sc.must(err)
			b.on(next.Close)
			for _, h := range sc.hosts {
				if len(h.s.remote) != 0 || len(h.s.handing) != 0 {
					t.Errorf("a host keeps %d sessions and %d hand-overs", len(h.s.remote), len(h.s.handing))
				}
			}
		})
	}
}

// TestNobodySlipsInBetween: while a volume is handed over somebody at every host
// tries to begin a session again and again. None does, until the first has ended.
func TestNobodySlipsInBetween(t *testing.T) {
	play(t, 53, 3, 2, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		a.open()
		d, err := sc.begin(c, false)
		sc.must(err)
		over, others := false, clock.NewGroup(sc.w.Clock())
		for _, h := range sc.hosts {
			others.Go(func() {
				for !over {
					if _, err := sc.begin(h, false); !holdfast.IsKind(err, holdfast.Busy) && !holdfast.IsKind(err, holdfast.Unavailable) {
						t.Errorf("another session beside the first: %v", err)
						return
					}
					clock.Sleep(sc.w.Clock(), time.Millisecond)
				}
			})
		}
		w := sc.keepWriting(c, d)
		for _, h := range []*sceneHost{a, sc.hosts[1], a, sc.hosts[1]} {
			sc.drain(h, 15*time.Second)
			h.drained = false
		}
		w.stop()
		over = true
		others.Wait()
		sc.must(w.err)
		if rec := sc.recorded(); rec.Writer != a.id {
			t.Errorf("written by %v", rec.Writer.Short())
		}
		c.on(d.Close)
	})
}

// TestAVolumeThatIsUsedOnItsHostStays: a session that cannot go, beside one that
// could.
func TestAVolumeThatIsUsedOnItsHostStays(t *testing.T) {
	play(t, 54, 3, 2, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		a.open()
		d, err := sc.begin(a, false)
		sc.must(err)
		reader, err := sc.begin(c, true)
		sc.must(err)
		sc.drain(a, 15*time.Second)
		if sc.recorded().Writer != a.id {
			t.Error("the volume was taken from under a session of its host")
		}
		sc.must(sc.use(a, d, export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: fill('x', 1), FUA: true}))
		a.on(d.Close)
		sc.drain(a, 15*time.Second)
		got := make([]byte, holdfast.BlockSize)
		sc.must(sc.use(c, reader, export.Request{Op: export.Read, Length: holdfast.BlockSize, Data: got}))
		if sc.recorded().Writer == a.id || got[0] != 'x' {
			t.Errorf("the reader alone keeps the drained host the writer, or reads %q", got[0])
		}
		c.on(reader.Close)
	})
}

// TestTheNextWriterIsLostInTheMiddle: it is asked to take the volume, and dies at
// every moment of that. The session goes on at the host that wanted to give the
// volume up, or ends if the other one had it already; what was flushed is there.
func TestTheNextWriterIsLostInTheMiddle(t *testing.T) {
	ended := 0
	for at := range 40 {
		play(t, uint64(60+at), 3, 2, func(sc *scene) {
			a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
			a.open()
			d, err := sc.begin(c, false)
			sc.must(err)
			sc.must(sc.use(c, d, export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: fill('x', 1), FUA: true}))
			a.drained = true
			a.on(func() { a.s.HandOver(func() {}) })
			clock.Sleep(sc.w.Clock(), time.Duration(at)*500*time.Microsecond)
			b.powerCut()
			got := make([]byte, holdfast.BlockSize)
			err = sc.use(c, d, export.Request{Op: export.Read, Length: holdfast.BlockSize, Data: got})
			if err != nil {
				ended++
				if !holdfast.IsKind(err, holdfast.Closed) {
					t.Errorf("after %d: %v", at, err)
				}
				c.on(d.Close)
				d, err = sc.begin(c, false)
				sc.must(err)
				sc.must(sc.use(c, d, export.Request{Op: export.Read, Length: holdfast.BlockSize, Data: got}))
			}
			if got[0] != 'x' {
				t.Errorf("after %d: what was flushed reads %q", at, got[0])
			}
			c.on(d.Close)
		})
	}
	if ended == 0 || ended == 40 {
		t.Errorf("%d of 40 sessions ended", ended)
	}
}

// TestTheOnlyOtherHostRefuses: the session goes on where it is, at another epoch.
func TestTheOnlyOtherHostRefuses(t *testing.T) {
	play(t, 55, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		a.open()
		d, err := sc.begin(c, false)
		sc.must(err)
		b.s.MayOpen = func(holdfast.VolumeID) error {
			return holdfast.Errorf(holdfast.Denied, "not here")
		}
		w := sc.keepWriting(c, d)
		a.drained = true
		for range 2 {
			a.on(func() { a.s.HandOver(func() {}) })
			clock.Sleep(sc.w.Clock(), time.Second)
			clock.Sleep(sc.w.Clock(), leaveAgain)
		}
		w.stop()
		sc.must(w.err)
		if rec := sc.recorded(); rec.Writer != a.id || rec.Epoch < 3 || w.longest > time.Second {
			t.Errorf("written by %v at epoch %d, the longest write took %v", rec.Writer.Short(), rec.Epoch, w.longest)
		}
		c.on(d.Close)
	})
}

// TestAnIdleSessionIsClosedWhereItCameBack: it was at the host that wanted to give
// the volume up and took it back, and nobody has used it since.
func TestAnIdleSessionIsClosedWhereItCameBack(t *testing.T) {
	play(t, 56, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		a.open()
		var d export.Disk
		var err error
		a.on(func() { d, err = a.s.Target(sc.vol).Following().Open(false) })
		sc.must(err)
		b.s.MayOpen = func(holdfast.VolumeID) error { return holdfast.Errorf(holdfast.Denied, "not here") }
		a.drained = true
		a.on(func() { a.s.HandOver(func() {}) })
		clock.Sleep(sc.w.Clock(), handLimit)
		if rec := sc.recorded(); rec.Writer != a.id || rec.Epoch != 2 {
			t.Fatalf("written by %v at epoch %d", rec.Writer.Short(), rec.Epoch)
		}
		a.on(d.Close)
		a.drained = false
		next, err := sc.begin(c, false)
		sc.must(err)
		c.on(next.Close)
	})
}

// TestASessionThatWasGivenUpIsTakenAlong: the next writer has carried it itself,
// and could not reach the one before, when that one hands the volume over.
func TestASessionThatWasGivenUpIsTakenAlong(t *testing.T) {
	play(t, 57, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		a.open()
		d, err := sc.begin(b, false)
		sc.must(err)
		sc.net.Cut(b.id, a.id)
		closed := clock.NewGroup(sc.w.Clock())
		closed.Go(func() { b.on(d.Close) })
		a.drained = true
		a.on(func() { a.s.HandOver(func() {}) })
		clock.Sleep(sc.w.Clock(), 2*time.Second)
		sc.net.Mend(b.id, a.id)
		closed.Wait()
		clock.Sleep(sc.w.Clock(), 3*handLimit)
		next, err := sc.begin(c, false)
		sc.must(err)
		c.on(next.Close)
	})
}

// TestAStaleRecordTakesNoVolume: a host that has not heard of the volume's writer
// asks the one before it for a session.
func TestAStaleRecordTakesNoVolume(t *testing.T) {
	play(t, 56, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		a.open()
		stale := sc.recorded()
		v := b.open()
		c.on(func() {
			if _, err := c.s.forward(stale, a.id, false, false); !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("a session at the writer before: %v", err)
			}
		})
		if sc.recorded().Writer != b.id || v.Err() != nil {
			t.Errorf("the volume was taken from its writer: %v", v.Err())
		}
	})
}

func FuzzTake(f *testing.F) {
	a := takeAsk{epoch: 3, generation: 1, sessions: []takenSession{{readOnly: true}, {}}}
	f.Add(a.appendTo(nil))
	f.Add(a.appendTo(nil)[:takeHead])
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeTake(b)
		if err == nil && !bytes.Equal(a.appendTo(nil), b) {
			t.Errorf("%x is read and written as %x", b, a.appendTo(nil))
		}
	})
}
