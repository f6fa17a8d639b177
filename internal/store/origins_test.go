package store

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// TestADiskServesMoreVolumesThanItCanTellApart: what counts is how many there
// are at a time, not over the disk's life. A volume that is gone keeps its
// number while a clone has blocks of it.
func TestADiskServesMoreVolumesThanItCanTellApart(t *testing.T) {
	b := newBed(t, 38)
	b.s.originLimit = 4
	image := b.create(1, 100)
	image.write(0, 1, 2)
	image.stable()
	c := &vol{b, replicaID(2), volumeID(2)}
	b.run(func() error { _, err := b.s.Clone(c.id, c.vid, image.r(), holdfast.SnapshotID{}); return err })
	c.begin(2)
	c.write(1, 20)
	c.stable()
	b.run(func() error { return b.s.Remove(image.id) })
	for n := byte(3); n < 12; n++ {
		v := b.create(n, 100)
		v.write(0, uint64(n))
		v.stable()
		v.want(0, uint64(n))
		c.want(0, 1, 20)
		if n%3 == 0 {
			b.crash()
			b.s.originLimit = 4
			c.want(0, 1, 20)
		}
		b.run(func() error { return b.s.Remove(v.id) })
		b.settle()
	}
	c.want(0, 1, 20)
	keep := []*vol{c, b.create(12, 100), b.create(13, 100)}
	if err := b.try(func() error { _, err := b.s.Create(replicaID(14), volumeID(14), 100); return err }); !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Errorf("a volume more than can be told apart: %v", err)
	}
	x := writeRec(volumeID(15), 5, 0, 1)
	b.run(func() error { return keep[1].r().BeginBuild(now(keep[1].r()), Build{Base: holdfast.MakeLSN(9, 9)}) })
	err := b.try(func() error {
		return keep[1].r().Ingest(now(keep[1].r()), []Block{{LSN: 5, Origin: volumeID(15), Hash: x.Hashes[0], Data: x.Data}})
	})
	if !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Errorf("a block of a volume more than can be told apart: %v", err)
	}
	b.gone(keep...)
	if n := len(b.s.origins); n > 4 {
		t.Errorf("the disk lists %d volumes", n)
	}
}
