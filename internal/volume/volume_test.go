package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

func TestWrittenBlocksAreReadBack(t *testing.T) {
	play(t, 1, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 3, fill('a', 4))
		sc.expect(v, 3, fill('a', 4))
		sc.expect(v, 100, fill(0, 2))
		sc.flush(v)
		sc.must(sc.do(v, export.Request{Op: export.Zero, Off: 4 * holdfast.BlockSize, Length: holdfast.BlockSize}))
		sc.expect(v, 3, fill('a', 1))
		sc.expect(v, 4, fill(0, 1))
		sc.expect(v, 5, fill('a', 2))
	})
}

func TestUnalignedWritesKeepTheirNeighbours(t *testing.T) {
	play(t, 1, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 0, fill('a', 3))
		sc.must(sc.do(v, export.Request{Op: export.Write, Off: 4000, Length: 500, Data: fill('b', 1)[:500]}))
		want := fill('a', 3)
		copy(want[4000:], fill('b', 1)[:500])
		sc.expect(v, 0, want)
		sc.must(sc.do(v, export.Request{Op: export.Trim, Off: 100, Length: 8192}))
		clear(want[100:8292])
		sc.expect(v, 0, want)
	})
}

func TestTheOtherReplicaTakesOverWithEveryAcknowledgedWrite(t *testing.T) {
	play(t, 2, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		for i := range int64(50) {
			sc.write(v, i, fill(byte(i+1), 1))
		}
		a.powerCut() // nothing was flushed: the other's memory has it all
		v = b.open()
		for i := range int64(50) {
			sc.expect(v, i, fill(byte(i+1), 1))
		}
		if g := v.Record().Generation; g != 0 {
			t.Errorf("cache generation %d though a member kept its memory", g)
		}
	})
}

func TestAfterPowerIsLostEverywhereWhatWasFlushedIsThere(t *testing.T) {
	play(t, 3, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 1, fill('x', 1))
		sc.flush(v)
		sc.write(v, 2, fill('y', 1))
		for _, h := range sc.hosts {
			h.powerCut()
		}
		for _, h := range sc.hosts {
			h.boot()
		}
		v = sc.hosts[1].open()
		sc.expect(v, 1, fill('x', 1))
		if g := v.Record().Generation; g != 1 {
			t.Errorf("cache generation %d, want 1: nobody kept its memory", g)
		}
	})
}

// An orderly restart of hosts that had lost their power does not bring back what
// they had in memory then.
func TestARestartInOrderDoesNotBringMemoryBack(t *testing.T) {
	play(t, 3, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 1, fill('x', 1))
		sc.flush(v)
		sc.write(v, 2, fill('y', 1))
		for _, h := range sc.hosts {
			h.powerCut()
			h.boot()
		}
		for _, h := range sc.hosts {
			h.stop()
			h.boot()
		}
		v = sc.hosts[1].open()
		sc.expect(v, 1, fill('x', 1))
		if g := v.Record().Generation; g != 1 {
			t.Errorf("cache generation %d, want 1: nobody kept its memory", g)
		}
		for _, h := range sc.hosts {
			h.stop()
			h.boot()
		}
		if g := sc.hosts[0].open().Record().Generation; g != 1 {
			t.Errorf("cache generation %d, want 1: all were stopped in order", g)
		}
	})
}

func TestASilentReplicaIsEjectedAndJoinsAgain(t *testing.T) {
	play(t, 4, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sc.flush(v)
		b.powerCut()
		sc.write(v, 2, fill('b', 1)) // waits for the ejection
		sc.inSync(1)
		sc.write(v, 3, fill('c', 8))
		b.boot()
		sc.inSync(2)
		if s := v.Stats(); s.ResyncBlocks == 0 || s.ResyncBlocks > 16 {
			t.Errorf("%d blocks were sent again, want about the 9 that changed", s.ResyncBlocks)
		}
		a.powerCut()
		v = b.open()
		sc.expect(v, 1, fill('a', 1))
		sc.expect(v, 2, fill('b', 1))
		sc.expect(v, 3, fill('c', 8))
	})
}

func TestAReplicaThatRestartedUnnoticedCannotVouch(t *testing.T) {
	play(t, 5, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		b.powerCut()
		b.boot() // back before anybody noticed, without the block in memory
		sc.write(v, 2, fill('b', 1))
		sc.flush(v)
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		sc.inSync(2)
		a.powerCut()
		v = b.open()
		sc.expect(v, 1, fill('a', 1))
		sc.expect(v, 2, fill('b', 1))
	})
}

func TestADeposedWriterCanNeitherWriteNorRead(t *testing.T) {
	play(t, 6, 3, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sc.flush(v)
		a.clk.Pause()
		nv := b.open()
		sc.write(nv, 1, fill('b', 1))
		var err error
		fin := false
		a.clk.Resume()
		a.clk.Go(func() {
			buf := make([]byte, holdfast.BlockSize)
			err = v.do(export.Request{Op: export.Read, Length: holdfast.BlockSize, Off: holdfast.BlockSize, Data: buf})
			fin = true
		})
		for range 100 {
			if fin {
				break
			}
			clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		}
		if !fin || !holdfast.IsKind(err, holdfast.Fenced) {
			t.Errorf("the deposed writer's read ended %v with %v, want fenced", fin, err)
		}
		sc.expect(nv, 1, fill('b', 1))
		sc.inSync(2) // the old writer's replica joins the new one
	})
}

// TestAReplicaThatStartsAnewHasForgottenWhomItGrantedALease has a writer that
// is cut off while the other replica's host is restarted in order, and takes over.
func TestAReplicaThatStartsAnewHasForgottenWhomItGrantedALease(t *testing.T) {
	play(t, 6, 3, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sc.flush(v)
		sc.expect(v, 1, fill('a', 1))
		sc.net.Cut(a.id, b.id)
		sc.net.Cut(b.id, a.id)
		b.on(func() { sc.must(b.st.Close()) })
		b.powerCut()
		b.boot()
		nv := b.open()
		sc.write(nv, 1, fill('b', 1))
		buf := make([]byte, holdfast.BlockSize)
		if err := sc.do(v, export.Request{Op: export.Read, Length: holdfast.BlockSize, Off: holdfast.BlockSize, Data: buf}); err == nil && buf[0] != 'b' {
			t.Errorf("%v after the start of a replica that granted a lease, its former writer reads what has been overwritten", sc.w.Now())
		}
		sc.expect(nv, 1, fill('b', 1))
	})
}

func TestARebuildOntoANewHost(t *testing.T) {
	play(t, 7, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		v := a.open()
		for i := range int64(300) {
			sc.write(v, i, fill(byte(i), 1))
		}
		b.powerCut()
		sc.write(v, 500, fill('z', 1))
		sc.inSync(1)
		rec, mod, err := a.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Others = nil
		ref := rec.InSync[0]
		ref.ID.UUID[3], ref.Host, ref.Disk = 9, c.id, c.did
		rec.Others = append(rec.Others, ref)
		mod, err = a.CommitVolume(rec, mod)
		sc.must(err)
		a.s.NoteRecord(rec, mod)
		for i := range int64(20) { // goes on meanwhile
			sc.write(v, 600+i, fill(byte(i), 1))
		}
		sc.inSync(2)
		a.powerCut()
		v = c.open()
		for i := range int64(300) {
			sc.expect(v, i, fill(byte(i), 1))
		}
		sc.expect(v, 500, fill('z', 1))
		sc.expect(v, 619, fill(19, 1))
	})
}

func TestAForwardedSessionReachesTheWriter(t *testing.T) {
	play(t, 8, 3, 2, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		v := a.open()
		c.on(func() {
			d, err := c.s.Target(sc.vol).Open(false)
			sc.must(err)
			if _, err := c.s.Target(sc.vol).Open(false); !holdfast.IsKind(err, holdfast.Busy) {
				t.Errorf("a second writing session got %v, want busy", err)
			}
			ev := c.clk.NewEvent()
			d.Submit(&export.Request{Op: export.Write, Off: 0, Length: 8192, Data: fill('f', 2), FUA: true, Done: func(_ *export.Request, e error) { err = e; ev.Set() }})
			ev.Wait(clock.Forever)
			sc.must(err)
			buf := make([]byte, 8192)
			d.Submit(&export.Request{Op: export.Read, Off: 0, Length: 8192, Data: buf, Done: func(_ *export.Request, e error) { err = e; ev.Set() }})
			ev.Wait(clock.Forever)
			sc.must(err)
			if buf[0] != 'f' || buf[8191] != 'f' {
				t.Error("a forwarded read returned other bytes")
			}
			if g := d.(export.Cached).CacheGeneration(); g != uint64(v.Record().Generation) {
				t.Errorf("cache generation %d at the far side, want %d", g, v.Record().Generation)
			}
			d.Close()
		})
		sc.expect(v, 0, fill('f', 2))
	})
}

func TestRottenBlocksAreRepairedFromTheOtherReplica(t *testing.T) {
	playPlain(t, 9, 2, 2, func(sc *scene) {
		a := sc.hosts[0]
		v := a.open()
		for i := range int64(20) {
			sc.write(v, i, fill(byte(i+1), 1))
		}
		sc.flush(v)
		// Find block 7's bytes on the disk and flip one.
		want := fill(8, 1)
		buf := make([]byte, holdfast.BlockSize)
		found := false
		for off := int64(0); off < 64<<20; off += holdfast.BlockSize {
			if a.disk.Peek(buf, off); string(buf) == string(want) {
				a.disk.Rot(off + 100)
				found = true
				break
			}
		}
		if !found {
			t.Fatal("the block is not on the disk")
		}
		sc.expect(v, 7, want)
		if s := v.Stats(); s.Repaired != 1 {
			t.Errorf("%d blocks repaired, want 1", s.Repaired)
		}
		sc.expect(v, 7, want)
	})
}

func TestASealedImageIsOnlyRead(t *testing.T) {
	play(t, 10, 2, 1, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sc.at(v, func() error { v.Close(); return nil })
		rec, mod, err := a.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Image, rec.Sealed = true, true
		_, err = a.CommitVolume(rec, mod)
		sc.must(err)
		for _, h := range []*sceneHost{a, b} { // where it is, and by way of that host
			h.on(func() {
				target := h.s.Target(rec)
				if !target.ReadOnly() {
					t.Error("an image is offered for writing")
				}
				if _, err := target.Open(false); !holdfast.IsKind(err, holdfast.Denied) {
					t.Errorf("a writing session of an image: %v", err)
				}
				d, err := target.Open(true)
				sc.must(err)
				defer d.Close()
				done := clock.NewFuture[error](h.clk)
				buf := make([]byte, holdfast.BlockSize)
				d.Submit(&export.Request{Op: export.Read, Off: holdfast.BlockSize, Length: holdfast.BlockSize, Data: buf, Done: func(_ *export.Request, err error) { done.Resolve(err) }})
				err, _ = done.Wait(clock.Forever)
				sc.must(err)
				if buf[0] != 'a' {
					t.Errorf("the image reads %x", buf[0])
				}
			})
		}
	})
}

// TestOneFullDiskOfSeveralIsRemembered: the answer of a replica that has room
// does not hide that another has none.
func TestOneFullDiskOfSeveralIsRemembered(t *testing.T) {
	play(t, 11, 3, 3, func(sc *scene) {
		v := sc.hosts[0].open()
		v.mu.Lock()
		defer v.mu.Unlock()
		v.noteFull(1, true)
		v.noteFull(2, false)
		if v.room() {
			t.Error("there is room though a disk is full")
		}
		v.m.Remove(1)
		if !v.room() {
			t.Error("there is no room though the full disk does not count any more")
		}
	})
}

// TestAVolumeGrowsThoughItsWriterLearnsOfItByTheWay: the larger size is in the
// record that a lost commit is decided by anew.
func TestAVolumeGrowsThoughItsWriterLearnsOfItByTheWay(t *testing.T) {
	play(t, 12, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		rec, mod, err := b.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Blocks += 100
		_, err = b.CommitVolume(rec, mod)
		sc.must(err)
		b.powerCut()
		sc.write(v, 2, fill('b', 1)) // waits for the ejection
		sc.write(v, int64(rec.Blocks)-1, fill('c', 1))
		sc.expect(v, int64(rec.Blocks)-1, fill('c', 1))
		b.boot()
		sc.inSync(2)
		a.powerCut()
		v = b.open()
		sc.expect(v, int64(rec.Blocks)-1, fill('c', 1))
	})
}

func TestAHostStopsThoughItsVolumeStalls(t *testing.T) {
	play(t, 31, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sc.flush(v)
		sc.kv.SetDown(true) // so that the other replica cannot be ejected
		sc.net.CutHost(b.id, true, true)
		failed := sc.w.Clock().NewEvent()
		a.clk.Go(func() {
			v.submit(&export.Request{Op: export.Write, Off: 0, Length: holdfast.BlockSize, Data: fill('b', 1), Done: func(_ *export.Request, err error) {
				if err != nil {
					failed.Set()
				}
			}})
		})
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		closed := false
		a.clk.Go(func() { v.Close(); closed = true })
		clock.Sleep(sc.w.Clock(), time.Minute)
		if !closed || !failed.Wait(0) {
			t.Errorf("a minute after it was closed: closed %v, the write that cannot be acknowledged has failed %v; want both", closed, failed.Wait(0))
		}
	})
}

func TestALocalReplicaIsEjectedBetweenASyncAndItsStart(t *testing.T) {
	play(t, 37, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 1, fill('a', 1))
		sc.at(v, func() error {
			v.mu.Lock()
			v.syncUpto(v.m.Acked())
			due := v.takeDone()
			v.local = nil // as the ejection of its replica does, as soon as the lock is given up
			v.mu.Unlock()
			if due.sync.upto == 0 {
				t.Error("there is nothing to sync, so nothing is tested")
			}
			tell(due)
			return nil
		})
	})
}
