package volume

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// another makes one more volume, with replicas on these hosts.
func (sc *scene) another(n byte, on ...*sceneHost) cluster.Volume { return sc.anotherOf(256, n, on...) }

// anotherOf is another of so many blocks.
func (sc *scene) anotherOf(blocks uint64, n byte, on ...*sceneHost) cluster.Volume {
	rec := cluster.Volume{ID: holdfast.VolumeID{UUID: sc.uuid(n)}, Name: "vol" + string('a'+n%26), Blocks: blocks, Copies: len(on), Min: 1, Durability: cluster.OnFlush, Compression: sc.compression()}
	for i, h := range on {
		ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: holdfast.UUID{n, byte(i), 6: 0x40, 8: 0x80}}, Host: h.id, Disk: h.did}
		on[0].on(func() {
			sc.must(on[0].s.CreateReplica(ref, rec.ID, rec.Blocks, holdfast.ReplicaID{}, cluster.Snapshot{}))
		})
		rec.InSync = append(rec.InSync, ref)
	}
	on[0].on(func() { _, err := on[0].CommitVolume(rec, 0); sc.must(err) })
	return rec
}

// openOf makes the host the writer of a volume.
func (h *sceneHost) openOf(rec cluster.Volume) (v *Volume) {
	h.on(func() {
		var err error
		v, err = h.s.Open(rec.ID)
		h.sc.must(err)
	})
	return v
}

// submit starts a write and tells when it is done.
func (sc *scene) submit(v *Volume, addr int64, data []byte) (done *bool) {
	done = new(bool)
	r := &export.Request{Op: export.Write, Off: addr * holdfast.BlockSize, Length: int64(len(data)), Data: data, Done: func(_ *export.Request, err error) {
		sc.must(err)
		*done = true
	}}
	v.s.Clock.Go(func() { v.submit(r) })
	return done
}

func (sc *scene) sleep(d time.Duration) { clock.Sleep(sc.w.Clock(), d) }

// kept counts the snapshots of a volume on the hosts that have it.
func (sc *scene) kept(id holdfast.VolumeID) (out []int) {
	for _, h := range sc.hosts {
		if h.clk.Dead() {
			continue
		}
		if r := h.replicaOf(id); r != nil {
			out = append(out, len(r.State().Snapshots))
		}
	}
	return out
}

func (h *sceneHost) snapBlock(id holdfast.VolumeID, snap holdfast.SnapshotID, addr uint64) byte {
	got := make([]byte, holdfast.BlockSize)
	h.on(func() { h.sc.must(h.replicaOf(id).ReadSnapshot(snap, got, addr, h.sc.opener(id))) })
	return got[0]
}

// cutGroup takes a group from a host and names it, as package provision does.
func (h *sceneHost) cutGroup(vols ...cluster.Volume) (g *Group, err error) {
	h.on(func() {
		if g, err = h.s.CutGroup(vols); err != nil {
			return
		}
		err = h.nameGroup(g)
	})
	return g, err
}

func (h *sceneHost) nameGroup(g *Group) error {
	st, err := h.cl.Refresh()
	if err == nil {
		err = g.Renew()
	}
	if err != nil {
		return err
	}
	tx := h.cl.Begin()
	for _, p := range g.Parts {
		v := st.Volumes[p.Volume.ID]
		v.Val.Snapshots = append(slices.Clip(v.Val.Snapshots), cluster.Snapshot{ID: p.Snapshot, Name: p.Snapshot.Short(), LSN: p.LSN, Group: g.ID})
		tx.PutVolume(v.Val, v.Mod)
	}
	if _, err = tx.Commit(); err == nil {
		g.Named()
	}
	return err
}

func group(n byte) holdfast.GroupID { return holdfast.GroupID{UUID: holdfast.UUID{0: n, 1: 0x67}} }

func TestAGroupSnapshotOfVolumesThatDifferentHostsWrite(t *testing.T) {
	play(t, 301, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		v, w := a.open(), b.openOf(sc.another(20, b, c))
		x := sc.another(21, c, a) // nobody writes it yet
		sc.write(v, 1, fill('a', 1))
		sc.write(w, 1, fill('b', 1))
		g, err := c.cutGroup(v.Record(), w.Record(), x)
		sc.must(err)
		sc.write(v, 1, fill('c', 1))
		sc.write(w, 1, fill('d', 1))
		sc.sleep(3 * orphanEvery)
		for i, want := range []struct {
			h   *sceneHost
			tag byte
		}{{b, 'a'}, {c, 'b'}, {a, 0}} {
			if got := want.h.snapBlock(g.Parts[i].Volume.ID, g.Parts[i].Snapshot, 1); got != want.tag {
				t.Errorf("snapshot %d holds %x, want %x", i, got, want.tag)
			}
			if n := sc.kept(g.Parts[i].Volume.ID); !slices.Equal(n, []int{1, 1}) {
				t.Errorf("%v snapshots of volume %d are kept", n, i)
			}
		}
		sc.expect(v, 1, fill('c', 1))
	})
}

func TestWritesWaitForTheCutAndReadsDoNot(t *testing.T) {
	play(t, 302, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 1, fill('a', 2))
		sc.must(v.raise(group(1)))
		whole, part := sc.submit(v, 1, fill('b', 1)), sc.submit(v, 3, []byte("part of a block"))
		zeroed := false
		v.s.Clock.Go(func() {
			v.submit(&export.Request{Op: export.Zero, Off: 2 * holdfast.BlockSize, Length: holdfast.BlockSize, Done: func(_ *export.Request, err error) { sc.must(err); zeroed = true }})
		})
		sc.expect(v, 1, fill('a', 2))
		sc.flush(v)
		sc.sleep(barrierLimit / 2)
		if *whole || *part || zeroed {
			t.Error("a write was admitted while the barrier stood")
		}
		sc.at(v, func() error { _, err := v.cut(group(1), snapID(1)); return err })
		sc.until("the writes", func() bool { return *whole && *part && zeroed })
		sc.hosts[1].expectSnap(1, 1, fill('a', 2))
		sc.hosts[1].expectSnap(1, 3, fill(0, 1))
		sc.expect(v, 1, fill('b', 1))
		sc.expect(v, 2, fill(0, 1))
	})
}

// A write of part of a block was admitted before the barrier, and its record
// comes while that stands.
func TestAWriteThatWasAdmittedBeforeTheBarrierGoesOn(t *testing.T) {
	play(t, 303, 2, 1, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		sc.write(a.open(), 1, fill('a', 1))
		v := b.open() // its only replica is on the other host: the block is read from there first
		done := sc.submit(v, 1, []byte("b"))
		sc.until("its beginning", func() bool { return len(v.edges) > 0 })
		sc.must(v.raise(group(1)))
		sc.until("its end", func() bool { return *done })
		if v.barrier == nil {
			t.Error("the barrier fell")
		}
		sc.at(v, func() error { _, err := v.cut(group(1), snapID(1)); return err })
		a.expectSnap(1, 1, append([]byte("b"), fill('a', 1)[1:]...))
	})
}

// Whoever raised the barrier is gone.
func TestABarrierFallsByItself(t *testing.T) {
	play(t, 304, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		start := sc.w.Now()
		sc.must(v.raise(group(1)))
		sc.sleep(barrierLimit / 2)
		sc.must(v.raise(group(1))) // again: that makes it no longer
		sc.write(v, 1, fill('a', 1))
		if took := sc.w.Now() - start; took < barrierLimit || took > barrierLimit+100*time.Millisecond {
			t.Errorf("the write waited %v, want %v", took, barrierLimit)
		}
		sc.at(v, func() error {
			if _, err := v.cut(group(1), snapID(1)); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("a cut without its barrier: %v", err)
			}
			sc.must(v.raise(group(2)))
			if _, err := v.cut(group(1), snapID(1)); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("a cut behind another group's barrier: %v", err)
			}
			if err := v.Revert(snapID(9)); !holdfast.IsKind(err, holdfast.Busy) {
				t.Errorf("set back behind a barrier: %v", err)
			}
			return nil
		})
		if n := sc.kept(sc.vol.ID); !slices.Equal(n, []int{0, 0}) {
			t.Errorf("%v snapshots are kept", n)
		}
	})
}

// A writer whose volume goes to another host between the barrier and the cut:
// nothing of the group is left, and the other volumes go on.
func TestAWriterIsLostInTheMiddleOfAGroup(t *testing.T) {
	play(t, 305, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		v, w := a.open(), c.openOf(sc.another(20, c, b))
		vols := []cluster.Volume{v.Record(), w.Record()}
		fin := clock.NewFuture[error](sc.w.Clock())
		c.clk.Go(func() {
			_, err := c.s.CutGroup(vols)
			fin.Resolve(err)
		})
		sc.until("the barrier", func() bool { return v.barrier != nil })
		a.powerCut()
		v = b.open() // it takes over
		err, _ := fin.Wait(clock.Forever)
		if err == nil {
			t.Error("a group was kept whose writer was lost before its cut")
		}
		sc.write(v, 1, fill('x', 1))
		sc.write(w, 1, fill('y', 1))
		sc.sleep(namingLimit + 3*orphanEvery)
		for _, rec := range vols {
			for _, n := range sc.kept(rec.ID) {
				if n != 0 {
					t.Errorf("%d snapshots of volume %s are left", n, rec.Name)
				}
			}
		}
	})
}

// The host that takes a group dies at any moment of it: writes go on soon, and
// what it kept goes, unless it was named: then it stays, all of it.
func TestTheHostThatTakesAGroupIsLost(t *testing.T) {
	for i, after := range []time.Duration{100, 300, 500, 700, 1000, 1500, 2000, 3000, 4000, 6000, 9000, 15000} {
		play(t, uint64(310+i), 3, 2, func(sc *scene) {
			a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
			v, w := a.open(), b.openOf(sc.another(20, b, a))
			vols := []cluster.Volume{v.Record(), w.Record()}
			c.clk.Go(func() {
				if g, err := c.s.CutGroup(vols); err == nil {
					c.nameGroup(g)
				}
			})
			sc.sleep(after * time.Microsecond)
			c.powerCut()
			start := sc.w.Now()
			sc.write(v, 1, fill('x', 1))
			sc.write(w, 1, fill('y', 1))
			if took := sc.w.Now() - start; took > barrierLimit+100*time.Millisecond {
				t.Errorf("lost after %v µs: the writes took %v", int(after), took)
			}
			sc.sleep(namingLimit + 3*orphanEvery)
			named := 0
			for _, rec := range vols {
				now, _, err := a.ReadVolume(rec.ID)
				sc.must(err)
				named += len(now.Snapshots)
				if n := sc.kept(rec.ID); !slices.Equal(n, []int{len(now.Snapshots), len(now.Snapshots)}) {
					t.Errorf("lost after %v µs: %v snapshots of volume %s are kept, %d are named", int(after), n, rec.Name, len(now.Snapshots))
				}
			}
			if named != 0 && named != len(vols) {
				t.Errorf("lost after %v µs: %d of %d snapshots are named", int(after), named, len(vols))
			}
		})
	}
}

// Whoever takes a group sleeps before naming it: what is not there any more
// cannot be named, neither after another question nor without one.
func TestASnapshotThatWasLetGoIsNotNamed(t *testing.T) {
	play(t, 306, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		b.on(func() {
			g, err := b.s.CutGroup([]cluster.Volume{v.Record()})
			sc.must(err)
			st, err := b.cl.Refresh()
			sc.must(err)
			sc.must(g.Renew())
			clock.Sleep(b.clk, namingLimit/2)
			sc.must(g.Renew())
			clock.Sleep(b.clk, namingLimit/2+3*orphanEvery)
			tx := b.cl.Begin()
			late := st.Volumes[v.id]
			late.Val.Snapshots = []cluster.Snapshot{{ID: g.Parts[0].Snapshot, Name: "late"}}
			tx.PutVolume(late.Val, late.Mod)
			if _, err := tx.Commit(); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("a commit from before: %v", err)
			}
			if err := g.Renew(); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("asked again: %v", err)
			}
		})
		if n := sc.kept(sc.vol.ID); !slices.Equal(n, []int{0, 0}) {
			t.Errorf("%v snapshots are kept", n)
		}
	})
}

// While the control plane is away nobody can know whether a snapshot was named:
// it stays until that is known.
func TestAnUnnamedSnapshotStaysWhileTheControlPlaneIsAway(t *testing.T) {
	play(t, 307, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		b.on(func() {
			_, err := b.s.CutGroup([]cluster.Volume{v.Record()})
			sc.must(err)
		})
		sc.kv.Cut(a.id.String(), true, true)
		sc.sleep(namingLimit + 4*orphanEvery)
		if n := sc.kept(sc.vol.ID); !slices.Equal(n, []int{1, 1}) {
			t.Errorf("%v snapshots are kept while nobody knows", n)
		}
		sc.kv.Cut(a.id.String(), false, false)
		sc.sleep(3 * orphanEvery)
		if n := sc.kept(sc.vol.ID); !slices.Equal(n, []int{0, 0}) {
			t.Errorf("%v snapshots are kept", n)
		}
	})
}

func TestGroupsOfTheSameVolumesTakeTurns(t *testing.T) {
	play(t, 308, 3, 2, func(sc *scene) {
		a, b, c := sc.hosts[0], sc.hosts[1], sc.hosts[2]
		v, w := a.open(), b.openOf(sc.another(20, b, c))
		vols := []cluster.Volume{v.Record(), w.Record()}
		done := 0
		for _, h := range sc.hosts {
			slices.Reverse(vols)
			mine := slices.Clone(vols)
			h.clk.Go(func() {
				g, err := h.s.CutGroup(mine)
				sc.must(err)
				for h.nameGroup(g) != nil { // the others name theirs at the same time
					clock.Sleep(h.clk, 10*time.Millisecond)
				}
				done++
			})
		}
		sc.until("the groups", func() bool { return done == len(sc.hosts) })
		sc.sleep(3 * orphanEvery)
		if n := sc.kept(w.id); !slices.Equal(n, []int{3, 3}) {
			t.Errorf("%v snapshots are kept", n)
		}
	})
}

// The order of a group: clients that go to and fro between volumes on all
// hosts, each write after the one before is acknowledged, leave no gap in any
// group that is taken meanwhile. With one copy a write is acknowledged long
// before any word gets from host to host; with two, hosts are lost meanwhile.
func TestAGroupIsACutThroughTheOrderOfAllWrites(t *testing.T) {
	for seed := range uint64(4) {
		copies := 1 + int(seed%2)
		play(t, 320+seed, 3, copies, func(sc *scene) { (&orderPlay{scene: sc, fua: copies == 2}).run(t) })
	}
}

// orderPlay has two clients, each of which writes its next number, block by
// block, to its place in one volume after the other.
type orderPlay struct {
	*scene
	vols  []cluster.Volume
	acked [2]int
	over  bool
	fua   bool // so that no loss of memory takes back what was acknowledged; hosts are lost
	taken []*Group
	tries int
}

const places = 40 // of one client in one volume

func (o *orderPlay) run(t *testing.T) {
	a, b, c := o.hosts[0], o.hosts[1], o.hosts[2]
	copies := len(o.vol.InSync)
	o.vols = []cluster.Volume{a.open().Record(), b.openOf(o.another(20, []*sceneHost{b, c}[:copies]...)).Record(), c.openOf(o.another(21, []*sceneHost{c, a}[:copies]...)).Record()}
	for i := range o.acked {
		o.w.Clock().Go(func() { o.client(i) })
	}
	rng := o.w.Rand("order")
	for range 15 {
		o.sleep(time.Duration(rng.IntN(o.pause())) * time.Millisecond)
		if o.fua && rng.IntN(8) == 0 {
			h := o.hosts[1+rng.IntN(2)]
			h.powerCut()
			o.sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
			h.boot()
		}
		vols := make([]cluster.Volume, len(o.vols))
		a.on(func() {
			st, err := a.cl.Refresh()
			o.must(err)
			for i := range o.vols {
				vols[i] = st.Volumes[o.vols[i].ID].Val
			}
		})
		o.tries++
		if g, err := a.cutGroup(vols...); err == nil {
			o.taken = append(o.taken, g)
		}
	}
	o.over = true
	o.sleep(20 * time.Second)
	if len(o.taken) < 8 || o.acked[0] < 100 || o.acked[1] < 100 {
		t.Fatalf("only %d of %d groups, %v writes", len(o.taken), o.tries, o.acked)
	}
	for _, g := range o.taken {
		o.judge(t, g)
	}
}

// pause is between two groups, in milliseconds at most.
func (o *orderPlay) pause() int {
	if o.fua {
		return 200
	}
	return 10
}

// writerOf finds an open volume, or has somebody open it.
func (o *orderPlay) writerOf(id holdfast.VolumeID) *Volume {
	for _, h := range o.hosts {
		if !h.clk.Dead() && h.s != nil {
			if v := h.s.Opened(id); v != nil {
				return v
			}
		}
	}
	for _, h := range o.hosts {
		if h.clk.Dead() || h.replicaOf(id) == nil {
			continue
		}
		fut := clock.NewFuture[*Volume](o.w.Clock())
		h.clk.Go(func() { v, _ := h.s.Open(id); fut.Resolve(v) })
		if v, ok := fut.Wait(15 * time.Second); ok && v != nil {
			return v
		}
	}
	return nil
}

// client writes numbers from 1 on: n to volume n mod 3, at place n / 3 mod
// places, and only once n - 1 is acknowledged.
func (o *orderPlay) client(i int) {
	rng := o.w.Rand(fmt.Sprint("client", i))
	for n := 1; !o.over; {
		v := o.writerOf(o.vols[n%3].ID)
		if v == nil {
			o.sleep(100 * time.Millisecond)
			continue
		}
		data := make([]byte, holdfast.BlockSize)
		binary.LittleEndian.PutUint32(data, uint32(n))
		fut := clock.NewFuture[error](o.w.Clock())
		r := &export.Request{Op: export.Write, FUA: o.fua, Off: o.place(i, n) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: data, Done: func(_ *export.Request, err error) { fut.Resolve(err) }}
		v.s.Clock.Go(func() { v.submit(r) })
		if err, ok := fut.Wait(10 * time.Second); ok && err == nil {
			o.acked[i] = n
			n++
			o.sleep(time.Duration(1+rng.IntN(40)) * time.Microsecond)
		}
	}
}

func (o *orderPlay) place(client, n int) int64 { return int64(client*places + n/3%places) }

// judge reads a group: of every client, the newest number of all volumes is
// there with all that come before it, as far as their places were not written
// again.
func (o *orderPlay) judge(t *testing.T, g *Group) {
	for i := range o.acked {
		held := make(map[int]bool)
		newest := 0
		for p, part := range g.Parts {
			content := o.contentOf(part)
			for place := range places {
				blk := content[(i*places+place)*holdfast.BlockSize:]
				if n := int(binary.LittleEndian.Uint32(blk)); n > 0 {
					held[n] = true
					newest = max(newest, n)
					if n%3 != p {
						t.Fatalf("number %d is in volume %d", n, p)
					}
				}
			}
		}
		for n := max(1, newest-3*places+3); n <= newest; n++ {
			if !held[n] {
				t.Errorf("group %s: client %d's write %d is there, and %d, which was acknowledged before, is not", g.ID.Short(), i, newest, n)
				return
			}
		}
	}
}

func (o *orderPlay) contentOf(p Part) (out []byte) {
	for _, h := range o.hosts {
		var r *store.Replica
		if r = h.replicaOf(p.Volume.ID); r == nil {
			continue
		}
		got := make([]byte, len(o.acked)*places*holdfast.BlockSize)
		h.on(func() { o.must(r.ReadSnapshot(p.Snapshot, got, 0, o.opener(p.Volume.ID))) })
		if out != nil && !bytes.Equal(out, got) {
			o.t.Errorf("the replicas of %s differ in snapshot %s", p.Volume.Name, p.Snapshot.Short())
		}
		out = got
	}
	return out
}

func FuzzGroupAsk(f *testing.F) {
	a := groupAsk{step: stepCut, volume: holdfast.VolumeID{UUID: holdfast.UUID{1}}, group: group(2), snapshot: snapID(3)}
	f.Add(a.appendTo(nil))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, groupSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeGroupAsk(b)
		if err == nil && !bytes.Equal(a.appendTo(nil), b) {
			t.Errorf("%x is read as %+v", b, a)
		}
	})
}
