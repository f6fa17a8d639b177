package store

import (
	"bytes"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// spoil damages every place where the disk has a block of that content, as it is
// or packed.
func (b *bed) spoil(tag uint64) (n int) {
	whole, short := content(tag), stored(volumeID(2), tag)
	p, q := make([]byte, blockSize), make([]byte, 2*blockSize)
	for off := int64(0); off < testDisk-blockSize; off += blockSize {
		if b.d.Peek(p, off); bytes.Equal(p, whole) {
			b.d.Rot(off + int64(tag%blockSize))
			n++
		}
		for at := 0; at < blockSize; at += unitSize {
			if le.Uint64(p[at:]) != tag {
				continue
			}
			if b.d.Peek(q, off); bytes.HasPrefix(q[at:], short) {
				b.d.Rot(off + int64(at) + int64(tag)%int64(len(short)))
				n++
			}
		}
	}
	return n
}

// scrub runs one scrub to its end.
func (b *bed) scrub(id holdfast.ReplicaID) {
	b.t.Helper()
	b.run(func() error { return b.s.Scrub(id) })
	if !b.w.RunUntil(func() bool { return !b.s.Scrubbing().Running }, b.w.Now()+time.Hour) {
		b.t.Fatal("the scrub does not end")
	}
	b.settle()
}

func (b *bed) openFaults() (n int) {
	for _, f := range b.s.Faults() {
		if f.Open() {
			n++
		}
	}
	return n
}

// rooted is a volume with snapshots, a clone and something not merged yet, of
// which every block has its own tag.
func rooted(b *bed) (v, c *vol, tags []uint64) {
	v = b.create(1, 600)
	next := uint64(0)
	write := func(v *vol, addr uint64, n int) {
		var ts []uint64
		for range n {
			next++
			ts = append(ts, next)
		}
		tags = append(tags, ts...)
		v.write(addr, ts...)
	}
	for a := uint64(0); a < 160; a += 40 {
		write(v, a, 40)
	}
	v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
	write(v, 10, 20)
	v.stable()
	v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(2)})
	write(v, 20, 20)
	v.stable()
	c = &vol{b, replicaID(2), volumeID(2)}
	b.run(func() error {
		_, err := b.s.Clone(c.id, c.vid, v.r(), snapID(1))
		return err
	})
	c.begin(2)
	write(c, 15, 10)
	c.stable()
	write(v, 300, 10) // stays above stable
	v.sync()
	return v, c, tags
}

func TestAScrubFindsEveryBadBlockOfEveryRoot(t *testing.T) {
	b := newBed(t, 60)
	v, c, tags := rooted(b)
	b.scrub(holdfast.ReplicaID{})
	if n := len(b.s.Faults()); n != 0 {
		t.Fatalf("%d faults of a good disk: %+v", n, b.s.Faults())
	}
	first := v.r().Proved()
	if first.IsZero() || c.r().Proved().IsZero() || b.s.Scrubbing().Last != first {
		t.Fatalf("proved %v and %v, last %v", first, c.r().Proved(), b.s.Scrubbing().Last)
	}
	told := 0
	b.s.OnBad(func(f Fault) {
		told++
		if f.Hop != HopScrub || !f.Open() {
			t.Errorf("told of %+v", f)
		}
	})
	for _, tag := range tags {
		if b.spoil(tag) != 1 {
			t.Fatalf("block %d is not once on the disk", tag)
		}
	}
	b.scrub(holdfast.ReplicaID{})
	if told != len(tags) {
		t.Fatalf("the scrub found %d bad blocks of %d", told, len(tags))
	}
	if v.r().Proved() != first {
		t.Fatal("a replica with bad blocks counts as proved")
	}
}

func TestAScrubOfOneReplicaReadsWhatItSharesAndNothingElse(t *testing.T) {
	b := newBed(t, 61)
	v, c, _ := rooted(b)
	other := b.create(9, 100)
	other.write(0, 900, 901)
	other.stable()
	b.spoil(900)
	b.spoil(1) // in the snapshot that the clone was made of
	b.scrub(c.id)
	if n := b.openFaults(); n != 1 {
		t.Fatalf("%d faults, want the one of the snapshot: %+v", n, b.s.Faults())
	}
	if !other.r().Proved().IsZero() || !v.r().Proved().IsZero() {
		t.Fatal("the scrub of one replica has proved another")
	}
}

func TestWhatAScrubFoundIsRestored(t *testing.T) {
	b := newBed(t, 62)
	v, c, _ := rooted(b)
	var found []Fault
	b.s.OnBad(func(f Fault) {
		found = append(found, f)
		tag := map[uint64]uint64{0: 1, 15: 201}[f.Addr]
		good := Block{Addr: f.Addr, LSN: f.LSN, Origin: f.Origin, Hash: f.Hash, Data: stored(f.Origin, tag)}
		wrong := good
		wrong.Data = bytes.Clone(good.Data)
		wrong.Data[9] ^= 1
		if _, err := b.s.Restore(f, wrong); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("wrong bytes: %v", err)
		}
		if ok, err := b.s.Restore(f, good); err != nil || !ok {
			t.Error(err)
		}
	})
	b.spoil(1)   // shared by snapshot, head and clone
	b.spoil(201) // the clone's own
	b.scrub(holdfast.ReplicaID{})
	if len(found) != 2 || b.openFaults() != 0 {
		t.Fatalf("found %+v, known %+v", found, b.s.Faults())
	}
	if v.r().Proved().IsZero() || c.r().Proved().IsZero() {
		t.Fatal("restored replicas do not count as proved")
	}
	check := func() {
		v.want(0, 1, 2)
		v.wantSnap(snapID(1), 0, 1, 2)
		c.want(0, 1, 2)
		c.want(15, 201, 202)
	}
	check()
	b.crash()
	check()
	if fs := b.s.Faults(); len(fs) != 2 || !fs[0].Repaired {
		t.Fatalf("after the crash: %+v", fs)
	}
	b.scrub(c.id)
	if n := b.openFaults(); n != 0 {
		t.Fatalf("%d faults again", n)
	}
}

func TestAFaultEndsWhenTheBlockIsOverwritten(t *testing.T) {
	b := newBed(t, 63)
	v := b.create(1, 100)
	v.write(5, 50, 51)
	v.stable()
	b.spoil(51)
	if _, err := v.read(5, 2); err == nil {
		t.Fatal("a rotten block was read")
	}
	fs := b.s.Faults()
	if len(fs) != 1 || fs[0].Hop != HopRead || fs[0].Addr != 6 || !fs[0].Open() {
		t.Fatalf("faults: %+v", fs)
	}
	b.restart()
	if b.openFaults() != 1 {
		t.Fatalf("a restart forgets faults: %+v", b.s.Faults())
	}
	v.write(6, 60)
	v.stable()
	v.want(5, 50, 60)
	if fs := b.s.Faults(); len(fs) != 1 || !fs[0].Gone {
		t.Fatalf("faults: %+v", fs)
	}
}

// A block that is not merged into the map yet is known by where it lies, too: it can
// be restored, and its fault ends when it is overwritten.
func TestAFaultOfABlockThatIsNotMergedYet(t *testing.T) {
	b := newBed(t, 66)
	v := b.create(1, 100)
	v.write(5, 50, 51)
	v.sync() // on disk, and not stable: nothing is merged
	b.spoil(50)
	b.spoil(51)
	for addr := range uint64(2) {
		if _, err := v.read(5+addr, 1); err == nil {
			t.Fatal("a rotten block was read")
		}
	}
	fs := b.s.Faults()
	if len(fs) != 2 || fs[0].Addr != 5 || !fs[0].Open() {
		t.Fatalf("faults: %+v", fs)
	}
	b.run(func() error {
		f := fs[0]
		ok, err := b.s.Restore(f, Block{Addr: f.Addr, LSN: f.LSN, Origin: f.Origin, Hash: f.Hash, Data: stored(f.Origin, 50)})
		if err == nil && !ok {
			t.Error("the block was not restored")
		}
		return err
	})
	v.write(6, 60)
	v.stable()
	v.want(5, 50, 60)
	if n := b.openFaults(); n != 0 {
		t.Fatalf("%d faults are left: %+v", n, b.s.Faults())
	}
}

func TestAScrubGoesOnAfterARestart(t *testing.T) {
	b := newBedOf(t, 64, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 4 << 20, ScrubRate: 4 << 20}, memdisk.Options{})
	v := b.create(1, 4096)
	for a := uint64(0); a < 4096; a += 32 {
		var ts []uint64
		for i := range uint64(32) {
			ts = append(ts, a+i+1)
		}
		v.write(a, ts...)
		if a%1024 == 0 {
			v.stable()
		}
	}
	v.stable()
	b.run(func() error { return b.s.Scrub(holdfast.ReplicaID{}) })
	b.w.Run(b.w.Now() + 2*time.Second)
	before := b.s.Scrubbing()
	if !before.Running || before.Done < 4<<20 || before.Done > 10<<20 || before.Rate > 5<<20 || before.Left() <= 0 {
		t.Fatalf("after two seconds at 4 MiB/s: %+v", before)
	}
	b.spoil(4090) // what comes last
	b.restart()
	after := b.s.Scrubbing()
	if !after.Running || !after.Started.Equal(before.Started.Truncate(time.Second)) {
		t.Fatalf("after the restart: %+v, before it %+v", after, before)
	}
	if !b.w.RunUntil(func() bool { return !b.s.Scrubbing().Running }, b.w.Now()+time.Hour) {
		t.Fatal("it does not end")
	}
	if b.s.Scrubbing().Last != after.Started || b.openFaults() == 0 {
		t.Fatalf("it ended as %+v with faults %+v", b.s.Scrubbing(), b.s.Faults())
	}
}

func TestADiskIsScrubbedEveryPeriod(t *testing.T) {
	b := newBedOf(t, 65, testDisk, Options{SegmentBytes: testSegment, ScrubEvery: 24 * time.Hour}, memdisk.Options{})
	v := b.create(1, 100)
	v.write(0, 1, 2, 3)
	v.stable()
	b.w.Run(b.w.Now() + 23*time.Hour)
	if !v.r().Proved().IsZero() {
		t.Fatal("it was scrubbed too early")
	}
	b.w.Run(b.w.Now() + 2*time.Hour)
	first := v.r().Proved()
	if first.IsZero() {
		t.Fatal("it was not scrubbed")
	}
	b.w.Run(b.w.Now() + 25*time.Hour)
	if !v.r().Proved().After(first) {
		t.Fatal("it was not scrubbed again")
	}
}

func FuzzScrubPage(f *testing.F) {
	b := newBed(f, 66)
	v := b.create(1, 100)
	v.write(0, 1)
	v.stable()
	b.s.lock()
	b.s.noteFault(Fault{Replica: v.id, Hop: HopRead, seg: 1})
	b.s.beginPass(0)
	f.Add(b.s.encodeScrub(3))
	b.s.unlock()
	f.Fuzz(func(t *testing.T, p []byte) {
		if pg, ok := decodeScrub(p, testIdentity().Disk); ok && (len(pg.faults) > maxFaults || len(pg.passes) > maxPasses) {
			t.Fatalf("a page with %d faults and %d passes", len(pg.faults), len(pg.passes))
		}
	})
}

func TestWhatWentBadLastIsForgottenLast(t *testing.T) {
	b := newBed(t, 67)
	v := b.create(1, 1000)
	v.write(0, 1)
	v.stable()
	b.s.lock()
	defer b.s.unlock()
	note := func(slot int) {
		b.s.noteFault(Fault{Replica: v.id, Addr: uint64(slot), LSN: 1, seg: 1, slot: uint16(slot)})
		b.s.repairedAt(1, uint16(slot))
	}
	for slot := range maxFaults {
		note(slot)
	}
	note(0) // bad again
	note(maxFaults)
	var kept []uint64
	for _, f := range b.s.faults {
		kept = append(kept, f.Addr)
	}
	if len(kept) != maxFaults || kept[maxFaults-2] != 0 || kept[0] != 2 {
		t.Fatalf("kept %v", kept)
	}
}
