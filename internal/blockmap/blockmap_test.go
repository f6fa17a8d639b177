package blockmap

import (
	"errors"
	"strings"
	"testing"
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
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

func TestMissTellsWhatToLoad(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := newTree(t, p, 1<<20)
	put(t, tree, 0, 1)
	put(t, tree, 5000, 2)
	flushAll(t, tree.Snapshot(), disk)
	p.Evict(10)
	if n := p.Evict(10); n != 0 || p.Leaves() != 0 {
		t.Fatalf("%d leaves left after two passes", p.Leaves())
	}
	_, err := tree.Set(5001, data(3))
	var m *Miss
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
