package store

import (
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

func TestWhatIsWrittenIsReadBeforeAndAfterItIsStable(t *testing.T) {
	b := newBed(t, 1)
	v := b.create(1, 1000)
	v.write(10, 100, 101, 102)
	v.want(9, 0, 100, 101, 102, 0)
	v.sync()
	v.want(9, 0, 100, 101, 102, 0)
	v.write(11, 200)
	v.want(9, 0, 100, 200, 102, 0)
	v.stable()
	v.want(9, 0, 100, 200, 102, 0)
	if st := v.state(); st.Prefix != holdfast.MakeLSN(1, 4) || st.Durable != st.Prefix || st.Stable != st.Prefix {
		t.Fatalf("state is %+v", st)
	}
}

func TestAPowerCutKeepsWhatWasSynced(t *testing.T) {
	for _, stable := range []bool{false, true} {
		b := newBed(t, 2)
		v := b.create(1, 1000)
		v.write(0, 1, 2, 3)
		v.zero(1, 1)
		v.sync()
		if stable {
			v.stable()
		}
		synced := v.state().Prefix
		v.write(5, 9)
		b.crash()
		v.want(0, 1, 0, 3)
		if st := v.state(); st.Prefix < synced || st.Durable != st.Prefix || st.Damage != "" {
			t.Fatalf("after the crash: %+v, synced was %v", st, synced)
		}
		b.crash()
		v.want(0, 1, 0, 3)
	}
}

func TestACloseAndOpenKeepsEverything(t *testing.T) {
	b := newBed(t, 3)
	v := b.create(1, 1000)
	v.write(0, 1, 2, 3)
	b.restart()
	v.want(0, 1, 2, 3)
	v.stable()
	b.restart()
	v.want(0, 1, 2, 3)
}

func TestRecordsMustFollow(t *testing.T) {
	b := newBed(t, 4)
	v := b.create(1, 100)
	v.write(0, 1)
	next := v.state().Prefix + 1
	app := func(r record.Record) error { return b.try(func() error { return v.r().Append([]record.Record{r}) }) }
	if err := app(writeRec(v.vid, next+1, 0, 2)); !holdfast.IsKind(err, holdfast.Gap) {
		t.Fatalf("a gap gives %v", err)
	}
	if err := app(writeRec(v.vid, next-1, 0, 1)); err != nil {
		t.Fatalf("a duplicate gives %v", err)
	}
	bad := writeRec(v.vid, next, 0, 2)
	bad.Data[17]++
	if err := app(bad); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Fatalf("a damaged record gives %v", err)
	}
	if err := app(writeRec(v.vid, next, 99, 2, 3)); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("a record beyond the end gives %v", err)
	}
	half := writeRec(v.vid, next-1, 0, 1, 7) // its first block is held already
	if err := app(half); err != nil {
		t.Fatal(err)
	}
	v.want(0, 1, 7)
}

func TestAPromiseOutlivesAPowerCut(t *testing.T) {
	b := newBed(t, 5)
	v := b.create(1, 100)
	b.run(func() error { return v.r().Promise(7) })
	b.crash()
	if p := v.state().Promise; p != 7 {
		t.Fatalf("promise is %d", p)
	}
	if err := b.try(func() error { return v.r().Promise(6) }); !holdfast.IsKind(err, holdfast.Fenced) {
		t.Fatalf("a lower promise gives %v", err)
	}
	b.run(func() error { return v.r().Promise(7) })
}

func TestTruncationDropsTheSuffixForGood(t *testing.T) {
	b := newBed(t, 6)
	v := b.create(1, 100)
	v.write(0, 1, 2)
	v.stable()
	cut := v.state().Prefix
	v.write(0, 3)
	v.zero(1, 1)
	v.sync()
	b.run(func() error { return v.r().Truncate(now(v.r()), cut) })
	v.want(0, 1, 2)
	if st := v.state(); st.Prefix != cut || st.Durable != cut {
		t.Fatalf("after the cut: %+v", st)
	}
	b.crash()
	v.want(0, 1, 2)
	if err := b.try(func() error { return v.r().Truncate(now(v.r()), cut-1) }); !holdfast.IsKind(err, holdfast.Damaged) {
		t.Fatalf("a cut below stable gives %v", err)
	}
	v.begin(2)
	v.write(1, 5)
	v.sync()
	b.crash()
	v.want(0, 1, 5)
	if h := v.state().History; len(h) != 2 || h[1].Epoch != 2 || h[1].Cut != cut {
		t.Fatalf("history is %+v", h)
	}
}

func TestSnapshotsStayAsTheyWere(t *testing.T) {
	b := newBed(t, 7)
	v := b.create(1, 100)
	v.write(0, 1, 2, 3)
	v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
	v.write(1, 20)
	v.zero(2, 1)
	check := func() {
		t.Helper()
		v.want(0, 1, 20, 0)
		v.wantSnap(snapID(1), 0, 1, 2, 3)
	}
	check()
	v.sync()
	b.crash()
	check()
	v.stable()
	check()
	b.crash()
	check()
	v.control(record.Record{Kind: record.Revert, Snapshot: snapID(1)})
	v.want(0, 1, 2, 3)
	v.write(0, 30)
	v.want(0, 30, 2, 3)
	v.stable()
	v.want(0, 30, 2, 3)
	v.control(record.Record{Kind: record.DropSnap, Snapshot: snapID(1)})
	v.stable()
	if n := len(v.state().Snapshots); n != 0 {
		t.Fatalf("%d snapshots are left", n)
	}
	v.want(0, 30, 2, 3)
	b.restart()
	v.want(0, 30, 2, 3)
	if live := b.s.Usage().Live; live > 3*blockSize+8*blockSize {
		t.Fatalf("%d bytes are live, 3 blocks and a few map pages were expected", live)
	}
}

func TestAClonesWritesAreItsOwn(t *testing.T) {
	b := newBed(t, 8)
	v := b.create(1, 100)
	v.write(0, 1, 2, 3)
	v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
	v.write(0, 9)
	v.stable()
	c := &vol{b, replicaID(2), volumeID(2)}
	b.run(func() error {
		_, err := b.s.Clone(c.id, c.vid, v.r(), snapID(1))
		return err
	})
	d := &vol{b, replicaID(3), volumeID(3)}
	b.run(func() error {
		_, err := b.s.Clone(d.id, d.vid, v.r(), holdfast.SnapshotID{})
		return err
	})
	c.begin(2)
	c.write(1, 40)
	d.begin(2)
	d.write(2, 50)
	check := func() {
		t.Helper()
		v.want(0, 9, 2, 3)
		c.want(0, 1, 40, 3)
		d.want(0, 9, 2, 50)
	}
	check()
	c.sync()
	d.sync()
	b.crash()
	check()
	c.stable()
	d.stable()
	b.crash()
	check()
	b.run(func() error { return b.s.Remove(v.id) })
	b.settle()
	c.want(0, 1, 40, 3)
	d.want(0, 9, 2, 50)
	b.crash()
	c.want(0, 1, 40, 3)
	d.want(0, 9, 2, 50)
	b.run(func() error { return b.s.Remove(c.id) })
	b.run(func() error { return b.s.Remove(d.id) })
	b.settle()
	b.run(b.s.Checkpoint)
	b.run(b.s.Checkpoint)
	if live := b.s.Usage().Live; live != 0 {
		t.Fatalf("%d bytes are live with no replica left", live)
	}
}

func TestExtentsTellDataFromHoles(t *testing.T) {
	b := newBed(t, 9)
	v := b.create(1, 5000)
	v.write(2, 1, 2)
	v.write(4000, 3)
	v.stable()
	v.zero(3, 1)
	v.write(4, 4)
	extents := func(addr, n uint64, max int) (runs []Run) {
		b.run(func() (err error) {
			runs, err = v.r().Extents(addr, n, max)
			return err
		})
		return runs
	}
	got := extents(0, 5000, 100)
	want := []Run{{2, true}, {1, false}, {1, true}, {1, false}, {3995, true}, {1, false}, {999, true}}
	if !slices.Equal(got, want) {
		t.Fatalf("extents are %v, not %v", got, want)
	}
	if got := extents(1, 4000, 2); !slices.Equal(got, []Run{{1, true}, {1, false}}) {
		t.Fatalf("two extents are %v", got)
	}
	if err := b.try(func() error { _, err := v.r().Extents(4999, 2, 1); return err }); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("extents beyond the end give %v", err)
	}
}

func TestAnEpochBeginsOnce(t *testing.T) {
	b := newBed(t, 10)
	v := b.create(1, 100)
	v.write(0, 1, 2)
	end := v.state().Prefix
	st := record.Start{Epoch: 5, Prev: 1, Cut: end - 1, Generation: 2}
	b.run(func() error { return v.r().Begin(st) })
	v.want(0, 1, 0)
	v.write(1, 9)
	b.run(func() error { return v.r().Begin(st) }) // asked again: nothing is dropped
	v.want(0, 1, 9)
	st.Cut--
	if err := b.try(func() error { return v.r().Begin(st) }); !holdfast.IsKind(err, holdfast.Fenced) {
		t.Fatalf("another begin of the same epoch gives %v", err)
	}
	if err := b.try(func() error { return v.r().Begin(record.Start{Epoch: 6, Prev: 5, Cut: v.state().Prefix + 1}) }); !holdfast.IsKind(err, holdfast.Gap) {
		t.Fatalf("a cut beyond the prefix gives %v", err)
	}
}

func TestSetsOfSlotsSurviveTheCatalog(t *testing.T) {
	const segBlocks = 128
	for _, fine := range []bool{false, true} {
		for _, pair := range [][2]uint64{{0, 0}, {^uint64(0), ^uint64(0)}, {0x5555555555555555, 1 << 63}, {1, 0}, {0, 1 << 63}, {^uint64(1), 7}} {
			set := newSlots(segBlocks, fine)
			for i := range set.words {
				set.words[i] = uint32(pair[i/2%2] >> (i % 2 * 32))
			}
			for range 2 { // as bits, then as a list if it is thin
				var w catalogWriter
				w.slots(set)
				c := &catalogReader{b: w.b}
				got := c.slots(segBlocks)
				if c.err != nil || len(c.b) != 0 || !slices.Equal(slotsOf(&got), slotsOf(&set)) {
					t.Errorf("%x became %x (%v, %d bytes left)", set.words, got.words, c.err, len(c.b))
				}
				set.thin()
			}
		}
	}
}

func slotsOf(set *slots) (out []uint16) {
	for slot, n := range set.runs() {
		for i := range n {
			out = append(out, slot+i)
		}
	}
	return out
}

// A disk that is another than was expected is left as it is, and may be tried
// again.
func TestAnotherDiskThanWasExpectedIsNotTouched(t *testing.T) {
	b := newBed(t, 4)
	v := b.create(1, 1000)
	v.write(0, 1, 2, 3)
	v.sync()
	b.host.Kill()
	b.d.Crash()
	b.boot()
	stranger := holdfast.Errorf(holdfast.Invalid, "not this one")
	b.opts.Expect = func(id Identity) error {
		if id != testIdentity() {
			t.Errorf("asked about %+v", id)
		}
		return stranger
	}
	before := b.d.Stats().Writes
	for range 2 {
		if err := b.tryOpen(); err != stranger {
			t.Fatalf("opened: %v", err)
		}
	}
	if n := b.d.Stats().Writes - before; n != 0 {
		t.Errorf("%d writes to it", n)
	}
	b.opts.Expect = nil
	b.open()
	v.want(0, 1, 2, 3)
}
