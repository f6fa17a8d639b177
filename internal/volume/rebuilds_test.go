package volume

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// lacking makes n volumes whose copy is on the first host and which are to get
// another one on the second; those at odd places lack nothing, and are moved
// there. They are open at the first host and hold something.
func (sc *scene) lacking(n, blocks int) (out []*Volume) {
	from, to := sc.hosts[0], sc.hosts[1]
	for i := range n {
		id := holdfast.VolumeID{UUID: sc.uuid(byte(i + 1))}
		id.UUID[1] = 7
		ref := func(h *sceneHost, k byte) cluster.Replica {
			r := cluster.Replica{ID: holdfast.ReplicaID(id), Host: h.id, Disk: h.did}
			r.ID.UUID[2] = k
			return r
		}
		here, there := ref(from, 1), ref(to, 2)
		from.on(func() {
			sc.must(from.s.CreateReplica(here, id, uint64(blocks), holdfast.ReplicaID{}, cluster.Snapshot{}))
		})
		rec := cluster.Volume{ID: id, Name: fmt.Sprint("vol", i), Blocks: uint64(blocks), Copies: 2 - i%2, Min: 1, Durability: cluster.OnFlush, InSync: []cluster.Replica{here}}
		tx := from.cl.Begin()
		tx.PutVolume(rec, 0)
		_, err := tx.Commit()
		sc.must(err)
		var v *Volume
		from.on(func() {
			v, err = from.s.Open(id)
			sc.must(err)
		})
		sc.write(v, 0, fill(byte(i+1), blocks))
		sc.flush(v)
		out = append(out, v)
		from.on(func() {
			rec, mod, err := from.ReadVolume(id)
			sc.must(err)
			rec.Others = []cluster.Replica{there}
			mod, err = from.CommitVolume(rec, mod)
			sc.must(err)
			from.s.NoteRecord(rec, mod)
		})
	}
	return out
}

// TestManyRebuildsTakeTurns: never more than there are seats, redundancy before
// moves, and who waits says so.
func TestManyRebuildsTakeTurns(t *testing.T) {
	play(t, 60, 2, 2, func(sc *scene) {
		const n = 16
		sc.hosts[1].powerCut()
		vols := sc.lacking(n, 128)
		clock.Sleep(sc.w.Clock(), time.Second)
		sc.hosts[1].boot()
		waited, farthest, most := make(map[*Volume]bool), 0, 0
		var order []int
		for step := 0; len(order) < n; step++ {
			if step > 300000 {
				t.Fatalf("%d of %d are in sync after a minute", len(order), n)
			}
			copying := 0
			for i, v := range vols {
				if m, ok := v.Mending(); ok && m.Waits {
					waited[v] = true
					farthest = max(farthest, m.Ahead)
				} else if ok {
					copying++
				}
				if len(v.Record().InSync) == 2 && v.Record().Name != "" && !seenIn(order, i) {
					order = append(order, i)
				}
			}
			most = max(most, copying)
			clock.Sleep(sc.w.Clock(), 200*time.Microsecond)
		}
		if most != seatsLink {
			t.Errorf("%d at the same time, want %d", most, seatsLink)
		}
		if len(waited) < n-seatsLink || farthest < n/2 {
			t.Errorf("%d of %d said that they wait, for at most %d others", len(waited), n, farthest)
		}
		late := 0
		for _, i := range order[:n/2] {
			late += i % 2
		}
		if late > seatsLink {
			t.Errorf("moves did not wait for redundancy: %v", order)
		}
		for i, v := range vols {
			sc.expect(v, 100, fill(byte(i+1), 1))
		}
	})
}

func seenIn(list []int, x int) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// TestTheTargetGoesAwayInTheMiddle: all come to an end when it is back.
func TestTheTargetGoesAwayInTheMiddle(t *testing.T) {
	play(t, 61, 2, 2, func(sc *scene) {
		const n = 8
		vols := sc.lacking(n, 256)
		done := func() (k int) {
			for _, v := range vols {
				if len(v.Record().InSync) == 2 {
					k++
				}
			}
			return k
		}
		cut := 0
		for done() < n {
			if sc.w.Now() > 5*time.Minute {
				t.Fatalf("%d of %d are in sync at %v", done(), n, sc.w.Now())
			}
			clock.Sleep(sc.w.Clock(), 20*time.Millisecond)
			if m, ok := vols[2*cut].Mending(); cut < 3 && ok && !m.Waits && m.Done > 0 {
				cut++
				sc.hosts[1].powerCut()
				clock.Sleep(sc.w.Clock(), 3*time.Second)
				sc.hosts[1].boot()
			}
		}
		if cut == 0 {
			t.Error("nothing was cut")
		}
		if held := len(sc.hosts[0].s.rebuilds.desk.claims); held != 0 {
			clock.Sleep(sc.w.Clock(), 2*time.Second)
			sc.hosts[0].on(func() {
				d := &sc.hosts[0].s.rebuilds.desk
				d.expire(sc.hosts[0].clk.Now())
				if len(d.claims) != 0 {
					t.Errorf("%d seats are still taken", len(d.claims))
				}
			})
		}
	})
}

// TestReadsOfAVolumeAreFelt: while somebody reads from a disk, and writes nothing,
// rebuilds that read from it are limited; when that ends, they are not.
func TestReadsOfAVolumeAreFelt(t *testing.T) {
	play(t, 62, 2, 2, func(sc *scene) {
		h := sc.hosts[0]
		v := sc.lacking(1, 128)[0]
		clock.Sleep(sc.w.Clock(), 2*present)
		limit := func() (n int64) {
			h.on(func() { n, _ = h.s.diskGovernor(h.did).limit(h.clk.Now()) })
			return n
		}
		if n := limit(); n != 0 {
			t.Errorf("nobody reads, and rebuilds are limited to %d", n)
		}
		sc.expect(v, 0, fill(1, 4))
		if limit() == 0 {
			t.Error("somebody reads, and rebuilds are not limited")
		}
		clock.Sleep(sc.w.Clock(), 2*present)
		if n := limit(); n != 0 {
			t.Errorf("nobody reads any more, and rebuilds are limited to %d", n)
		}
	})
}
