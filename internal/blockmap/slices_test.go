package blockmap

import (
	"errors"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// dense is a map of 600 full leaves, stored.
func dense(t *testing.T, p *Pages, disk *shelf) *Tree {
	tree := newTree(t, p, 1<<20)
	for a := range uint64(600 * Fan) {
		put(t, tree, a, holdfast.LSN(a+1))
	}
	root := tree.Snapshot()
	flushAll(t, root, disk)
	root.Release()
	return tree
}

// A TRIM of what is stored goes in slices, loads what it replaces, reports each
// block once and leaves a map that says so at every moment between.
func TestRangeOverStoredBlocksGoesInSlices(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := dense(t, p, disk)
	evictAll(p)
	const addr, n, first = 0, 600*Fan - 100, 1 << 30
	next, calls := uint64(addr), 0
	for done := uint64(0); done < n; calls++ {
		k, err := tree.SetRange(addr+done, n-done, first+holdfast.LSN(done), 0, func(a uint64, e Entry) {
			if a != next || e != data(holdfast.LSN(a+1)) {
				t.Fatalf("block %d was replaced where block %d was due: %+v", a, next, e)
			}
			next++
		})
		done += k
		if next != addr+done {
			t.Fatalf("%d blocks are done, %d were reported", done, next-addr)
		}
		if k > rangeLeaves*Fan {
			t.Fatalf("one call did %d blocks", k)
		}
		for a := max(addr, addr+done-1); a <= addr+done; a++ {
			must(t, p, disk, func() error {
				e, err := tree.Get(a)
				if err == nil && e.Hole() != (a < addr+done && a >= addr) {
					t.Fatalf("block %d of %d done: %+v", a, done, e)
				}
				return err
			})
		}
		var m *Miss
		if errors.As(err, &m) {
			err = p.Install(m, disk.pages[m.ID])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if calls < 10 {
		t.Errorf("599 leaves were replaced in %d calls", calls)
	}
	if p.Leaves() > 4 {
		t.Errorf("%d leaves are left of 599 that became holes", p.Leaves())
	}
}

func TestFlushGoesInSlices(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := newTree(t, p, 1<<20)
	for i := range uint64(50) {
		put(t, tree, i*600, holdfast.LSN(i+1))
	}
	root := tree.Snapshot()
	calls, done := 0, false
	for ; !done; calls++ {
		before := len(disk.pages)
		var err error
		if done, err = root.Flush(7, disk.alloc); err != nil {
			t.Fatal(err)
		}
		if n := len(disk.pages) - before; n > 7 {
			t.Fatalf("one call encoded %d pages", n)
		}
		// The head goes on meanwhile, and the checkpoint does not see it.
		put(t, tree, uint64(calls)*600, 1000+holdfast.LSN(calls))
	}
	if calls < 50/7 {
		t.Errorf("51 pages in %d calls", calls)
	}
	b, err := root.AppendRoot(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewPages(disk).OpenRoot(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(50) {
		if e, err := r.Get(i * 600); err != nil || e != data(holdfast.LSN(i+1)) {
			t.Errorf("block %d of the checkpoint: %+v, %v", i*600, e, err)
		}
	}
	if _, err := tree.Snapshot().AppendRoot(nil); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("the encoding of a dirty root: %v", err)
	}
}

// A caller that gives a page id twice, or too small a buffer, is told.
func TestFlushRefusesBadPlaces(t *testing.T) {
	p := NewPages(nil)
	tree := newTree(t, p, 2000)
	put(t, tree, 0, 1)
	put(t, tree, 1000, 2)
	for what, alloc := range map[string]func(int, int) (PageID, []byte, error){
		"twice the same": func(_, size int) (PageID, []byte, error) { return 1, make([]byte, size), nil },
		"zero":           func(_, size int) (PageID, []byte, error) { return 0, make([]byte, size), nil },
		"too large":      func(_, size int) (PageID, []byte, error) { return MaxPageID + 1, make([]byte, size), nil },
		"short buffer":   func(_, size int) (PageID, []byte, error) { return 9, make([]byte, size-1), nil },
	} {
		done, err := tree.Snapshot().Flush(10, alloc)
		if done || !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v, %v", what, done, err)
		}
	}
	full := errors.New("full")
	if _, err := tree.Snapshot().Flush(10, func(int, int) (PageID, []byte, error) { return 0, nil, full }); !errors.Is(err, full) {
		t.Errorf("the error of the caller: %v", err)
	}
}
