package volume

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// compared compares the whole volume, part by part.
func (sc *scene) compared(v *Volume) (all Comparison) {
	sc.t.Helper()
	all.More = true
	for all.More {
		var c Comparison
		sc.at(v, func() (err error) { c, err = v.Compare(all.Next); return err })
		if c.More && c.Next == all.Next {
			sc.t.Error("a part of a comparison did not go on")
			panic("scene ends")
		}
		all.Replicas, all.Next, all.More, all.Done = c.Replicas, c.Next, c.More, c.Done
		all.Blocks, all.Busy = all.Blocks+c.Blocks, all.Busy+c.Busy
		all.Differences = append(all.Differences, c.Differences...)
	}
	return all
}

// equal expects the copies to hold the same.
func (sc *scene) equal(v *Volume, copies int) Comparison {
	sc.t.Helper()
	c := sc.compared(v)
	if len(c.Replicas) != copies || len(c.Differences) > 0 || c.Done != 1 {
		sc.t.Errorf("seed %d at %v: %d copies of %d blocks differ: %+v", sc.seed, sc.w.Now(), len(c.Replicas), c.Blocks, c.Differences)
	}
	return c
}

// TestCopiesAreEqualWhateverHappens plays writes, trims, snapshots, reverts and
// growth, hosts that are lost and come back, and disks that are lost; whatever
// way a copy came about, it is the same as the others.
func TestCopiesAreEqualWhateverHappens(t *testing.T) {
	for seed := range uint64(6) {
		play(t, 900+seed, 4, 2+int(seed%2), func(sc *scene) {
			rng := rand.New(rand.NewPCG(seed, 9))
			copies := sc.vol.Copies
			v := sc.hosts[[]int{0, 3}[seed/2%2]].open() // the second has no copy of its own
			kept := map[byte]bool{}
			for step := range 60 {
				addr := rng.Int64N(960)
				n := 1 + rng.IntN(60)
				switch k := rng.IntN(30); {
				case k < 4:
					sc.must(sc.do(v, export.Request{Op: export.Trim, Off: addr * holdfast.BlockSize, Length: int64(n) * holdfast.BlockSize}))
				case k < 6:
					if id := byte(1 + rng.IntN(5)); kept[id] {
						sc.dropSnapshot(v, id)
						kept[id] = false
					} else {
						sc.snapshot(v, id)
						kept[id] = true
					}
				case k == 6:
					if id := byte(1 + rng.IntN(5)); kept[id] {
						sc.revert(v, id)
					}
				case k == 7:
					h := sc.hosts[1+rng.IntN(copies-1)]
					h.powerCut()
					sc.write(v, addr, fill(byte(step), n))
					has := func(n int) func() bool { return func() bool { return len(v.Record().InSync) == n } }
					sc.until("the loss", has(copies-1))
					if rng.IntN(2) == 0 {
						h.wipe()
					}
					sc.write(v, addr/2, fill(byte(step+1), n))
					h.boot()
					sc.until("the copy", has(copies))
				case k == 8:
					sc.flush(v)
				case k == 9:
					clock.Sleep(sc.w.Clock(), 3*time.Second) // merged into the maps
				case k == 10:
					sc.equal(v, copies)
				default:
					sc.write(v, addr, fill(byte(step), n))
				}
			}
			if c := sc.equal(v, copies); c.Blocks == 0 {
				t.Errorf("seed %d: nothing was compared", seed)
			}
		})
	}
}

// strays gives one replica another record than the writer's next one.
func (h *sceneHost) strays(addr uint64, tag byte) holdfast.LSN {
	h.sc.t.Helper()
	r := h.replicaOf(h.sc.vol.ID)
	prefix, _ := r.Position()
	data := fill(tag, 1)
	rec := record.Record{Kind: record.Write, LSN: prefix + 1, Addr: addr, Count: 1, Data: data, Hashes: []uint64{checksum.Block(h.sc.vol.ID, addr, prefix+1, data)}}
	h.on(func() { h.sc.must(r.Append([]record.Record{rec})) })
	return prefix + 1
}

// TestADifferenceIsNamed: one copy has another record at an LSN than the others,
// in the head and in a snapshot. Each block is named with what each copy holds.
func TestADifferenceIsNamed(t *testing.T) {
	for _, merged := range []bool{false, true} {
		for _, writer := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("merged %v writer %d", merged, writer), func(t *testing.T) {
				playPlain(t, 40, 4, 3, func(sc *scene) {
					v := sc.hosts[writer].open()
					sc.write(v, 0, fill(1, 600))
					before := sc.hosts[0].replicaOf(sc.vol.ID).State().Prefix - 599
					sc.equal(v, 3)
					at := sc.hosts[1].strays(700, 9)
					sc.write(v, 5, fill(2, 1))
					sc.snapshot(v, 1)
					at2 := sc.hosts[1].strays(7, 8)
					sc.write(v, 7, fill(3, 1))
					sc.flush(v)
					if merged {
						clock.Sleep(sc.w.Clock(), 5*time.Second)
					}
					c := sc.compared(v)
					type key struct {
						snap bool
						addr uint64
					}
					got := make(map[key]map[byte]holdfast.LSN)
					for _, d := range c.Differences {
						k := key{!d.Snapshot.IsZero(), d.Addr}
						got[k] = make(map[byte]holdfast.LSN)
						for i, h := range d.Held {
							got[k][c.Replicas[i].Host.UUID[0]] = h.LSN
						}
					}
					want := map[key]map[byte]holdfast.LSN{
						{true, 5}:   {1: at, 2: before + 5, 3: at},
						{true, 700}: {1: 0, 2: at, 3: 0},
						{false, 5}:  {1: at, 2: before + 5, 3: at}, // told again beside the next
						{false, 7}:  {1: at2, 2: at2, 3: at2},
					}
					if fmt.Sprint(got) != fmt.Sprint(want) || c.Busy != 0 {
						t.Errorf("differences %v, want %v; %d left out", got, want, c.Busy)
					}
				})
			})
		}
	}
}

// TestACopyThatLacksASnapshotIsNamed: where the others keep a snapshot, one copy
// has written a block.
func TestACopyThatLacksASnapshotIsNamed(t *testing.T) {
	playPlain(t, 41, 3, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 0, fill(1, 10))
		at := sc.hosts[1].strays(3, 9)
		sc.snapshot(v, 1)
		sc.write(v, 900, fill(2, 1))
		sc.flush(v)
		c := sc.compared(v)
		if n := len(c.Differences); n != 2 {
			t.Fatalf("%d differences of 2: %+v", n, c.Differences)
		}
		if d := c.Differences[0]; d.Snapshot != snapID(1) || !d.Lacking || d.Held[0].LSN != at || d.Held[0].Blocks != sc.vol.Blocks || d.Held[1] != (Held{}) {
			t.Errorf("the snapshot: %+v", d)
		}
		if d := c.Differences[1]; !d.Snapshot.IsZero() || d.Lacking || d.Addr != 3 || d.Held[1].LSN != at {
			t.Errorf("the block: %+v", d)
		}
	})
}

// TestCopiesAreComparedWhileTheyAreWritten: what is overwritten meanwhile is no
// difference, and a difference shows all the same.
func TestCopiesAreComparedWhileTheyAreWritten(t *testing.T) {
	playPlain(t, 42, 3, 2, func(sc *scene) {
		v := sc.hosts[2].open()
		sc.write(v, 0, fill(1, 600))
		sc.hosts[1].strays(1000, 9)
		sc.write(v, 1000, fill(2, 1))
		over, left, ended := false, 4, sc.w.Clock().NewEvent()
		writes := 0
		for n := range uint64(left) {
			sc.w.Clock().Go(func() {
				for rng := rand.New(rand.NewPCG(1, n)); !over; writes++ {
					switch k := rng.IntN(200); {
					case k == 0 && n == 0:
						sc.snapshot(v, byte(10+writes%200))
					case k == 1:
						sc.must(sc.do(v, export.Request{Op: export.Trim, Off: 100 * holdfast.BlockSize, Length: 100 * holdfast.BlockSize}))
					default:
						sc.write(v, rng.Int64N(900), fill(byte(writes), 1+rng.IntN(8)))
					}
				}
				if left--; left == 0 {
					ended.Set()
				}
			})
		}
		busy, found := uint64(0), 0
		for range 40 {
			c := sc.compared(v)
			busy += c.Busy
			for _, d := range c.Differences {
				if d.Addr != 1000 || d.Lacking {
					t.Errorf("at %v: a difference that is none: %+v", sc.w.Now(), d)
				}
				if d.Snapshot.IsZero() {
					found++
				}
			}
			clock.Sleep(sc.w.Clock(), time.Duration(busy%7)*time.Millisecond)
		}
		over = true
		ended.Wait(clock.Forever)
		if found == 0 || busy == 0 || writes < 100 {
			t.Errorf("%d writes, %d blocks left out, the difference was found %d times", writes, busy, found)
		}
	})
}

// TestACopyIsLostWhileCopiesAreCompared: the others are compared, and with one
// left there is nothing to compare.
func TestACopyIsLostWhileCopiesAreCompared(t *testing.T) {
	play(t, 43, 4, 3, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 0, fill(1, 600))
		sc.hosts[1].powerCut()
		sc.equal(v, 2)
		sc.hosts[2].powerCut()
		sc.at(v, func() error {
			if _, err := v.Compare(Place{}); !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("with one copy: %v", err)
			}
			return nil
		})
	})
}

// TestACopyIsGivenUpAndBuiltAnew: the one that is not trusted leaves the record,
// also if it is the writer's own, and what is built in its place is like the
// other; nothing of what it held comes back.
func TestACopyIsGivenUpAndBuiltAnew(t *testing.T) {
	for _, wrong := range []int{0, 1} {
		playPlain(t, 44, 3, 2, func(sc *scene) {
			v := sc.hosts[0].open()
			sc.write(v, 0, fill(1, 600))
			sc.flush(v)
			sc.hosts[wrong].strays(5, 9)
			if wrong == 0 { // the writer's own took another record, and misses this one
				sc.hosts[1].strays(6, 2)
			}
			sc.write(v, 6, fill(2, 1))
			sc.flush(v)
			if c := sc.compared(v); len(c.Differences) != 2 {
				t.Fatalf("differences: %+v", c.Differences)
			}
			sc.at(v, func() error { return v.NoteCompared(time.Unix(1000, 0), 2) })
			if c := v.Record().Compared; c == nil || c.Differ != 2 {
				t.Errorf("the record has %+v", c)
			}
			sc.at(v, func() error {
				if err := v.GiveUp([]holdfast.ReplicaID{sc.vol.InSync[0].ID, sc.vol.InSync[1].ID}); !holdfast.IsKind(err, holdfast.Conflict) {
					t.Errorf("all copies given up: %v", err)
				}
				return v.GiveUp([]holdfast.ReplicaID{sc.vol.InSync[wrong].ID})
			})
			rec := v.Record()
			if len(rec.InSync) != 1 || rec.InSync[0] != sc.vol.InSync[1-wrong] || len(rec.Others) != 0 || rec.Compared != nil {
				t.Errorf("the record is left as %+v", rec)
			}
			sc.expect(v, 4, fill(1, 2))
			sc.write(v, 100, fill(3, 1))
			ref := sc.assign(v, sc.hosts[2], 61)
			sc.at(v, func() error {
				if err := v.GiveUp([]holdfast.ReplicaID{sc.vol.InSync[1-wrong].ID}); !holdfast.IsKind(err, holdfast.Conflict) {
					t.Errorf("while a copy is built from it: %v", err)
				}
				return nil
			})
			sc.until("the new copy", func() bool { return hasReplica(v.Record().InSync, ref.ID) })
			sc.equal(v, 2)
			sc.expect(v, 4, fill(1, 2))
			sc.expect(v, 6, fill(2, 1))
			sc.expect(v, 100, fill(3, 1))
		})
	}
}
