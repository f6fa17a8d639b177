package store

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
)

// A catalog of more places than a root can name is written and read, both copies:
// a large disk whose segments were overwritten at random has one.
func TestACatalogMayBeLargerThanItsRootCanName(t *testing.T) {
	b := newBedOf(t, 41, 40<<20, Options{SegmentBytes: testSegment}, memdisk.Options{})
	cat := make([]byte, rootPlaces*testSegment+12345)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(cat); i += 100 {
		cat[i] = byte(r.Uint32())
	}
	was := rootBlock{bytes: uint64(len(cat)), crc: checksum.CRC(cat)}
	b.run(func() error { return b.s.writeCatalog(&was, cat) })
	for c := range 2 {
		root, err := decodeRoot(was.encode()[:sectorSize])
		if err != nil {
			t.Fatal(err)
		}
		b.run(func() error {
			got, err := b.s.readCopy(&root, c)
			if err == nil && !bytes.Equal(got, cat) {
				t.Errorf("copy %d is read as something else", c)
			}
			return err
		})
	}
	if n := len(was.places()); n != 2*(rootPlaces+1)+2 {
		t.Errorf("it takes %d places", n)
	}
}

// A store whose roots name lists comes back after crashes, uses their places again,
// and is refused as damaged only if both lists are.
func TestAStoreWhoseRootsNameLists(t *testing.T) {
	b := newBedOf(t, 42, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 1 << 20, listed: true}, memdisk.Options{})
	v := b.create(1, 1000)
	for i := range uint64(60) {
		v.write(i, 100+i)
		v.stable()
		b.run(b.s.Checkpoint) // each takes four places of some dozens
		if i%20 == 19 {
			b.crash()
		}
	}
	b.restart()
	for i := range uint64(60) {
		v.want(i, 100+i)
	}
	lists := b.lastRoot().list
	b.run(b.s.Close)
	b.host.Kill()
	b.d.Kill()
	for c, l := range lists {
		if !l.known {
			t.Fatalf("copy %d has no list: nothing was tested", c)
		}
	}
	root := b.lastRoot()
	b.d.Poke(make([]byte, blockSize), b.s.offset(root.list[0].place, 0))
	b.boot()
	b.open()
	v.want(7, 107)
	b.run(b.s.Close)
	b.host.Kill()
	b.d.Kill()
	root = b.lastRoot()
	for _, l := range root.list {
		b.d.Poke(make([]byte, blockSize), b.s.offset(l.place, 0))
	}
	b.boot()
	if err := b.tryOpen(); !holdfast.IsKind(err, holdfast.Damaged) {
		t.Fatalf("without any list the disk is opened: %v", err)
	}
}

// A catalog that comes near the most that is read holds writers, as a full disk
// does, so that there is always a checkpoint.
func TestACatalogNearItsMostHoldsWriters(t *testing.T) {
	b := newBed(t, 43)
	b.s.lock()
	defer b.s.unlock()
	if b.s.full() {
		t.Fatal("an empty disk is full")
	}
	if b.s.catalogBytes = fullCatalog; !b.s.full() {
		t.Error("writers may go on")
	}
}

// lastRoot is the newest root on the disk.
func (b *bed) lastRoot() (best rootBlock) {
	b.t.Helper()
	for slot := range 2 {
		p := make([]byte, blockSize)
		b.d.Peek(p, rootAt(slot, 0))
		if r, err := decodeRoot(p[:sectorSize]); err == nil && r.seq > best.seq {
			best = r
		}
	}
	return best
}
