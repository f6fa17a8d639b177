package volume

import (
	"bytes"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// cloneOf makes a linked clone of the scene's volume, which is at rest, with one
// replica on the given host, and opens it there.
func (sc *scene) cloneOf(h *sceneHost, snap holdfast.SnapshotID) *Volume {
	sc.t.Helper()
	rec, _, err := h.ReadVolume(sc.vol.ID)
	sc.must(err)
	clone := cluster.Volume{ID: holdfast.VolumeID{UUID: sc.uuid(78)}, Name: "clone", Blocks: rec.Blocks, Copies: 2, Min: 1, Durability: cluster.OnFlush,
		Epoch: rec.Epoch, Origin: &cluster.Origin{Volume: rec.ID, Snapshot: snap}}
	var from cluster.Replica
	for _, ref := range rec.InSync {
		if ref.Host == h.id {
			from = ref
		}
	}
	ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: sc.uuid(71)}, Host: h.id, Disk: h.did}
	var v *Volume
	h.on(func() {
		sc.must(h.s.CreateReplica(ref, clone.ID, clone.Blocks, from.ID, cluster.Snapshot{ID: snap}))
		clone.InSync = []cluster.Replica{ref}
		tx := h.cl.Begin()
		tx.PutVolume(clone, 0)
		_, err := tx.Commit()
		sc.must(err)
		v, err = h.s.Open(clone.ID)
		sc.must(err)
	})
	return v
}

// rest closes a volume, so that it may be cloned as it is.
func (sc *scene) rest(v *Volume) {
	sc.t.Helper()
	sc.at(v, func() error { v.Close(); return nil })
	clock.Sleep(sc.w.Clock(), 2*time.Second)
}

// joined waits until a volume has n in-sync replicas.
func (sc *scene) joined(v *Volume, n int) {
	sc.t.Helper()
	sc.until("the copy", func() bool { return len(v.Record().InSync) == n })
}

func TestACloneIsSentAsWhatDiffersFromItsImage(t *testing.T) {
	for name, snap := range map[string]holdfast.SnapshotID{"of an image": {}, "of a snapshot": snapID(1)} {
		t.Run(name, func(t *testing.T) {
			play(t, 51, 3, 2, func(sc *scene) {
				a, b := sc.hosts[0], sc.hosts[1]
				v := a.open()
				sc.write(v, 0, fill('a', 500))
				if !snap.IsZero() {
					sc.snapshot(v, 1)
				}
				sc.rest(v)
				c := sc.cloneOf(a, snap)
				sc.write(c, 10, fill('c', 5))
				sc.snapshot(c, 7)
				sc.write(c, 12, fill('d', 5))
				sc.rest(a.open()) // the image is opened again, and not written to
				sc.assign(c, b, 72)
				sc.joined(c, 2)
				if n := c.Stats().ResyncBlocks; n != 10 {
					t.Errorf("%d blocks were sent, the clone has 10 of its own", n)
				}
				a.powerCut()
				b.on(func() {
					var err error
					c, err = b.s.Open(c.id)
					sc.must(err)
				})
				sc.expect(c, 0, fill('a', 10))
				sc.expect(c, 10, fill('c', 2))
				sc.expect(c, 12, fill('d', 5))
				sc.expect(c, 17, fill('a', 400))
				got := fill(0, 7)
				b.on(func() { sc.must(b.replicaOf(c.id).ReadSnapshot(snapID(7), got, 8, sc.opener(sc.vol.ID, c.id))) })
				if got[0] != 'a' || got[2*holdfast.BlockSize] != 'c' || got[6*holdfast.BlockSize] != 'c' {
					t.Error("the clone's snapshot is not what it was")
				}
			})
		})
	}
}

func TestACloneWaitsForItsImageOnTheSameDisk(t *testing.T) {
	play(t, 52, 3, 1, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		v := a.open()
		sc.write(v, 0, fill('a', 500))
		sc.rest(v)
		clone := sc.cloneOf(a, holdfast.SnapshotID{})
		sc.write(clone, 10, fill('c', 5))
		v = a.open()
		sc.assign(v, c, 61) // both are to be copied to the same disk
		sc.assign(clone, c, 72)
		sc.joined(clone, 2)
		if n := clone.Stats().ResyncBlocks; n != 5 {
			t.Errorf("%d blocks were sent, the clone has 5 of its own", n)
		}
		if n := v.Stats().ResyncBlocks; n != 500 {
			t.Errorf("%d blocks of the image were sent of 500", n)
		}
		if live := c.st.Usage().Live / holdfast.BlockSize; live > 540 {
			t.Errorf("%d blocks are kept for 505 that differ", live)
		}
	})
}

func TestACloneWithoutItsImageIsCopiedWhole(t *testing.T) {
	play(t, 53, 3, 1, func(sc *scene) {
		a, c := sc.hosts[0], sc.hosts[2]
		v := a.open()
		sc.write(v, 0, fill('a', 500))
		sc.rest(v)
		clone := sc.cloneOf(a, holdfast.SnapshotID{})
		sc.write(clone, 10, fill('c', 5))
		sc.assign(clone, c, 72)
		sc.joined(clone, 2)
		if n := clone.Stats().ResyncBlocks; n != 500 {
			t.Errorf("%d blocks were sent of 500", n)
		}
		a.powerCut()
		c.on(func() {
			var err error
			clone, err = c.s.Open(clone.id)
			sc.must(err)
		})
		sc.expect(clone, 0, fill('a', 10))
		sc.expect(clone, 10, fill('c', 5))
	})
}

// Nobody tells a replica that a snapshot is stable if the writer goes at that
// moment and takes its own copy with it; the volume's record does.
func TestACloneOfASnapshotWhoseWriterIsGone(t *testing.T) {
	play(t, 55, 3, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 0, fill('a', 5))
		sc.snapshot(v, 1)
		a.powerCut()
		rec, _, err := b.ReadVolume(sc.vol.ID)
		sc.must(err)
		of := rec.Snapshots[0]
		ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: sc.uuid(71)}, Host: b.id, Disk: b.did}
		clone := func(of cluster.Snapshot) (err error) {
			b.on(func() {
				err = b.s.CreateReplica(ref, holdfast.VolumeID{UUID: sc.uuid(78)}, rec.Blocks, rec.InSync[1].ID, of)
			})
			return err
		}
		for _, at := range []holdfast.LSN{0, of.LSN - 1, of.LSN + 1} {
			if err := clone(cluster.Snapshot{ID: of.ID, LSN: at}); !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("at %v, the snapshot is at %v: %v", at, of.LSN, err)
			}
		}
		sc.must(clone(of))
		got := fill(0, 5)
		b.on(func() {
			sc.must(b.replicaOf(holdfast.VolumeID{UUID: sc.uuid(78)}).ReadOpened(got, 0, sc.opener(sc.vol.ID)))
		})
		if !bytes.Equal(got, fill('a', 5)) {
			t.Error("the clone is not what was kept")
		}
	})
}
