package volume

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// openFaults counts what is still at fault on a host's disk.
func (h *sceneHost) openFaults() (n int) {
	for _, f := range h.st.Faults() {
		if f.Open() {
			n++
		}
	}
	return n
}

// mended waits until nothing is at fault on a host's disk.
func (sc *scene) mended(h *sceneHost) {
	sc.t.Helper()
	for range 600 {
		if h.openFaults() == 0 {
			return
		}
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
	}
	sc.t.Errorf("at %v: host %d still has %d faults", sc.w.Now(), h.id.UUID[0], h.openFaults())
}

// scrub scrubs a host's disk.
func (sc *scene) scrub(h *sceneHost) {
	sc.t.Helper()
	sc.must(h.st.Scrub(holdfast.ReplicaID{}))
	for range 6000 {
		if !h.st.Scrubbing().Running {
			return
		}
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
	}
	sc.t.Errorf("at %v: the scrub of host %d does not end", sc.w.Now(), h.id.UUID[0])
}

// newKept is a volume of blocks that say themselves which they are, written
// twice, and merged into the maps.
func newKept(sc *scene, v *Volume, seed uint64, blocks int) *kept {
	k := &kept{sc: sc, rng: rand.New(rand.NewPCG(seed, 0)), versions: make([]uint32, blocks)}
	for range 2 {
		for addr := 0; addr < blocks; addr += 64 {
			k.write(v, addr, min(64, blocks-addr))
		}
	}
	sc.flush(v)
	clock.Sleep(sc.w.Clock(), 5*time.Second)
	return k
}

// TestAScrubRestoresWithoutTheWriter damages blocks that only snapshots have
// left, and blocks of the head, on a host that is not the writer.
func TestAScrubRestoresWithoutTheWriter(t *testing.T) {
	play(t, 24, 3, 2, func(sc *scene) {
		v := sc.hosts[2].open()
		k := newKept(sc, v, 24, 256)
		snap := snapID(5)
		sc.snapshot(v, 5)
		old := append([]uint32(nil), k.versions...)
		k.write(v, 0, 128)
		sc.flush(v)
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		b := sc.hosts[1]
		snapBad := 0
		for addr := 0; addr < 128; addr += 4 { // what only the snapshot has
			want := k.block(addr, old[addr])
			for _, off := range b.holding(want) {
				b.disk.Rot(off + 99)
				snapBad++
			}
		}
		bad := k.damage(b, 60)
		sc.scrub(b)
		sc.mended(b)
		found, mended := b.repaired()
		if want := int64(len(bad) + snapBad); found != want || mended != want || snapBad == 0 {
			t.Errorf("%d blocks were damaged; %d were found and %d restored", want, found, mended)
		}
		if b.st.Replicas()[0].Proved().IsZero() {
			t.Error("the replica is whole, and does not count as proved")
		}
		buf := make([]byte, holdfast.BlockSize)
		b.on(func() {
			for addr := range 256 {
				sc.must(b.st.Replicas()[0].ReadSnapshot(snap, buf, uint64(addr), sc.opener(sc.vol.ID)))
				if !bytes.Equal(buf, k.block(addr, old[addr])) {
					t.Errorf("block %d of the snapshot is wrong", addr)
				}
			}
		})
		sc.hosts[0].powerCut()
		k.write(v, 200, 1)
		k.readAll(v)
	})
}

// holding finds where a disk has a content.
func (h *sceneHost) holding(want []byte) (at []int64) {
	b := make([]byte, holdfast.BlockSize)
	for off := int64(0); off < 64<<20; off += holdfast.BlockSize {
		if h.disk.Peek(b, off); bytes.Equal(b, want) {
			at = append(at, off)
		}
	}
	return at
}

// TestOneLostBlockIsNotALostVolume: the only copy left has rotten blocks while
// the volume is rebuilt from it. All the rest is copied; those blocks give an
// error on every host, and never anything else, until they are written anew.
func TestOneLostBlockIsNotALostVolume(t *testing.T) {
	for _, here := range []bool{true, false} {
		play(t, 25, 3, 2, func(sc *scene) {
			a, b := sc.hosts[0], sc.hosts[1]
			w := a
			if !here {
				w = sc.hosts[2]
			}
			v := w.open()
			k := newKept(sc, v, 25, 256)
			b.powerCut()
			k.write(v, 0, 1)
			sc.inSync(1)
			lost := []int{3, 77, 200}
			for _, addr := range lost {
				for _, p := range k.places(a)[addr] {
					a.disk.Rot(p.off + 7)
				}
			}
			b.wipe()
			b.boot()
			sc.inSync(2)
			check := func(v *Volume, bad map[int]bool) {
				for addr := range 256 {
					got := make([]byte, holdfast.BlockSize)
					err := sc.do(v, export.Request{Op: export.Read, Off: int64(addr) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: got})
					switch {
					case bad[addr] && err == nil:
						t.Errorf("block %d is lost and reads as version %d", addr, binary.LittleEndian.Uint32(got[12:]))
					case !bad[addr] && (err != nil || !bytes.Equal(got, k.block(addr, k.versions[addr]))):
						t.Errorf("block %d is wrong: %v", addr, err)
					}
				}
			}
			bad := map[int]bool{3: true, 77: true, 200: true}
			check(v, bad)
			told := 0
			for _, f := range b.st.Faults() {
				if f.Open() && f.Nowhere && f.Hop == store.HopCopy && bad[int(f.Addr)] {
					told++
				}
			}
			if told != len(lost) {
				t.Errorf("the new copy tells of %d lost blocks of %d: %+v", told, len(lost), b.st.Faults())
			}
			v = b.open()
			check(v, bad)
			b.powerCut()
			b.boot()
			v = b.open()
			check(v, bad)
			k.write(v, 77, 1)
			sc.flush(v)
			delete(bad, 77)
			clock.Sleep(sc.w.Clock(), 5*time.Second)
			check(v, bad)
		})
	}
}

// TestALostBlockComesBackWithTheCopyThatHasIt: a copy that was away, and is not
// in sync any more, still has what every other copy has lost.
func TestALostBlockComesBackWithTheCopyThatHasIt(t *testing.T) {
	playPlain(t, 26, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		k := newKept(sc, v, 26, 128)
		b.powerCut()
		k.write(v, 0, 1)
		sc.inSync(1)
		for _, p := range k.places(a)[50] {
			a.disk.Rot(p.off + 7)
		}
		got := make([]byte, holdfast.BlockSize)
		if err := sc.do(v, export.Request{Op: export.Read, Off: 50 * holdfast.BlockSize, Length: holdfast.BlockSize, Data: got}); err == nil {
			t.Error("a rotten block of the only copy was read")
		}
		b.boot()
		sc.mended(a)
		k.readAll(v)
	})
}

// TestWhatIsLostDelaysNothingElse: a block that no copy has is looked for every
// ten minutes. Another one, which the copy that was away has, is not kept waiting
// by that.
func TestWhatIsLostDelaysNothingElse(t *testing.T) {
	playPlain(t, 27, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		k := newKept(sc, v, 27, 128)
		rot := func(h *sceneHost, addr int) {
			for _, p := range k.places(h)[addr] {
				h.disk.Rot(p.off + 7)
			}
		}
		unreadable := func(addr int64) {
			got := make([]byte, holdfast.BlockSize)
			if err := sc.do(v, export.Request{Op: export.Read, Off: addr * holdfast.BlockSize, Length: holdfast.BlockSize, Data: got}); err == nil {
				t.Errorf("block %d is rotten in every copy there is, and was read", addr)
			}
		}
		rot(a, 50)
		rot(b, 50)
		unreadable(50)
		clock.Sleep(sc.w.Clock(), 5*time.Second)
		if f := a.st.Faults(); len(f) != 1 || !f[0].Nowhere {
			t.Fatalf("what no copy has is not known as that: %+v", f)
		}
		sc.net.CutHost(b.id, true, true)
		k.write(v, 0, 1)
		sc.inSync(1)
		rot(a, 60)
		unreadable(60)
		if n := a.openFaults(); n != 2 {
			t.Fatalf("%d blocks are at fault, two were made rotten: %+v", n, a.st.Faults())
		}
		clock.Sleep(sc.w.Clock(), 5*time.Second) // it was looked for, and b was away
		sc.net.CutHost(b.id, false, false)
		for range 600 {
			if a.openFaults() == 1 {
				return
			}
			clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		}
		t.Errorf("a minute after its copy is back a block is not restored: %+v", a.st.Faults())
	})
}

// wipe gives a host that is off an empty disk of the same identity.
func (h *sceneHost) wipe() {
	h.disk = memdisk.New(64<<20, h.sc.w.Rand(fmt.Sprint("wiped", h.id.UUID[0], h.lives)))
	h.sc.format(h)
}

// TestTheHopThatSawABadHashFirstIsKept: a record whose data does not match its
// hash is refused where it arrives. If it is damaged at the writer already, that
// is where it happened.
func TestTheHopThatSawABadHashFirstIsKept(t *testing.T) {
	for _, memory := range []bool{false, true} {
		play(t, 27, 2, 2, func(sc *scene) {
			v := sc.hosts[0].open()
			sc.write(v, 0, fill('a', 1))
			h := sc.hosts[1]
			m := h.s.member(sc.vol.InSync[1].ID)
			next := m.r.State().Prefix + 1
			rec := record.Record{Kind: record.Write, LSN: next, Addr: 7, Count: 1, Hashes: []uint64{checksum.Block(sc.vol.ID, 7, next, fill('y', 1))}, Data: fill('x', 1)}
			err := m.append(v.Epoch(), 0, []record.Record{rec}, h.clk.Now())
			want := []store.Hop{0, store.HopReceipt}
			if memory {
				v.mu.Lock()
				v.recs.push(rec)
				v.memberFailed(1, err)
				v.mu.Unlock()
				want[0] = store.HopWriter
			}
			for i, hop := range want {
				fs := sc.hosts[i].st.Faults()
				if hop == 0 && len(fs) == 0 {
					continue
				}
				if !holdfast.IsKind(err, holdfast.Corrupt) || len(fs) != 1 || fs[0].Hop != hop || fs[0].Addr != 7 || fs[0].Open() {
					t.Errorf("a record with a wrong hash: %v, faults of host %d: %+v", err, i, fs)
				}
			}
		})
	}
}

// TestAScrubFindsAndRestoresEveryDamagedBlock damages blocks on both hosts, no
// block on both, in all the ways of the damage tests; nobody reads the volume
// before the disks were scrubbed.
func TestAScrubFindsAndRestoresEveryDamagedBlock(t *testing.T) {
	total := damages(t)
	play(t, 28, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		k := newKept(sc, v, 28, 1024)
		spoilt := 0
		for round := 0; spoilt < total; round++ {
			victim := sc.hosts[round%2]
			k.write(v, k.rng.IntN(1000), 1+k.rng.IntN(24))
			sc.flush(v)
			clock.Sleep(sc.w.Clock(), 3*time.Second)
			bad := k.damage(victim, min(100, total-spoilt))
			found, mended := victim.repaired()
			sc.scrub(victim)
			sc.mended(victim)
			f, m := victim.repaired()
			if int(f-found) != len(bad) || int(m-mended) != len(bad) || len(bad) == 0 {
				t.Errorf("round %d: %d blocks were damaged, %d found, %d restored", round, len(bad), f-found, m-mended)
				return
			}
			told := map[int]bool{}
			for _, x := range victim.st.Faults() {
				if x.Repaired && x.Hop == store.HopScrub {
					told[int(x.Addr)] = true
				}
			}
			for addr := range bad {
				if !told[addr] {
					t.Errorf("round %d: nobody tells of block %d", round, addr)
				}
			}
			spoilt += len(bad)
			k.readAll(v)
			if again, _ := victim.repaired(); again != f {
				t.Errorf("round %d: %d blocks were bad after the scrub", round, again-f)
			}
		}
		t.Logf("%d blocks were damaged, all were found by scrubs, told of and restored, %d reads were wrong", spoilt, k.wrong)
	})
}

func TestARebuildTellsHowItGoes(t *testing.T) {
	play(t, 29, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		k := newKept(sc, v, 29, 1024)
		b.powerCut()
		k.write(v, 0, 1)
		sc.inSync(1)
		if m, ok := v.Mending(); ok {
			t.Errorf("nothing is rebuilt, and it goes like %+v", m)
		}
		b.wipe()
		b.boot()
		seen := false
		for range 60000 {
			m, ok := v.Mending()
			if ok && m.Done > 0 && m.Done < 1 {
				seen = seen || m.Host == b.id && m.Rate > 0 && m.Left > 0
			}
			if len(v.Record().InSync) == 2 {
				break
			}
			clock.Sleep(sc.w.Clock(), time.Millisecond)
		}
		if !seen {
			t.Error("nobody tells how the rebuild goes")
		}
		sc.inSync(2)
	})
}

// Bad blocks were found while the only other copy was away, and then the host
// lost its power, too. They are restored once both are back, though nobody reads
// or scrubs them again.
func TestWhatWasFoundBadBeforeARestartIsRestoredAfterIt(t *testing.T) {
	play(t, 24, 3, 2, func(sc *scene) {
		k := newKept(sc, sc.hosts[2].open(), 24, 64)
		sc.hosts[0].powerCut()
		b := sc.hosts[1]
		bad := k.damage(b, 5)
		sc.scrub(b)
		if n := b.openFaults(); n != len(bad) || n == 0 {
			t.Fatalf("%d blocks are at fault, %d were damaged", n, len(bad))
		}
		clock.Sleep(sc.w.Clock(), 10*time.Second)
		b.powerCut()
		sc.hosts[0].boot()
		b.boot()
		if n := b.openFaults(); n != len(bad) {
			t.Fatalf("%d faults are known after the restart, of %d", n, len(bad))
		}
		sc.mended(b)
	})
}
