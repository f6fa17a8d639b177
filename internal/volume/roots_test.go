package volume

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

func snapID(n byte) holdfast.SnapshotID { return holdfast.SnapshotID{UUID: holdfast.UUID{0: n, 15: 1}} }

// at runs f on the writer's host.
func (sc *scene) at(v *Volume, f func() error) {
	sc.t.Helper()
	fin := clock.NewFuture[error](sc.w.Clock())
	v.s.Clock.Go(func() { fin.Resolve(f()) })
	err, _ := fin.Wait(clock.Forever)
	sc.must(err)
}

func (sc *scene) snapshot(v *Volume, n byte) {
	sc.t.Helper()
	sc.at(v, func() error {
		return v.Snapshot(snapID(n), func(at holdfast.LSN) error { return v.name(snapID(n), at) })
	})
}

func (sc *scene) revert(v *Volume, n byte) {
	sc.t.Helper()
	sc.at(v, func() error { return v.Revert(snapID(n)) })
}

func (sc *scene) dropSnapshot(v *Volume, n byte) {
	sc.t.Helper()
	sc.at(v, func() error {
		if err := v.name(snapID(n), 0); err != nil {
			return err
		}
		return v.DropSnapshot(snapID(n))
	})
}

// name has the volume's record name a snapshot, or (0) not any more.
func (v *Volume) name(id holdfast.SnapshotID, at holdfast.LSN) error {
	return v.commit(func(rec *cluster.Volume) (bool, error) {
		rec.Snapshots = slices.DeleteFunc(slices.Clone(rec.Snapshots), func(s cluster.Snapshot) bool { return s.ID == id })
		if at != 0 {
			rec.Snapshots = append(rec.Snapshots, cluster.Snapshot{ID: id, Name: id.Short(), LSN: at})
		}
		return true, nil
	})
}

// replicaOf finds the host's replica of a volume; nil: it has none.
func (h *sceneHost) replicaOf(id holdfast.VolumeID) *store.Replica {
	for _, r := range h.st.Replicas() {
		if r.State().Volume == id {
			return r
		}
	}
	return nil
}

// expectSnap reads a snapshot from the host's own replica.
func (h *sceneHost) expectSnap(n byte, addr uint64, want []byte) {
	h.sc.t.Helper()
	got := make([]byte, len(want))
	h.on(func() {
		h.sc.must(h.replicaOf(h.sc.vol.ID).ReadSnapshot(snapID(n), got, addr, h.sc.opener(h.sc.vol.ID)))
	})
	if !bytes.Equal(got, want) {
		h.sc.t.Errorf("at %v: block %d of snapshot %d reads %x, want %x", h.sc.w.Now(), addr, n, got[0], want[0])
	}
}

// snapshots counts those of the host's replica.
func (h *sceneHost) snapshots() int { return len(h.replicaOf(h.sc.vol.ID).State().Snapshots) }

// until waits for something that comes soon.
func (sc *scene) until(what string, f func() bool) {
	sc.t.Helper()
	for range 200000 {
		if f() {
			return
		}
		clock.Sleep(sc.w.Clock(), 50*time.Microsecond)
	}
	sc.t.Errorf("at %v: %s never came", sc.w.Now(), what)
	panic("scene ends")
}

// assign gives a volume another replica, on a host that has none, and drops
// those that are away.
func (sc *scene) assign(v *Volume, h *sceneHost, tag byte) cluster.Replica {
	sc.t.Helper()
	w := sc.hosts[0]
	rec, mod, err := w.ReadVolume(v.id)
	sc.must(err)
	ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: sc.uuid(tag)}, Host: h.id, Disk: h.did}
	rec.Others = []cluster.Replica{ref}
	mod, err = w.CommitVolume(rec, mod)
	sc.must(err)
	v.s.NoteRecord(rec, mod)
	return ref
}

func TestARebuiltReplicaHasTheSnapshots(t *testing.T) {
	play(t, 41, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		v := a.open()
		sc.write(v, 0, fill('a', 300))
		sc.snapshot(v, 1)
		sc.write(v, 10, fill('b', 20))
		sc.snapshot(v, 2)
		sc.write(v, 20, fill('c', 20))
		b.powerCut()
		sc.inSync(1)
		sc.assign(v, c, 61)
		sc.inSync(2)
		if n := v.Stats().ResyncBlocks; n != 340 {
			t.Errorf("%d blocks were sent of 340", n)
		}
		a.powerCut() // what c was given is all that is left
		v = c.open()
		sc.expect(v, 0, fill('a', 10))
		sc.expect(v, 10, fill('b', 10))
		sc.expect(v, 20, fill('c', 20))
		c.expectSnap(1, 0, fill('a', 300))
		c.expectSnap(2, 0, fill('a', 10))
		c.expectSnap(2, 10, fill('b', 20))
		c.expectSnap(2, 30, fill('a', 10))
		sc.revert(v, 1)
		sc.expect(v, 0, fill('a', 300))
	})
}

func TestAReplicaThatWasAwayLearnsOfSnapshots(t *testing.T) {
	play(t, 42, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 0, fill('a', 400))
		sc.snapshot(v, 1)
		sc.snapshot(v, 2)
		sc.write(v, 0, fill('b', 5))
		sc.flush(v)
		b.powerCut()
		sc.write(v, 5, fill('c', 5))
		sc.inSync(1)
		sc.snapshot(v, 3)
		sc.write(v, 5, fill('d', 5))
		sc.dropSnapshot(v, 1)
		sc.snapshot(v, 4)
		sc.write(v, 100, fill('e', 10))
		b.boot()
		sc.inSync(2)
		if n := v.Stats().ResyncBlocks; n > 25 {
			t.Errorf("%d blocks were sent of the 20 that changed", n)
		}
		a.powerCut()
		v = b.open()
		sc.expect(v, 0, fill('b', 5))
		sc.expect(v, 5, fill('d', 5))
		sc.expect(v, 100, fill('e', 10))
		b.expectSnap(2, 0, fill('a', 400))
		b.expectSnap(3, 0, fill('b', 5))
		b.expectSnap(3, 5, fill('c', 5))
		b.expectSnap(4, 5, fill('d', 5))
		b.expectSnap(4, 100, fill('a', 10))
		if n := b.snapshots(); n != 3 {
			t.Errorf("%d snapshots, want 3: the first was deleted meanwhile", n)
		}
	})
}

func TestAReplicaThatWasAwayDuringARevertGetsWhatDiffers(t *testing.T) {
	play(t, 43, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 0, fill('a', 400))
		sc.snapshot(v, 1)
		sc.write(v, 0, fill('b', 50))
		sc.flush(v)
		b.powerCut()
		sc.write(v, 50, fill('c', 5))
		sc.inSync(1)
		sc.revert(v, 1)
		sc.write(v, 60, fill('d', 5))
		b.boot()
		sc.inSync(2)
		if n := v.Stats().ResyncBlocks; n > 10 {
			t.Errorf("%d blocks were sent of the 5 written since the revert", n)
		}
		a.powerCut()
		v = b.open()
		sc.expect(v, 0, fill('a', 60))
		sc.expect(v, 60, fill('d', 5))
		b.expectSnap(1, 0, fill('a', 400))
	})
}

// TestRootsWhileAReplicaIsBuilt does, while a replica is being built, what its
// build must neither lose nor do twice.
func TestRootsWhileAReplicaIsBuilt(t *testing.T) {
	for name, do := range map[string]struct {
		meanwhile func(sc *scene, v *Volume)
		after     func(sc *scene, v *Volume, c *sceneHost)
	}{
		"a snapshot": {
			func(sc *scene, v *Volume) {
				sc.write(v, 0, fill('x', 3))
				sc.snapshot(v, 2)
				sc.write(v, 1, fill('y', 1))
			},
			func(sc *scene, v *Volume, c *sceneHost) {
				c.expectSnap(2, 0, fill('x', 3))
				c.expectSnap(2, 3, fill('b', 6))
				c.expectSnap(2, 9, fill('a', 891))
				sc.expect(v, 1, fill('y', 1))
			},
		},
		"a snapshot is deleted": {
			func(sc *scene, v *Volume) { sc.dropSnapshot(v, 1) },
			func(sc *scene, v *Volume, c *sceneHost) {
				if n := c.snapshots(); n != 0 {
					sc.t.Errorf("%d snapshots are left", n)
				}
				sc.expect(v, 0, fill('b', 9))
			},
		},
		"a revert": {
			func(sc *scene, v *Volume) {
				sc.revert(v, 1)
				sc.write(v, 5, fill('z', 1))
			},
			func(sc *scene, v *Volume, c *sceneHost) {
				sc.expect(v, 0, fill('a', 5))
				sc.expect(v, 5, fill('z', 1))
				c.expectSnap(1, 0, fill('a', 900))
			},
		},
		"all of it": {
			func(sc *scene, v *Volume) {
				sc.snapshot(v, 2)
				sc.revert(v, 1)
				sc.write(v, 5, fill('z', 1))
				sc.snapshot(v, 3)
				sc.revert(v, 2)
				sc.dropSnapshot(v, 1)
				sc.write(v, 6, fill('q', 1))
			},
			func(sc *scene, v *Volume, c *sceneHost) {
				sc.expect(v, 0, fill('b', 6))
				sc.expect(v, 6, fill('q', 1))
				c.expectSnap(2, 0, fill('b', 9))
				c.expectSnap(2, 9, fill('a', 891))
				c.expectSnap(3, 0, fill('a', 5))
				c.expectSnap(3, 5, fill('z', 1))
				if n := c.snapshots(); n != 2 {
					sc.t.Errorf("%d snapshots, want 2", n)
				}
			},
		},
	} {
		moments := map[string]func(v *Volume, r *store.Replica) bool{
			"while roots are sent":  func(v *Volume, r *store.Replica) bool { return v.Stats().ResyncBlocks > 200 },
			"while the head is":     func(v *Volume, r *store.Replica) bool { return r.State().Building },
			"while it is prepared":  func(v *Volume, r *store.Replica) bool { return true },
			"when roots are aside":  func(v *Volume, r *store.Replica) bool { return len(r.State().Aside) > 0 },
			"when the head is sent": func(v *Volume, r *store.Replica) bool { return v.Stats().ResyncBlocks > 1000 },
		}
		for when, now := range moments {
			t.Run(name+" "+when, func(t *testing.T) {
				play(t, 44, 3, 1, func(sc *scene) {
					a, c := sc.hosts[0], sc.hosts[2]
					v := a.open()
					sc.write(v, 0, fill('a', 900))
					sc.snapshot(v, 1)
					sc.write(v, 0, fill('b', 9))
					sc.write(v, 100, fill('c', 500))
					sc.write(v, 100, fill('a', 500))
					sc.assign(v, c, 61)
					sc.until("the build", func() bool {
						r := c.replicaOf(sc.vol.ID)
						return r != nil && now(v, r)
					})
					do.meanwhile(sc, v)
					sc.inSync(2)
					clock.Sleep(sc.w.Clock(), 3*time.Second)
					a.powerCut()
					v = c.open()
					do.after(sc, v, c)
				})
			})
		}
	}
}

func TestARebuildThatIsInterruptedGoesOnBehindTheLastRoot(t *testing.T) {
	play(t, 45, 3, 1, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		v := a.open()
		sc.write(v, 0, fill('a', 800))
		sc.snapshot(v, 1)
		sc.write(v, 0, fill('b', 300))
		sc.assign(v, c, 61)
		sc.until("the first root", func() bool {
			r := c.replicaOf(sc.vol.ID)
			return r != nil && len(r.State().Aside) > 0
		})
		clock.Sleep(sc.w.Clock(), 2*time.Millisecond)
		before := v.Stats().ResyncBlocks
		c.powerCut()
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		c.boot()
		if n := len(c.replicaOf(sc.vol.ID).State().Aside); n != 1 {
			t.Fatalf("%d roots are left", n)
		}
		sc.inSync(2)
		if n := v.Stats().ResyncBlocks; before > 1100 || n > before+400 {
			t.Errorf("%d blocks were sent before the interruption and %d after it", before, n-before)
		}
		a.powerCut()
		v = c.open()
		sc.expect(v, 0, fill('b', 300))
		sc.expect(v, 300, fill('a', 500))
		c.expectSnap(1, 0, fill('a', 800))
	})
}

// TestAJoinerIsNotKeptWaitingByALostReplica: too few are left to do without the
// lost one, and what the joiner still holds in memory is not on disk everywhere.
func TestAJoinerIsNotKeptWaitingByALostReplica(t *testing.T) {
	play(t, 47, 3, 3, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		rec, mod, err := a.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Min = 2
		_, err = a.CommitVolume(rec, mod)
		sc.must(err)
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sc.flush(v)
		c.clk.Pause()
		sc.w.Clock().Go(func() { sc.write(v, 2, fill('b', 1)) })
		sc.until("the ejection", func() bool { return len(sc.record().InSync) == 2 })
		b.powerCut()
		written := false
		sc.w.Clock().Go(func() { sc.write(v, 3, fill('c', 1)); written = true })
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		if written {
			t.Error("a write was acknowledged by fewer replicas than there must be")
		}
		c.clk.Resume()
		sc.until("the write", func() bool { return written })
		for i, tag := range []byte("abc") {
			got := fill(0, 1)
			c.on(func() { sc.must(c.replicaOf(sc.vol.ID).ReadOpened(got, uint64(i+1), sc.opener(sc.vol.ID))) })
			if got[0] != tag {
				t.Errorf("block %d of the joiner is %x", i+1, got[0])
			}
		}
	})
}

// TestWhoIsTooFarBehindIsBroughtUpToDate: all power goes just after a copy has joined,
// which holds as blocks what the others had in memory only. It has no records for
// them; they are in sync by the record, and too few are left without them. The volume
// is opened all the same, brings them up to date and writes then (simulated seed
// 910077).
func TestWhoIsTooFarBehindIsBroughtUpToDate(t *testing.T) {
	play(t, 47, 3, 3, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		rec, mod, err := a.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Min = 2
		_, err = a.CommitVolume(rec, mod)
		sc.must(err)
		v := a.open()
		sc.write(v, 0, fill('a', 100))
		sc.flush(v)
		c.powerCut()
		sc.until("the ejection", func() bool { return len(sc.record().InSync) == 2 })
		over := false
		sc.w.Clock().Go(func() {
			for i := int64(0); !over; i++ {
				sc.submit(v, i%100, fill('b', 1))
				sc.sleep(10 * time.Millisecond)
			}
		})
		c.boot()
		sc.until("the join", func() bool { return len(sc.record().InSync) == 3 })
		for _, h := range sc.hosts {
			h.powerCut()
		}
		over = true
		for _, h := range sc.hosts {
			h.boot()
		}
		sc.until("an opening", func() bool {
			a.on(func() { v, err = a.s.Open(sc.vol.ID) })
			return err == nil
		})
		written := sc.submit(v, 7, fill('c', 1))
		sc.until("a write with enough copies", func() bool { return *written && len(sc.record().InSync) >= 2 })
		sc.until("all copies", func() bool { return len(sc.record().InSync) == 3 })
		sc.flush(v)
		sc.expect(v, 7, fill('c', 1))
		sc.equal(v, 3)
	})
}

// TestAVolumeWithAMinimumIsOpenedToBeMended: of two copies, which is the minimum, one
// is lost. While it may come back it is not given up. Once another is to be built in
// its place the volume is opened, and writes wait for that one (simulated seed
// 853246). Where fewer than the minimum are in sync by the record nobody is given up
// any more, and the volume is opened, too (854335).
func TestAVolumeWithAMinimumIsOpenedToBeMended(t *testing.T) {
	for _, noted := range []bool{false, true} {
		play(t, 53, 3, 2, func(sc *scene) {
			a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
			v := a.open()
			sc.write(v, 0, fill('a', 100))
			sc.flush(v)
			a.powerCut()
			b.powerCut()
			a.boot()
			sc.until("the loss to be known", func() bool { return !c.Alive(b.id) })
			sc.change(func(r *cluster.Volume) {
				r.Min = 2
				if noted {
					for _, ref := range slices.Clone(r.InSync) {
						if ref.Host == b.id {
							r.Eject(ref, sc.w.Clock().Wall(), 0)
						}
					}
				}
			})
			var err error
			a.on(func() { v, err = a.s.Open(sc.vol.ID) })
			if refused := holdfast.IsKind(err, holdfast.Unavailable); refused == noted {
				t.Fatalf("with %d in sync: %v", len(sc.record().InSync), err)
			}
			ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: sc.uuid(90)}, Host: c.id, Disk: c.did}
			sc.change(func(r *cluster.Volume) { r.Others = append(r.Others, ref) })
			if !noted {
				v = a.open()
			}
			written := sc.submit(v, 7, fill('c', 1))
			sc.until("a write with enough copies", func() bool { return *written && len(sc.record().InSync) == 2 })
			sc.flush(v)
			sc.expect(v, 0, fill('a', 7))
			sc.expect(v, 7, fill('c', 1))
		})
	}
}

// TestACopyThatLostItsPromiseDoesNotStallAVolumeForEver: a host comes back with its
// disk of the day before, on which the writer's epoch is not promised. There must be
// two copies, so it cannot be ejected; the volume is opened anew, which gives it what
// it lacks (simulated seed 860016).
func TestACopyThatLostItsPromiseDoesNotStallAVolumeForEver(t *testing.T) {
	play(t, 59, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		sc.change(func(r *cluster.Volume) { r.Min = 2 })
		v := a.open()
		sc.write(v, 0, fill('a', 100))
		sc.flush(v)
		b.powerCut()
		old := b.disk.Clone(sc.w.Rand("old disk"))
		b.boot()
		a.on(v.Close)
		v = a.open()
		sc.write(v, 50, fill('b', 100))
		sc.flush(v)
		b.powerCut()
		b.disk = old
		b.boot()
		sc.until("the end of what cannot go on", func() bool { return v.Err() != nil })
		v = a.open()
		sc.write(v, 140, fill('c', 20))
		sc.flush(v)
		sc.inSync(2)
		sc.expect(v, 0, fill('a', 50))
		sc.expect(v, 50, fill('b', 90))
		sc.expect(v, 140, fill('c', 20))
		sc.equal(v, 2)
	})
}

// TestACopyThatIsGoneDoesNotStallAVolumeForEver: a disk has lost a whole copy, as one
// may whose log has rotted. There must be two, so it cannot be ejected; once it is
// known for good the volume is opened anew without it, and it is built there again
// (simulated seed 964286). A disk that is not used is waited for: it may come back.
func TestACopyThatIsGoneDoesNotStallAVolumeForEver(t *testing.T) {
	for _, unused := range []bool{false, true} {
		play(t, 61, 2, 2, func(sc *scene) {
			a, b := sc.hosts[0], sc.hosts[1]
			sc.change(func(r *cluster.Volume) { r.Min = 2 })
			v := a.open()
			sc.write(v, 0, fill('a', 100))
			sc.flush(v)
			ref := sc.record().InSync[slices.IndexFunc(sc.record().InSync, func(r cluster.Replica) bool { return r.Host == b.id })]
			b.on(func() { sc.must(b.s.RemoveReplica(ref)) })
			b.unused = unused
			if unused {
				written := sc.submit(v, 7, fill('b', 1))
				sc.sleep(3 * goneAfter)
				if v.Err() != nil || *written || len(sc.record().InSync) != 2 {
					t.Fatalf("it is not waited for: %v", v.Err())
				}
				return
			}
			sc.sleep(goneAfter)
			sc.until("the end of what cannot go on", func() bool { return v.Err() != nil })
			v = a.open()
			sc.inSync(2)
			sc.write(v, 7, fill('c', 1))
			sc.flush(v)
			sc.expect(v, 0, fill('a', 7))
			sc.expect(v, 7, fill('c', 1))
			sc.equal(v, 2)
		})
	}
}

// The commit that names a snapshot is on its way for longer than anybody waits.
func TestASnapshotThatWasLetGoIsNotNamedLater(t *testing.T) {
	play(t, 84, 2, 2, func(sc *scene) {
		a := sc.hosts[0]
		v := a.open()
		sc.write(v, 1, fill('a', 8))
		tx := a.cl.Begin()
		sc.at(v, func() error {
			err := v.Snapshot(snapID(2), func(at holdfast.LSN) error {
				st, err := a.cl.Refresh()
				sc.must(err)
				rec := st.Volumes[v.id]
				rec.Val.Snapshots = []cluster.Snapshot{{ID: snapID(2), LSN: at, Name: "late"}}
				tx.PutVolume(rec.Val, rec.Mod)
				return holdfast.Errorf(holdfast.Unknown, "nobody knows")
			})
			if !holdfast.IsKind(err, holdfast.Unknown) {
				t.Errorf("the snapshot: %v", err)
			}
			return nil
		})
		sc.sleep(3 * orphanEvery)
		if n := sc.kept(sc.vol.ID); !slices.Equal(n, []int{0, 0}) {
			t.Errorf("%v snapshots are kept", n)
		}
		a.on(func() {
			if _, err := tx.Commit(); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("the commit that comes at last: %v", err)
			}
		})
	})
}

func TestASnapshotThatWasNeverNamedIsLetGo(t *testing.T) {
	play(t, 83, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 1, fill('a', 8))
		sc.snapshot(v, 1)
		sc.at(v, func() error {
			lost := holdfast.Errorf(holdfast.Unavailable, "the control plane is away")
			if err := v.Snapshot(snapID(2), func(holdfast.LSN) error { return lost }); err != lost {
				t.Errorf("a snapshot that could not be named: %v", err)
			}
			return nil
		})
		making := sc.w.Clock().NewEvent()
		named := sc.w.Clock().NewEvent()
		a.clk.Go(func() {
			sc.must(v.Snapshot(snapID(3), func(at holdfast.LSN) error {
				making.Wait(clock.Forever)
				return v.name(snapID(3), at)
			}))
			named.Set()
		})
		clock.Sleep(sc.w.Clock(), 3*orphanEvery) // the third is being made all the while
		making.Set()
		named.Wait(clock.Forever)
		clock.Sleep(sc.w.Clock(), 3*orphanEvery)
		for _, h := range []*sceneHost{a, b} {
			var ids []holdfast.SnapshotID
			for _, sn := range h.replicaOf(sc.vol.ID).State().Snapshots {
				ids = append(ids, sn.ID)
			}
			if !slices.Equal(ids, []holdfast.SnapshotID{snapID(1), snapID(3)}) {
				t.Errorf("snapshots kept: %v, want the first and the third", ids)
			}
		}
	})
}
