package store

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// A volume whose map has 100 leaves is read, written and snapshotted with room
// for 20 pages: what is in memory stays near that, and all of it is right.
func TestTheMapKeepsWithinItsMemory(t *testing.T) {
	const leaves, room = 100, 20 * blockmap.LeafBytes
	b := newBedOf(t, 5, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 4 << 20, MapMemory: room}, memdisk.Options{})
	v := b.create(1, leaves*blockmap.Fan)
	most := int64(0)
	note := func() { most = max(most, b.s.MapResident()) }
	tag := func(leaf uint64) uint64 { return leaf*blockmap.Fan + leaf }
	for leaf := range uint64(leaves) {
		v.write(tag(leaf), 1000+leaf)
		v.stable()
		note()
	}
	v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
	v.stable()
	b.run(b.s.Checkpoint)
	for range 2 {
		for leaf := range uint64(leaves) {
			v.want(tag(leaf), 1000+leaf)
			v.wantSnap(snapID(1), tag(leaf), 1000+leaf)
			note()
		}
		b.restart()
	}
	for leaf := range uint64(leaves) {
		v.write(tag(leaf), 2000+leaf)
		v.stable()
		note()
	}
	for leaf := range uint64(leaves) {
		v.want(tag(leaf), 2000+leaf)
		v.wantSnap(snapID(1), tag(leaf), 1000+leaf)
		note()
	}
	if most > 2*room {
		t.Errorf("the map took up to %d bytes with room for %d", most, room)
	}
	b.run(func() error { return b.s.Remove(v.id) })
	b.settle()
	for range 3 {
		b.run(b.s.Checkpoint)
	}
	if u := b.s.Usage(); u.Live != 0 {
		t.Errorf("%d blocks are live though no replica is left", u.Live/holdfast.BlockSize)
	}
}

// What stands above the leaves of the maps lies in segments of its own, before and
// after a restart, so that opening finds it in few places.
func TestInnerPagesLieTogether(t *testing.T) {
	b := newBed(t, 6)
	var vols []*vol
	for i := range byte(8) {
		vols = append(vols, b.create(i+1, 3*blockmap.Fan))
	}
	var inner uint32
	for round := range uint64(3) {
		for _, v := range vols {
			for leaf := range uint64(3) {
				v.write(leaf*blockmap.Fan, round+1)
			}
			v.stable()
		}
		b.run(b.s.Checkpoint)
		b.run(b.s.Checkpoint) // the pages of before are known to be free
		b.s.lock()
		leaves, above := b.s.metaSegs[0], b.s.metaSegs[1]
		if leaves == nil || above == nil || leaves == above || round > 0 && above.num != inner {
			t.Fatalf("round %d: pages go to %+v and %+v", round, leaves, above)
		}
		inner = above.num
		if above.nlive != len(vols)*blockUnit {
			t.Errorf("round %d: %d units of pages above the leaves, not %d", round, above.nlive, len(vols)*blockUnit)
		}
		b.s.unlock()
		b.restart()
	}
	for _, v := range vols {
		v.want(2*blockmap.Fan, 3)
	}
}
