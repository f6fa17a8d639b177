package blockmap

import "testing"

// TestAheadNamesWhatAWalkAsksFor: with the pages that it names in memory, level
// by level, a walk of that part asks for none; and it names no others, of a
// difference only those that the two do not share.
func TestAheadNamesWhatAWalkAsksFor(t *testing.T) {
	p, disk := NewPages(nil), newShelf()
	tree := dense(t, p, disk)
	old := tree.Snapshot()
	defer old.Release()
	must(t, p, disk, func() error { _, err := tree.Set(5, data(1<<30)); return err })
	must(t, p, disk, func() error { _, err := tree.Set(300*Fan, data(1<<30+1)); return err })
	now := tree.Snapshot()
	defer now.Release()
	flushAll(t, now, disk)
	load := func(b *Root, from, to uint64) (leaves int) {
		for {
			absent := Ahead(now, b, from, to)
			if len(absent) == 0 {
				return leaves
			}
			for _, m := range absent {
				if err := p.Install(m, disk.pages[m.ID]); err != nil {
					t.Fatal(err)
				}
				if m.Level == 0 {
					leaves++
				}
			}
		}
	}
	evictAll(p)
	if n := load(nil, 10*Fan, 20*Fan); n != 10 {
		t.Errorf("%d leaves were loaded for a walk of 10", n)
	}
	seen := 0
	if err := now.Walk(0, 10*Fan, func(uint64, uint64, Entry) bool { seen++; return seen < 10*Fan }); err != nil {
		t.Errorf("after %d blocks: %v", seen, err)
	}
	evictAll(p)
	if n := load(old, 0, 600*Fan); n != 4 {
		t.Errorf("%d leaves were loaded to compare two that differ in 2 leaves of 600", n)
	}
	differ := 0
	if err := Diff(now, old, 0, func(uint64, uint64, Entry, Entry) bool { differ++; return true }); err != nil || differ != 2 {
		t.Errorf("%d blocks differ, %v", differ, err)
	}
}
