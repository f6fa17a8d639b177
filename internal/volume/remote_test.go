package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

func TestAWriterWithoutAReplicaMendsItsVolume(t *testing.T) {
	play(t, 21, 3, 2, func(sc *scene) {
		b, c := sc.hosts[1], sc.hosts[2]
		v := c.open()
		for i := range int64(40) {
			sc.write(v, i, fill(byte(i+1), 1))
		}
		b.powerCut()
		sc.inSync(1)
		for i := range int64(200) {
			sc.write(v, i, fill(byte(i+3), 1))
		}
		b.boot()
		for i := range int64(300) { // writing goes on beside the copy
			sc.write(v, 100+i%50, fill(byte(i+7), 1))
		}
		sc.inSync(2)
		sc.hosts[0].powerCut() // what b was given is all that is left
		v = b.open()
		for i := range int64(100) {
			sc.expect(v, i, fill(byte(i+3), 1))
		}
		for i := int64(250); i < 300; i++ {
			sc.expect(v, 100+i%50, fill(byte(i+7), 1))
		}
	})
}

// TestWhoForgotIsNotReadFrom: the host of a copy loses its power and has it back
// before the writer, which has no copy of its own, finds out. What that one has
// forgotten is read from the other copy.
func TestWhoForgotIsNotReadFrom(t *testing.T) {
	for i := range 2 {
		play(t, 28, 3, 2, func(sc *scene) {
			v := sc.hosts[2].open()
			sc.write(v, 1, fill('x', 1))
			sc.flush(v)
			sc.write(v, 1, fill('y', 1)) // in memory, at both
			before, err := v.Diff(replica.RootRef{Nothing: true}, replica.RootRef{}, 0, 8)
			sc.must(err)
			sc.write(v, 2, fill('z', 1))
			sc.hosts[i].powerCut()
			sc.hosts[i].boot()
			sc.expect(v, 3, fill(0, 1)) // finds the old connection broken
			after, err := v.Diff(replica.RootRef{Nothing: true}, replica.RootRef{}, 0, 8)
			sc.must(err)
			if len(before.Extents) != 1 || len(after.Extents) != 1 || after.Extents[0].Blocks != before.Extents[0].Blocks+1 {
				t.Errorf("what is written is told as %+v, and then as %+v", before.Extents, after.Extents)
			}
			sc.expect(v, 1, fill('y', 1))
			sc.expect(v, 2, fill('z', 1))
		})
	}
}

func TestAWriterWhoseLastReplicaForgotGivesUp(t *testing.T) {
	play(t, 22, 3, 1, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		v := c.open()
		sc.write(v, 1, fill('x', 1))
		sc.flush(v)
		sc.write(v, 2, fill('y', 1)) // in a's memory only
		a.powerCut()
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		a.boot()
		err := sc.do(v, export.Request{Op: export.Flush})
		if !holdfast.IsKind(err, holdfast.LostCache) {
			t.Errorf("a flush says %v though what it covers is gone", err)
		}
		v = c.open()
		if g := v.Record().Generation; g != 1 {
			t.Errorf("cache generation %d, want 1", g)
		}
		c.on(func() {
			d, err := c.s.Target(sc.vol).Open(true)
			sc.must(err)
			if g := d.(export.Cached).CacheGeneration(); g != 1 {
				t.Errorf("a session says cache generation %d, want 1", g)
			}
			d.Close()
		})
		sc.expect(v, 1, fill('x', 1))
	})
}

// A host that is out of breath, or behind a link that flaps, does not answer for a
// while: whoever reads its replica waits, as who writes does.
func TestAReadWaitsForTheOnlyReplicaToAnswer(t *testing.T) {
	play(t, 23, 3, 1, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		v := c.open()
		sc.write(v, 7, fill('x', 2))
		for range 3 {
			sc.net.Cut(c.id, a.id)
			sc.w.Clock().AfterFunc(5*time.Second, func() { sc.net.Mend(c.id, a.id) })
			begun := sc.w.Now()
			sc.expect(v, 7, fill('x', 2))
			if took := sc.w.Now() - begun; took < 5*time.Second {
				t.Errorf("it was read within %v, while nobody could be asked", took)
			}
		}
		sc.net.Cut(c.id, a.id)
		c.clk.Go(func() {
			clock.Sleep(c.clk, 5*time.Second)
			v.fail(holdfast.Errorf(holdfast.Closed, "a test ends it"))
		})
		got := make([]byte, holdfast.BlockSize)
		if err := sc.do(v, export.Request{Op: export.Read, Length: int64(len(got)), Data: got}); !holdfast.IsKind(err, holdfast.Closed) {
			t.Errorf("a read of a volume that ended meanwhile says %v", err)
		}
	})
}

func TestASessionOpensAVolumeWhereAGoodReplicaIs(t *testing.T) {
	play(t, 23, 3, 1, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		c.on(func() {
			d, err := c.s.Target(sc.vol).Open(false)
			sc.must(err)
			d.Close()
		})
		if a.s.Opened(sc.vol.ID) == nil || c.s.Opened(sc.vol.ID) != nil {
			t.Errorf("open on the replica's host: %v, on the client's: %v", a.s.Opened(sc.vol.ID) != nil, c.s.Opened(sc.vol.ID) != nil)
		}
	})
}

// TestAForwardedSessionSeesItsVolumeGrow: the far side learns the larger size
// from the writer while the session lasts, and may use it.
func TestAForwardedSessionSeesItsVolumeGrow(t *testing.T) {
	play(t, 24, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		v := a.open()
		var d export.Disk
		c.on(func() {
			var err error
			d, err = c.s.Target(sc.vol).Open(false)
			sc.must(err)
		})
		rec, mod, err := b.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Blocks += 100
		_, err = b.CommitVolume(rec, mod)
		sc.must(err)
		b.powerCut()
		sc.write(v, 2, fill('b', 1)) // waits for the ejection, by which the writer learns
		clock.Sleep(sc.w.Clock(), 3*time.Second)
		end := int64(rec.Blocks) * holdfast.BlockSize
		if d.Size() != end {
			t.Errorf("the session says %d bytes, want %d", d.Size(), end)
		}
		c.on(func() {
			ev := c.clk.NewEvent()
			r := export.Request{Op: export.Write, Off: end - holdfast.BlockSize, Length: holdfast.BlockSize, Data: fill('e', 1), FUA: true}
			r.Done = func(_ *export.Request, e error) { err = e; ev.Set() }
			d.Submit(&r)
			ev.Wait(clock.Forever)
			sc.must(err)
			d.Close()
		})
		sc.expect(v, int64(rec.Blocks)-1, fill('e', 1))
	})
}
