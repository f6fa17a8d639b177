package blockmap

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

func newTree(t testing.TB, p *Pages, blocks uint64) *Tree {
	t.Helper()
	tree, err := p.New(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func data(lsn holdfast.LSN) Entry {
	return Entry{LSN: lsn, Hash: uint64(lsn)*7 + 1, Seg: 1 + uint32(lsn>>16), Slot: uint16(lsn)}
}

func put(t testing.TB, tree *Tree, addr uint64, lsn holdfast.LSN) {
	t.Helper()
	if _, err := tree.Set(addr, data(lsn)); err != nil {
		t.Fatal(err)
	}
}

// flushAll stores a root and returns its encoding.
func flushAll(t testing.TB, r *Root, s *shelf) []byte {
	t.Helper()
	done, err := r.Flush(1<<30, s.alloc)
	if err != nil || !done {
		t.Fatalf("flush: %v, %v", done, err)
	}
	b, err := r.AppendRoot(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Load makes a shelf a Loader.
func (s *shelf) Load(id PageID) ([]byte, error) {
	if b, ok := s.pages[id]; ok {
		return b, nil
	}
	return nil, errors.New("no such page")
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Entry{}); n != 24 {
		t.Errorf("an entry takes %d bytes", n)
	}
	if n := unsafe.Sizeof(slot{}); n != 16 {
		t.Errorf("a slot takes %d bytes", n)
	}
	if l := levelFor(holdfast.MaxVolumeBlocks); l != maxLevel {
		t.Errorf("the largest volume has its root at level %d", l)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	p := NewPages(nil)
	for _, blocks := range []uint64{0, holdfast.MaxVolumeBlocks + 1} {
		if _, err := p.New(blocks); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("a map of %d blocks: %v", blocks, err)
		}
	}
	tree := newTree(t, p, 1000)
	_, getErr := tree.Get(1000)
	_, setErr := tree.Set(1000, data(1))
	_, hashErr := tree.Set(0, Entry{LSN: 1, Hash: 1})
	_, halfErr := tree.Set(0, Entry{Seg: 1})
	_, rangeErr := tree.SetRange(999, 2, 1, 0, nil)
	_, wrapErr := tree.SetRange(1, ^uint64(0), 1, 0, nil)
	_, zeroErr := tree.SetRange(0, 1, 0, 0, nil)
	_, epochErr := tree.SetRange(0, 2, holdfast.MakeLSN(1, holdfast.MaxCounter), 0, nil)
	for what, err := range map[string]error{
		"get beyond the end": getErr, "set beyond the end": setErr, "a hole with a hash": hashErr,
		"an entry without LSN": halfErr, "a range beyond the end": rangeErr, "a range that wraps": wrapErr,
		"a range from LSN 0": zeroErr, "a range out of its epoch": epochErr, "shrink": tree.Grow(999),
		"grow too far": tree.Grow(holdfast.MaxVolumeBlocks + 1),
	} {
		if !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v, want kind invalid", what, err)
		}
	}
	if tree.MaxLSN() != 0 || p.Leaves() != 0 {
		t.Error("a refused request changed the map")
	}
}

// A TRIM of a whole 64 TiB volume is one slot, and stays cheap at odd borders.
func TestHugeRangesCostNothing(t *testing.T) {
	p := NewPages(nil)
	tree := newTree(t, p, holdfast.MaxVolumeBlocks)
	put(t, tree, 5, 1)
	put(t, tree, 1<<33, 2)
	var replaced int
	first, n := holdfast.MakeLSN(1, 100), uint64(holdfast.MaxVolumeBlocks-2)
	for done := uint64(0); done < n; {
		k, err := tree.SetRange(1+done, n-done, first+holdfast.LSN(done), 4, func(uint64, Entry) { replaced++ })
		if err != nil {
			t.Fatal(err)
		}
		done += k
	}
	if replaced != 2 {
		t.Errorf("%d stored entries were replaced, want 2", replaced)
	}
	if p.Leaves() > 2 || len(p.nodes) > 12 {
		t.Errorf("2^34 tombstones took %d leaves and %d pages", p.Leaves(), len(p.nodes))
	}
	for _, addr := range []uint64{1, 511, 512, 1 << 20, 1<<33 + 77, holdfast.MaxVolumeBlocks - 2} {
		if e, err := tree.Get(addr); err != nil || e != (Entry{LSN: first + holdfast.LSN(addr-1), Origin: 4}) {
			t.Errorf("block %d: %+v, %v", addr, e, err)
		}
	}
	runs := 0
	root := tree.Snapshot()
	if err := root.Walk(0, 0, func(_, _ uint64, _ Entry) bool { runs++; return runs < 10_000 }); err != nil || runs > 5000 {
		t.Errorf("a walk over 2^34 tombstones gave %d runs: %v", runs, err)
	}
}

func TestSnapshotKeepsWhatItSaw(t *testing.T) {
	p := NewPages(nil)
	tree := newTree(t, p, 1<<20)
	for i := range uint64(2000) {
		put(t, tree, i, holdfast.LSN(i+1))
	}
	snap := tree.Snapshot()
	put(t, tree, 1000, 5000)
	if e, _ := snap.Get(1000); e != data(1001) {
		t.Errorf("the snapshot changed: %+v", e)
	}
	clone := FromRoot(snap)
	put(t, clone, 1000, 6000)
	if e, _ := tree.Get(1000); e != data(5000) {
		t.Errorf("the clone's write is seen by its origin: %+v", e)
	}
	if snap.MaxLSN() != 2000 || tree.MaxLSN() != 5000 || clone.MaxLSN() != 6000 {
		t.Errorf("highest LSNs %v, %v, %v", snap.MaxLSN(), tree.MaxLSN(), clone.MaxLSN())
	}
	if p.Leaves() != 4+2 {
		t.Errorf("%d leaves in memory; two changed blocks should cost two copies", p.Leaves())
	}
}

// What changed since an LSN is found without looking at what did not.
func TestWalkSinceAndDiffLookOnlyWhereSomethingChanged(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := newTree(t, p, 1<<20)
	for i := range uint64(1 << 20 / 256) {
		put(t, tree, i*256, holdfast.LSN(i+1))
	}
	old := tree.Snapshot()
	last := tree.MaxLSN()
	put(t, tree, 77, last+1)
	put(t, tree, 900_000, last+2)
	root := tree.Snapshot()
	oldBytes, newBytes := flushAll(t, old, disk), flushAll(t, root, disk)

	p = NewPages(disk)
	open := func(b []byte) *Root {
		r, err := p.OpenRoot(b)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	old, root = open(oldBytes), open(newBytes)
	var walked, differ []uint64
	if err := root.Walk(last, 0, func(a, _ uint64, _ Entry) bool { walked = append(walked, a); return true }); err != nil {
		t.Fatal(err)
	}
	if p.Leaves() != 2 {
		t.Errorf("the walk loaded %d leaves, want 2", p.Leaves())
	}
	err := Diff(old, root, 0, func(a, _ uint64, _, e Entry) bool { differ = append(differ, a); return true })
	if err != nil {
		t.Fatal(err)
	}
	if p.Leaves() != 4 {
		t.Errorf("walk and diff loaded %d leaves, want 4", p.Leaves())
	}
	for _, got := range [][]uint64{walked, differ} {
		if len(got) != 2 || got[0] != 77 || got[1] != 900_000 {
			t.Errorf("changed blocks %v, want 77 and 900000", got)
		}
	}
}

// A stored page that is not the one its parent means is never believed.
func TestWrongPagesAreCorrupt(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := newTree(t, p, 1<<20)
	put(t, tree, 0, 1)
	put(t, tree, 600, 2)
	first := flushAll(t, tree.Snapshot(), disk)
	put(t, tree, 0, 3)
	flushAll(t, tree.Snapshot(), disk)
	// Pages 1 and 2 are the leaves of blocks 0 and 512; 5 is the newer leaf of block 0.
	for what, damage := range map[string]func(map[PageID][]byte){
		"a flipped bit":    func(m map[PageID][]byte) { m[1][200%len(m[1])] ^= 4 },
		"a neighbour":      func(m map[PageID][]byte) { m[1] = m[2] },
		"a newer version":  func(m map[PageID][]byte) { m[1] = m[5] },
		"cut short":        func(m map[PageID][]byte) { m[1] = m[1][:140] },
		"empty":            func(m map[PageID][]byte) { m[1] = nil },
		"zeroes":           func(m map[PageID][]byte) { m[1] = make([]byte, 4096) },
		"its parent":       func(m map[PageID][]byte) { m[1] = m[3] },
		"another format":   func(m map[PageID][]byte) { m[1][4]++ },
		"a rotten parent":  func(m map[PageID][]byte) { m[3][130] ^= 1 },
		"a length of zero": func(m map[PageID][]byte) { copy(m[1][44:48], []byte{0, 0, 0, 0}) },
	} {
		bad := newShelf()
		for id, b := range disk.pages {
			bad.pages[id] = append([]byte(nil), b...)
		}
		damage(bad.pages)
		q := NewPages(bad)
		r, err := q.OpenRoot(first)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := r.Get(0); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("%s: got %+v, %v; want kind corrupt", what, e, err)
		}
		if q.Leaves() != 0 {
			t.Errorf("%s: the bad page was kept", what)
		}
	}
	q := NewPages(disk)
	r, err := q.OpenRoot(first)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := r.Get(0); err != nil || e != data(1) {
		t.Errorf("the healthy map: %+v, %v", e, err)
	}
}

// A stale page under the right PageID, as a lost write leaves it.
func TestStalePageIsCorrupt(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := newTree(t, p, 1000)
	put(t, tree, 0, 1)
	flushAll(t, tree.Snapshot(), disk)
	stale := append([]byte(nil), disk.pages[1]...)
	put(t, tree, 0, 2)
	disk.next = 8 // the newer leaf is page 9
	now := flushAll(t, tree.Snapshot(), disk)
	le.PutUint64(stale[16:], 9) // so that nothing but the content is old
	le.PutUint32(stale[8:], checksum.CRC(stale[12:len(stale)-7]))
	good := disk.pages[9]
	for _, c := range []struct {
		page []byte
		ok   bool
	}{{stale, false}, {good, true}} {
		disk.pages[9] = c.page
		q := NewPages(disk)
		r, err := q.OpenRoot(now)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := r.Get(0); (err == nil) != c.ok || !c.ok && !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("leaf is the right one: %v; got %+v, %v", c.ok, e, err)
		}
	}
}

// One unreadable inner page takes its own map down, and nothing else.
func TestUnreadableInnerPageDoesNotHoldUpTheOthers(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	a, b := newTree(t, p, 1<<20), newTree(t, p, 1<<20)
	for i := range uint64(1400) {
		put(t, a, i*700, holdfast.LSN(i+1))
		put(t, b, i*700, holdfast.LSN(i+1))
	}
	rootA, rootB := flushAll(t, a.Snapshot(), disk), flushAll(t, b.Snapshot(), disk)
	p = NewPages(nil)
	ra, errA := p.OpenRoot(rootA)
	rb, errB := p.OpenRoot(rootB)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	bad := p.Absent(1)[0]
	for ms := p.Absent(9); len(ms) > 0; ms = p.Absent(9) {
		for _, m := range ms {
			if *m == *bad {
				p.GiveUp(m)
			} else if err := p.Install(m, disk.pages[m.ID]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := ra.Get(0); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Errorf("the map of the bad page: %v, want kind corrupt", err)
	}
	if err := p.Install(bad, disk.pages[bad.ID]); err != nil {
		t.Error(err)
	}
	if _, err := ra.Get(0); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Errorf("a page that was given up came back: %v", err)
	}
	must(t, p, disk, func() error {
		e, err := rb.Get(700)
		if err == nil && e != data(2) {
			t.Errorf("the other map: %+v", e)
		}
		return err
	})
	rb.Release()
	if n := len(p.Freed()); n < 1400 {
		t.Errorf("only %d pages came back from the healthy map", n)
	}
	ra.Release()
	if n := len(p.Freed()); n == 0 {
		t.Error("nothing came back from the bad map")
	}
}

// The first and last tombstones of a hole are on the right side of "since".
func TestWalkSinceCutsAHoleExactly(t *testing.T) {
	p := NewPages(nil)
	tree := newTree(t, p, 4096)
	if _, err := tree.SetRange(512, 1024, 1001, 0, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		since holdfast.LSN
		from  uint64
		want  uint64 // first block seen
	}{
		{0, 0, 512}, {1000, 0, 512}, {1001, 0, 513}, {1002, 0, 514}, {1512, 0, 1024}, {1513, 0, 1025},
		{1000, 600, 600}, {1100, 600, 612}, {2023, 0, 1535},
	} {
		seen := uint64(0)
		if err := tree.Walk(c.since, c.from, func(a, n uint64, e Entry) bool {
			if seen == 0 {
				seen = a
			}
			if e.LSN != 1001+holdfast.LSN(a-512) || e.LSN <= c.since {
				t.Errorf("since %d: block %d with LSN %d", c.since, a, e.LSN)
			}
			return true
		}); err != nil || seen != c.want {
			t.Errorf("since %d, from %d: began at block %d, want %d: %v", c.since, c.from, seen, c.want, err)
		}
	}
	if err := tree.Walk(2024, 0, func(a, _ uint64, _ Entry) bool { t.Error("saw", a); return false }); err != nil {
		t.Error(err)
	}
}

// Growing by several levels must not repeat the old content above itself.
func TestDiffAcrossGrowth(t *testing.T) {
	p := NewPages(nil)
	tree := newTree(t, p, 512)
	if _, err := tree.SetRange(0, 512, 10, 1, nil); err != nil {
		t.Fatal(err)
	}
	hole := tree.Snapshot()
	put(t, tree, 7, 600)
	small := tree.Snapshot()
	if err := tree.Grow(holdfast.MaxVolumeBlocks); err != nil {
		t.Fatal(err)
	}
	put(t, tree, 1<<32, 700)
	big := tree.Snapshot()
	for _, c := range []struct {
		a, b *Root
		want []uint64
	}{
		{small, big, []uint64{1 << 32}}, {big, small, []uint64{1 << 32}},
		{hole, big, []uint64{7, 1 << 32}}, {hole, small, []uint64{7}}, {big, big, nil},
	} {
		var got []uint64
		if err := Diff(c.a, c.b, 0, func(addr, n uint64, ea, eb Entry) bool {
			wa, _ := c.a.Get(addr) // beyond the end: never written
			wb, _ := c.b.Get(addr)
			if n != 1 || ea != wa || eb != wb {
				t.Errorf("blocks %d+%d: %+v and %+v", addr, n, ea, eb)
			}
			got = append(got, addr)
			return len(got) < 2000
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("differs at %v, want %v", got, c.want)
		}
	}
}

// evictAll takes out of memory what can be.
func evictAll(p *Pages) {
	p.Landed()
	for range 4 + 2*len(p.ring)/evictSteps {
		p.Evict(0)
	}
}

func TestMissTellsWhatToLoad(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := newTree(t, p, 1<<20)
	put(t, tree, 0, 1)
	put(t, tree, 5000, 2)
	flushAll(t, tree.Snapshot(), disk)
	evictAll(p)
	if all, dirty := p.Resident(); all != 0 || dirty != 0 || p.Leaves() != 0 {
		t.Fatalf("%d bytes and %d leaves are left, %d of them dirty", all, p.Leaves(), dirty)
	}
	_, err := tree.Set(5001, data(3))
	var m *Miss
	for level := tree.m.level; level > 0; level-- { // inner pages go too
		if !errors.As(err, &m) || m.Addr != 0 || m.Level != level {
			t.Fatalf("set on an evicted map: %v", err)
		}
		if err := p.Install(m, disk.pages[m.ID]); err != nil {
			t.Fatal(err)
		}
		_, err = tree.Set(5001, data(3))
	}
	if !errors.As(err, &m) || m.Addr != 4608 || m.Level != 0 || !strings.Contains(m.Error(), "not in memory") {
		t.Fatalf("set on an evicted leaf: %v", err)
	}
	if err := p.Install(m, disk.pages[m.ID]); err != nil {
		t.Fatal(err)
	}
	put(t, tree, 5001, 3)
	if err := p.Install(m, disk.pages[m.ID]); err != nil {
		t.Errorf("installing a page that is no longer wanted: %v", err)
	}
	if e, err := tree.Get(5001); err != nil || e != data(3) {
		t.Errorf("after a late Install: %+v, %v", e, err)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	p := NewPages(nil)
	tree := newTree(t, p, 1<<20)
	for i := range uint64(1 << 16) {
		put(t, tree, i*16, holdfast.LSN(i+1))
	}
	lsn := tree.MaxLSN()
	n := testing.AllocsPerRun(1000, func() {
		lsn++
		addr := uint64(lsn) * 7919 % (1 << 20)
		if _, err := tree.Set(addr, data(lsn)); err != nil {
			t.Fatal(err)
		}
		if e, err := tree.Get(addr); err != nil || e.LSN != lsn {
			t.Fatal(e, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per Set and Get", n)
	}
}
