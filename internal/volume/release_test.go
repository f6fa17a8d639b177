package volume

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// secondDisk gives a running host another disk.
func (h *sceneHost) secondDisk() (ref cluster.Replica) {
	sc := h.sc
	d := memdisk.New(64<<20, sc.w.Rand("second disk"))
	did := holdfast.DiskID{UUID: sc.uuid(151)}
	h.on(func() {
		o := store.Options{Clock: h.clk, Rand: reader{sc.w.Rand("second store")}, Log: sc.log, SegmentBytes: 1 << 20}
		dev, err := d.Open(h.clk, memdisk.SSD())
		sc.must(err)
		sc.must(store.Format(dev, store.Identity{Disk: did, Host: h.id}, o))
		st, err := store.Open(dev, o)
		sc.must(err)
		h.s.AddStore(st)
	})
	return cluster.Replica{ID: holdfast.ReplicaID{UUID: sc.uuid(61)}, Host: h.id, Disk: did}
}

// change commits a change of the volume's record from outside, and tells the
// hosts of it.
func (sc *scene) change(f func(*cluster.Volume)) {
	sc.t.Helper()
	h := sc.hosts[0]
	h.on(func() {
		for {
			rec, mod, err := h.ReadVolume(sc.vol.ID)
			sc.must(err)
			f(&rec)
			if mod, err = h.CommitVolume(rec, mod); err == nil {
				h.s.NoteRecord(rec, mod)
				return
			}
		}
	})
}

func (sc *scene) recorded() (rec cluster.Volume) {
	h := sc.hosts[0]
	h.on(func() { rec, _, _ = h.ReadVolume(sc.vol.ID) })
	return rec
}

// TestAReplicaMovesToAnotherDiskOfItsHost under writes: the new one joins, the
// old one goes, the writer reads and writes its own replica again.
func TestAReplicaMovesToAnotherDiskOfItsHost(t *testing.T) {
	play(t, 5, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		for i := range int64(64) {
			sc.write(v, i, fill(byte(i), 1))
		}
		sc.flush(v)
		next := a.secondDisk()
		old := sc.vol.InSync[0]
		sc.change(func(r *cluster.Volume) {
			r.Others = append(r.Others, next)
			r.Moving = []holdfast.ReplicaID{old.ID}
		})
		for i := int64(0); len(sc.recorded().InSync) < 3; i++ {
			sc.write(v, 100+i%200, fill(byte(i), 1))
		}
		sc.change(func(r *cluster.Volume) {
			r.Release = &cluster.Release{Go: []holdfast.ReplicaID{old.ID}, Keep: []holdfast.ReplicaID{sc.vol.InSync[1].ID, next.ID}}
		})
		for i := int64(0); len(sc.recorded().InSync) > 2; i++ {
			sc.write(v, 300+i%200, fill(byte(i), 1))
		}
		rec := sc.recorded()
		if hasReplica(rec.InSync, old.ID) || rec.Release != nil || rec.Moving != nil || len(rec.Others) != 0 {
			t.Errorf("the record is left as %+v", rec)
		}
		for i := int64(0); i < 100; i++ {
			sc.write(v, 600, fill(byte(i), 1))
		}
		v.mu.Lock()
		if v.localID != next.ID {
			t.Error("the writer does not use the replica on its own host directly")
		}
		v.mu.Unlock()
		sc.flush(v)
		b.powerCut() // what follows comes from the new one
		sc.write(v, 0, fill(0xee, 1))
		sc.inSync(1)
		for i := range int64(63) {
			sc.expect(v, i+1, fill(byte(i+1), 1))
		}
		sc.expect(v, 600, fill(99, 1))
		sc.expect(v, 0, fill(0xee, 1))
	})
}

// The commit by which a replica is let go happens, and its answer is lost. The
// writer must know all the same that it is no replica any more: its host removes
// it.
func TestAReplicaIsLetGoThoughNobodyHeardOfIt(t *testing.T) {
	play(t, 7, 2, 2, func(sc *scene) {
		a := sc.hosts[0]
		v := a.open()
		sc.write(v, 0, fill(1, 8))
		sc.flush(v)
		old, next := sc.vol.InSync[0], a.secondDisk()
		sc.change(func(r *cluster.Volume) { r.Others = append(r.Others, next) })
		sc.inSync(3)
		sc.change(func(r *cluster.Volume) {
			r.Release = &cluster.Release{Go: []holdfast.ReplicaID{old.ID}, Keep: []holdfast.ReplicaID{sc.vol.InSync[1].ID, next.ID}}
		})
		a.unheard = 1 // the writer's, as nobody else commits now
		sc.inSync(2)
		clock.Sleep(sc.w.Clock(), time.Second)
		if a.unheard != 0 {
			t.Fatal("no answer was lost")
		}
		v.mu.Lock()
		if v.m.Find(old.ID) >= 0 || v.localID != next.ID {
			t.Errorf("the writer still counts on the replica that it let go")
		}
		v.mu.Unlock()
		a.on(func() { sc.must(a.s.RemoveReplica(old)) })
		sc.expect(v, 0, fill(1, 8))
		sc.write(v, 4, fill(2, 8))
		sc.flush(v)
		sc.expect(v, 4, fill(2, 8))
	})
}

// TestNothingIsLetGoAfterALoss that the decision did not know of.
func TestNothingIsLetGoAfterALoss(t *testing.T) {
	play(t, 6, 3, 3, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 0, fill(1, 1))
		b.powerCut()
		sc.change(func(r *cluster.Volume) {
			ids := []holdfast.ReplicaID{r.InSync[0].ID, r.InSync[1].ID}
			r.Release = &cluster.Release{Go: []holdfast.ReplicaID{r.InSync[2].ID}, Keep: ids}
		})
		fin := clock.NewFuture[error](sc.w.Clock())
		a.clk.Go(func() {
			v.submit(&export.Request{Op: export.Flush, Done: func(_ *export.Request, err error) { fin.Resolve(err) }})
		})
		if err, ok := fin.Wait(10 * time.Second); !ok || err != nil {
			t.Errorf("the volume does not go on: %v", err)
		}
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		rec := sc.recorded()
		if len(rec.InSync) != 2 || !slices.ContainsFunc(rec.InSync, func(r cluster.Replica) bool { return r.Host == sc.hosts[2].id }) {
			t.Errorf("in sync are %v after a loss", rec.InSync)
		}
	})
}

// TestTheLastCopyIsNeverLetGo, whatever a record says.
func TestTheLastCopyIsNeverLetGo(t *testing.T) {
	play(t, 7, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.change(func(r *cluster.Volume) {
			r.Min = 2
			r.Release = &cluster.Release{Go: []holdfast.ReplicaID{r.InSync[1].ID}, Keep: []holdfast.ReplicaID{r.InSync[0].ID}}
		})
		clock.Sleep(sc.w.Clock(), 3*time.Second)
		sc.write(v, 0, fill(1, 1))
		if rec := sc.recorded(); len(rec.InSync) != 2 {
			t.Errorf("in sync are %v though two are the least", rec.InSync)
		}
	})
}

// TestAReplicaThatWasFullAndIsUsedDirectlyIsNotFullForEver: it said so while it
// was asked by frames; from when the writer asks it directly it does not answer any
// more, and nothing else would take that word back (simulated seed 731286).
func TestAReplicaThatWasFullAndIsUsedDirectlyIsNotFullForEver(t *testing.T) {
	play(t, 41, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 1, fill('x', 1))
		sc.flush(v)

		v.mu.Lock()
		i := v.m.Find(v.localID)
		v.local, v.localID = nil, holdfast.ReplicaID{} // as if it had joined just now
		v.noteFull(i, true)                            // its last answer to a frame
		v.settleIn(i)
		if v.local == nil {
			t.Error("the replica on the writer's own host is not used directly")
		}
		v.mu.Unlock()

		clock.Sleep(sc.w.Clock(), 2*fullWait)
		sc.write(v, 2, fill('y', 1))
		sc.flush(v)
		sc.expect(v, 2, fill('y', 1))
	})
}
