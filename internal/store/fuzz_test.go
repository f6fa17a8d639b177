package store

import (
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
)

// scratch is a store that nothing was loaded into.
func scratch(tb testing.TB) *Store {
	dev, err := memdisk.New(8<<20, rand.New(rand.NewPCG(1, 1))).Open(clock.System{}, memdisk.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return newStore(dev, Options{Clock: clock.System{}}.withDefaults(), superblock{id: testIdentity(), size: 8 << 20,
		segmentBytes: testSegment, kept: minKept, dataStart: dataStart(testSegment, minKept), places: 31})
}

func FuzzCatalog(f *testing.F) {
	f.Add(emptyCatalog())
	g := newBed(f, 1)
	v := g.create(1, 100)
	v.write(0, 1, 2, 3)
	v.stable()
	v.write(5, 4)
	v.sync()
	g.run(func() error {
		if err := g.s.Checkpoint(); err != nil {
			return err
		}
		root, _, err := g.s.readRoots()
		if err != nil {
			return err
		}
		b, err := g.s.readCopy(&root, 0)
		f.Add(b)
		return err
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scratch(t)
		if err := s.load(b); err != nil {
			return
		}
		if err := s.space.recount(); err != nil && !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Fatal(err)
		}
	})
}

func FuzzBatchHeader(f *testing.F) {
	b := newBed(f, 1)
	v := b.create(1, 100)
	v.write(0, 1, 2, 3)
	v.zero(7, 2)
	v.sync()
	p := make([]byte, 4*blockSize)
	b.d.Peek(p, b.s.offset(b.s.wal.seg.place, 0))
	for i := range 4 {
		f.Add(p[i*blockSize:][:blockSize])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, ok := parseHeader(p)
		if !ok {
			return
		}
		entries, err := parseEntries(h, p)
		if err != nil {
			return
		}
		n := 0
		for _, e := range entries {
			if len(e.hashes) > 0 && e.payload < n {
				t.Fatalf("an entry's payload begins at unit %d, the one before ends at %d", e.payload, n)
			}
			if len(e.hashes) > 0 {
				n = e.payload + checksum.Length(e.hashes)/unitSize
			}
		}
		if n != int(h.payload) {
			t.Fatalf("%d payload units, the entries have %d", h.payload, n)
		}
	})
}

func FuzzSectors(f *testing.F) {
	sb := superblock{id: testIdentity(), size: 8 << 20, segmentBytes: testSegment, kept: minKept, dataStart: dataStart(testSegment, minKept), places: 31}
	f.Add(sb.encode()[:sectorSize])
	root := rootBlock{seq: 3, life: 2, catalog: [2][]uint32{{0, 5}, {1, 6}}}
	f.Add(root.encode()[:sectorSize])
	kept := make([]byte, blockSize)
	(&keptHead{disk: testIdentity().Disk, seq: 7, length: 100, crc: 1}).encode(kept)
	f.Add(kept[:sectorSize])
	root.list[1] = placeList{known: true, place: 7, crc: 8}
	f.Add(root.encode()[:sectorSize])
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, sealed := range []bool{false, true} {
			if sealed && len(p) >= sectorSize {
				seal(p)
			}
			if r, err := decodeRoot(p); err == nil && len(r.catalog[0]) > rootPlaces {
				t.Fatalf("root with %d places", len(r.catalog[0]))
			}
			if h, err := decodeKept(p); err == nil {
				again := make([]byte, blockSize)
				h.encode(again)
				if g, err := decodeKept(again); err != nil || g != h {
					t.Fatalf("%+v became %+v, %v", h, g, err)
				}
			}
			if b, err := decodeSuper(p); err == nil && b.dataStart+int64(b.places)*b.segmentBytes > b.size {
				t.Fatalf("superblock %+v", b)
			}
		}
	})
}
