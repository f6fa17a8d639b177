package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// golden is a disk whose content is known.
type golden struct {
	*bed
	v, c *vol
	end  holdfast.LSN // of v, synced
	want map[uint64]uint64
}

// newGolden makes a disk with a checkpoint and a log behind it, as a power cut
// leaves it; clean closes it in order.
func newGolden(t *testing.T, clean, listed bool) *golden {
	b := newBedOf(t, 40, 12<<20, Options{SegmentBytes: testSegment, listed: listed}, memdisk.Options{})
	g := &golden{bed: b, want: make(map[uint64]uint64)}
	g.v = b.create(1, 600)
	for a := uint64(0); a < 520; a += 40 {
		var tags []uint64
		for i := range uint64(40) {
			tags = append(tags, a+i+1)
			g.want[a+i] = a + i + 1
		}
		g.v.write(a, tags...)
	}
	g.v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
	g.v.stable()
	g.c = &vol{b, replicaID(2), volumeID(2)}
	b.run(func() error {
		_, err := b.s.Clone(g.c.id, g.c.vid, g.v.r(), snapID(1))
		return err
	})
	b.run(b.s.Checkpoint)
	for a := uint64(100); a < 130; a += 3 {
		g.v.write(a, 1000+a)
		g.want[a] = 1000 + a
		g.v.sync()
	}
	g.v.zero(7, 2)
	delete(g.want, 7)
	delete(g.want, 8)
	g.v.sync()
	g.end = g.v.state().Prefix
	if clean {
		b.run(b.s.Close)
	} else {
		b.settle()
	}
	b.host.Kill()
	b.d.Crash()
	return g
}

// flipped opens a copy of the disk with one bit changed and says what came of
// it; it fails if anything wrong was served or anything was lost in silence.
func (g *golden) flipped(t *testing.T, off int64, bit int) string {
	b := &bed{t: t, w: g.w, opts: g.opts, lives: g.lives, d: g.d.Clone(g.w.Rand(fmt.Sprint("clone", off)))}
	p := make([]byte, blockSize)
	at := off / blockSize * blockSize
	b.d.Peek(p, at)
	p[off-at] ^= 1 << bit
	b.d.Poke(p, at)
	b.boot()
	defer b.host.Kill()
	where := fmt.Sprintf("bit %d of byte %d", bit, off)
	if err := b.tryOpen(); err != nil {
		if !holdfast.IsKind(err, holdfast.Damaged) {
			t.Fatalf("%s: open gives %v", where, err)
		}
		t.Fatalf("%s: one flipped bit keeps the disk from opening: %v", where, err)
	}
	out := "unnoticed"
	for _, x := range []*vol{{b, g.v.id, g.v.vid}, {b, g.c.id, g.c.vid}} {
		r := b.s.Replica(x.id)
		if r == nil {
			t.Fatalf("%s: replica %s is gone", where, x.id)
		}
		st := r.State()
		if st.Damage != "" {
			out = "damage"
			continue
		}
		if x.id == g.v.id && st.Prefix != g.end || len(st.History) == 0 && x.id == g.v.id {
			t.Fatalf("%s: the log was shortened in silence to %v: %+v", where, st.Prefix, st)
		}
		for a := range uint64(600) {
			p, err := x.read(a, 1)
			var bad *CorruptError
			switch {
			case errors.As(err, &bad) && bad.Addr == a:
				out = "bad block"
				continue
			case err != nil:
				t.Fatalf("%s: block %d: %v", where, a, err)
			}
			tag := g.want[a]
			if x.id == g.c.id {
				if tag = a + 1; a >= 520 {
					tag = 0
				}
			}
			x.compare(where, p, a, []uint64{tag})
		}
	}
	b.run(b.s.Close)
	return out
}

func TestAFlippedBitIsFoundWhereverItIs(t *testing.T) {
	for name, c := range map[string]struct{ clean, listed bool }{"crashed": {}, "clean": {clean: true}, "listed": {listed: true}} {
		t.Run(name, func(t *testing.T) {
			g := newGolden(t, c.clean, c.listed)
			rng := rand.New(rand.NewPCG(1, 2))
			seen := make(map[string]int)
			var offs []int64
			for _, blk := range []int64{0, 1, 2, 16, 17, 18, 30} { // superblocks and roots
				offs = append(offs, blk*blockSize, blk*blockSize+8, blk*blockSize+64, blk*blockSize+rng.Int64N(sectorSize))
			}
			for blk := int64(32); blk < 12<<20/blockSize; blk += 1 + rng.Int64N(16) {
				p := make([]byte, blockSize)
				g.d.Peek(p, blk*blockSize)
				if le.Uint64(p) != 0 || le.Uint32(p[8:]) != 0 {
					offs = append(offs, blk*blockSize+rng.Int64N(blockSize), blk*blockSize+rng.Int64N(96))
				}
			}
			for _, off := range offs {
				seen[g.flipped(t, off, rng.IntN(8))]++
			}
			t.Logf("%d flips: %v", len(offs), seen)
			if seen["bad block"] == 0 || !c.clean && seen["damage"] == 0 {
				t.Fatalf("the flips did not reach blocks and log: %v", seen)
			}
		})
	}
}

func TestADiskThatFailsIsFenced(t *testing.T) {
	for _, op := range []memdisk.Op{memdisk.Write, memdisk.Sync} {
		b := newBed(t, 50)
		v := b.create(1, 100)
		v.write(0, 1)
		v.sync()
		v.write(1, 2)
		b.d.FailNext(op, 1)
		end := v.state().Prefix
		if err := b.try(func() error { return syncTo(v.r(), end) }); !holdfast.IsKind(err, holdfast.IO) {
			t.Fatalf("a sync on a failing disk gives %v", err)
		}
		if b.s.Err() == nil {
			t.Fatal("the disk is not fenced")
		}
		if err := b.try(func() error { return v.r().Append([]record.Record{writeRec(v.vid, end+1, 2, 3)}) }); !holdfast.IsKind(err, holdfast.IO) {
			t.Fatalf("an append on a fenced disk gives %v", err)
		}
		if st := v.state(); st.Durable >= end {
			t.Fatalf("%v is called durable after a failed %v", st.Durable, op)
		}
		v.want(0, 1) // what is there can still be read
		if err := b.try(b.s.Close); err == nil {
			t.Fatal("closing a fenced disk gives no error")
		}
		b.crash()
		v.want(0, 1)
	}
}

func TestAnUnknownDiskIsNotTouched(t *testing.T) {
	b := newBed(t, 51)
	b.run(b.s.Close)
	b.host.Kill()
	b.d.Kill()
	b.boot()
	format := func() error {
		dev, err := b.d.Open(b.host, b.lag)
		if err != nil {
			return err
		}
		defer dev.Close()
		return Format(dev, testIdentity(), b.opts)
	}
	if err := b.try(format); !holdfast.IsKind(err, holdfast.Exists) {
		t.Fatalf("formatting a Holdfast disk gives %v", err)
	}
	p := make([]byte, blockSize)
	b.d.Peek(p, 0)
	newer := append([]byte(nil), p...)
	le.PutUint32(newer[4:], FormatVersion+1)
	seal(newer)
	for _, off := range []int64{superOffset, mirrorOffset} {
		b.d.Poke(newer, off)
	}
	if err := b.tryOpen(); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("a newer format gives %v", err)
	}
	if err := b.try(format); !holdfast.IsKind(err, holdfast.Exists) {
		t.Fatalf("formatting a newer disk gives %v", err)
	}
	for _, off := range []int64{superOffset, mirrorOffset} {
		b.d.Poke(make([]byte, blockSize), off)
	}
	if err := b.tryOpen(); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("a foreign disk gives %v", err)
	}
}

func TestATornTailIsNoDamage(t *testing.T) {
	for seed := range uint64(30) {
		b := newBedOf(t, 60+seed, testDisk, Options{SegmentBytes: testSegment}, memdisk.SSD())
		v := b.create(1, 1000)
		v.write(0, 1, 2, 3)
		v.sync()
		synced := v.state().Prefix
		for a := uint64(10); a < 200; a += 10 {
			v.write(a, a, a+1, a+2)
		}
		b.host.Go(func() { _ = syncTo(b.s.Replica(v.id), b.s.Replica(v.id).State().Prefix) })
		for range b.w.Rand("cut").IntN(25) {
			b.w.RunUntil(func() bool { return false }, b.w.Now()+100_000)
		}
		b.crash()
		if st := v.state(); st.Damage != "" || st.Prefix < synced {
			t.Fatalf("seed %d: after a torn tail: %+v", seed, st)
		}
		v.want(0, 1, 2, 3)
	}
}

func TestALostBatchThatWasSyncedIsDamage(t *testing.T) {
	b := newBed(t, 90)
	v := b.create(1, 100)
	for i := range uint64(5) {
		v.write(i, i+1)
		v.sync()
	}
	place, block := b.s.wal.seg.place, b.s.wal.pos
	b.host.Kill()
	b.d.Crash()
	for blk := block - 4; blk > block-8; blk -= 2 { // the third and fourth batch from the end
		b.d.Poke(make([]byte, blockSize), b.s.offset(place, blk))
	}
	b.boot()
	b.open()
	st := v.state()
	if st.Damage == "" {
		t.Fatalf("two synced batches are gone and nobody says so: %+v", st)
	}
	b.crash()
	if again := v.state(); again.Damage != st.Damage {
		t.Fatalf("the damage is forgotten: %+v", again)
	}
	b.run(func() error { return v.r().BeginBuild(now(v.r()), Build{Base: holdfast.MakeLSN(1, 5)}) })
	b.run(func() error { return v.r().FinishBuild(now(v.r()), []record.Start{{Epoch: 1}}) })
	if again := v.state(); again.Damage != "" || again.Building {
		t.Fatalf("a rebuild does not heal: %+v", again)
	}
}

// A disk that was out for a moment gives nothing; that says nothing of what it holds,
// once it is opened again. What it gives and is wrong stays wrong.
func TestAMapThatCouldNotBeReadIsReadAgain(t *testing.T) {
	const leaves = 20
	for name, spoil := range map[string]func(b *bed, page int64){
		"out": func(b *bed, _ int64) { b.d.SetChances(memdisk.Chances{ReadError: 1}) },
		"rot": func(b *bed, page int64) { b.d.Rot(page) },
	} {
		for _, clean := range []bool{true, false} {
			b := newBed(t, 91)
			v := b.create(1, leaves*blockmap.Fan)
			for leaf := range uint64(leaves) {
				v.write(leaf*blockmap.Fan, leaf+1)
			}
			v.stable()
			b.run(b.s.Checkpoint)
			b.restart()
			var miss *blockmap.Miss
			r := v.r()
			b.s.lock()
			_, err := r.head.lookup(3 * blockmap.Fan)
			b.s.unlock()
			if !errors.As(err, &miss) {
				t.Fatalf("the page is in memory: %v", err)
			}
			seg, slot, n := unpackPage(miss.ID)
			page := b.s.parts(nil, seg, slot, uint16(n*blockUnit))[0].off
			spoil(b, page+100)
			if err := b.try(func() error { return v.r().ReadOpened(make([]byte, blockSize), 3*blockmap.Fan, nil) }); err == nil {
				t.Fatalf("%s: it was read", name)
			}
			if v.state().Damage == "" {
				t.Fatalf("%s: a replica whose map cannot be read is not called damaged", name)
			}
			b.d.SetChances(memdisk.Chances{})
			b.run(b.s.Checkpoint)
			if clean {
				b.restart()
			} else {
				b.crash()
			}
			if is := v.state().Damage; (is != "") != (name == "rot") {
				t.Fatalf("%s, clean %v: opened again it is called %q", name, clean, is)
			}
			if name == "out" {
				for leaf := range uint64(leaves) {
					v.want(leaf*blockmap.Fan, leaf+1)
				}
				v.write(3*blockmap.Fan, 77)
				v.stable()
				v.want(3*blockmap.Fan, 77)
			}
		}
	}
}

func TestAFullDiskStallsWritersAndLosesNothing(t *testing.T) {
	b := newBedOf(t, 70, 16<<20, Options{SegmentBytes: testSegment, CheckpointBytes: 1 << 20}, memdisk.Options{})
	drained := 0
	b.s.OnDrain(func() { drained++ })
	v := b.create(1, 4000)
	w := b.create(2, 4000)
	var end uint64
	for ; end < 4000; end++ {
		r := writeRec(v.vid, v.state().Prefix+1, end, end+1)
		err := b.try(func() error { return v.r().Append([]record.Record{r}) })
		if holdfast.IsKind(err, holdfast.NoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if end%100 == 99 {
			v.stable()
		}
	}
	if end == 4000 || !b.s.Full() {
		t.Fatalf("16 MiB took %d blocks without being full: %+v", end, b.s.Usage())
	}
	if u := b.s.Usage(); u.Live < u.Total*7/10 {
		t.Fatalf("full with only %d of %d bytes live", u.Live, u.Total)
	}
	v.stable()
	for a := uint64(0); a < end; a += 97 {
		v.want(a, a+1)
	}
	b.crash()
	for a := uint64(0); a < end; a++ {
		v.want(a, a+1)
	}
	b.s.OnDrain(func() { drained++ })
	if !b.s.Full() {
		t.Fatal("a restart makes a full disk empty")
	}
	v.zero(0, 3000) // TRIM still works, and makes room
	v.stable()
	b.settle()
	if b.s.Full() {
		t.Fatalf("the disk is still full after a trim: %+v", b.s.Usage())
	}
	if drained == 0 {
		t.Fatal("nobody was told that there is room")
	}
	for i := range uint64(1000) {
		w.write(i, 7000+i)
	}
	w.stable()
	b.run(func() error { return b.s.Remove(v.id) })
	b.settle()
	b.run(b.s.Checkpoint)
	if u := b.s.Usage(); u.Free < u.Total*5/10 {
		t.Fatalf("after the removal: %+v", u)
	}
	for i := range uint64(1000) {
		w.want(i, 7000+i)
	}
}

func TestOverwritingForLongKeepsWriteAmplificationBounded(t *testing.T) {
	b := newBedOf(t, 71, 32<<20, Options{SegmentBytes: testSegment, CheckpointBytes: 2 << 20}, memdisk.Options{})
	v := b.create(1, 4096) // half of the disk
	rng := b.w.Rand("addresses")
	want := make(map[uint64]uint64)
	for i := range uint64(6000) {
		a := rng.Uint64N(4096 - 8)
		var tags []uint64
		for k := range uint64(8) {
			tags = append(tags, 1+i*8+k)
			want[a+k] = 1 + i*8 + k
		}
		v.write(a, tags...)
		if i%64 == 63 {
			v.sync()
			v.r().SetStable(v.state().Prefix)
			b.w.Run(b.w.Now() + 100_000_000)
		}
	}
	v.stable()
	u := b.s.Usage()
	t.Logf("write amplification %.2f, cleaned %.2f of what was appended", u.WriteAmp(), float64(u.Cleaned)/float64(u.Appended))
	if u.Cleaned == 0 || u.WriteAmp() > 4 {
		t.Fatalf("%+v", u)
	}
	if err := b.s.checkSpace(); err != nil {
		t.Fatal(err)
	}
	for a := range uint64(4096) {
		v.want(a, want[a])
	}
	b.crash()
	for a := range uint64(4096) {
		v.want(a, want[a])
	}
}
