package store

import (
	"encoding/binary"
	"errors"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// FormatVersion is the version of everything a store writes, a date;
// docs/format/store.md. A disk of a newer version is refused.
const FormatVersion = 20261127

const (
	superMagic = 0x31534648 // "HFS1"
	rootMagic  = 0x31524648 // "HFR1"
	batchMagic = 0x31424648 // "HFB1"

	blockSize  = holdfast.BlockSize
	sectorSize = 512 // a superblock and a root fit one sector, so they never tear

	// Both copies of the superblock and of the two roots, in bytes.
	superOffset  = 0
	rootOffset   = 1 * blockSize
	mirrorOffset = 16 * blockSize

	rootPlaces = 48  // places of one catalog copy that a root names itself
	rootLists  = 255 // instead of their number: they stand in a list
)

var le = binary.LittleEndian

// superblock is the fixed description of a disk.
type superblock struct {
	id           Identity
	size         int64
	segmentBytes int64
	dataStart    int64
	kept         int64 // bytes of each of two places, just before dataStart, for what the host keeps
	places       uint32
}

func (b *superblock) encode() []byte {
	p := make([]byte, blockSize)
	le.PutUint32(p[0:], superMagic)
	le.PutUint32(p[4:], FormatVersion)
	copy(p[16:], b.id.Cluster.UUID[:])
	copy(p[32:], b.id.Disk.UUID[:])
	copy(p[48:], b.id.Host.UUID[:])
	le.PutUint64(p[64:], uint64(b.size))
	le.PutUint64(p[72:], uint64(b.segmentBytes))
	le.PutUint64(p[80:], uint64(b.dataStart))
	le.PutUint32(p[88:], b.places)
	le.PutUint64(p[96:], uint64(b.kept))
	seal(p)
	return p
}

// seal puts the checksum of a sector-sized structure into bytes 8 to 11.
func seal(p []byte) { le.PutUint32(p[8:], sectorCRC(p)) }

func sectorCRC(p []byte) uint32 {
	var q [sectorSize]byte
	copy(q[:], p)
	clear(q[8:12])
	return checksum.CRC(q[:])
}

// errForeign is the error of bytes that are no structure of ours.
var errForeign = errors.New("not a Holdfast structure")

func checkSector(p []byte, magic uint32, what string) error {
	if len(p) < sectorSize || le.Uint32(p) != magic {
		return errForeign
	}
	if got := sectorCRC(p); got != le.Uint32(p[8:]) {
		return holdfast.Errorf(holdfast.Corrupt, "%s: its checksum is %08x, it says %08x", what, got, le.Uint32(p[8:]))
	}
	if v := le.Uint32(p[4:]); v != FormatVersion {
		return holdfast.Errorf(holdfast.Invalid, "%s: the disk has format %d, this build reads %d; use the Holdfast version that wrote it", what, v, FormatVersion)
	}
	return nil
}

func decodeSuper(p []byte) (b superblock, err error) {
	if err := checkSector(p, superMagic, "superblock"); err != nil {
		return b, err
	}
	copy(b.id.Cluster.UUID[:], p[16:])
	copy(b.id.Disk.UUID[:], p[32:])
	copy(b.id.Host.UUID[:], p[48:])
	b.size = int64(le.Uint64(p[64:]))
	b.segmentBytes = int64(le.Uint64(p[72:]))
	b.dataStart = int64(le.Uint64(p[80:]))
	b.places = le.Uint32(p[88:])
	b.kept = int64(le.Uint64(p[96:]))
	ok := b.kept >= minKept && b.kept <= maxKept && b.kept%blockSize == 0 && b.dataStart >= 2*(mirrorOffset+b.kept) &&
		b.dataStart%blockSize == 0 && checkSegmentBytes(b.segmentBytes) == nil && b.places >= minPlaces && b.size > 0 && b.dataStart <= b.size && int64(b.places) <= (b.size-b.dataStart)/b.segmentBytes
	if !ok {
		return b, holdfast.Errorf(holdfast.Corrupt, "superblock: its sizes contradict each other")
	}
	return b, nil
}

func checkSegmentBytes(n int64) error {
	if n < minSegmentBytes || n > maxSegmentBytes || n&(n-1) != 0 {
		return holdfast.Errorf(holdfast.Invalid, "segments of %d bytes: use a power of two from %d to %d", n, minSegmentBytes, maxSegmentBytes)
	}
	return nil
}

// rootBlock names the newest checkpoint: where its catalog is and where the log
// goes on. Two slots are written in turn, each in two copies.
type rootBlock struct {
	disk    holdfast.DiskID
	seq     uint64 // of the checkpoint; the slot is seq % 2
	life    uint64 // which opening of the disk wrote it
	log     logPos
	bytes   uint64 // of the catalog
	crc     uint32 // of the catalog
	clean   bool   // the store was closed in order behind it
	catalog [2][]uint32
	list    [2]placeList // of those that are too many for the root
}

// placeList is the beginning of a place where the places of a catalog copy are
// named, none if known is unset.
type placeList struct {
	known bool
	place uint32
	crc   uint32
}

// places are those of both copies of the catalog, and of their lists.
func (r *rootBlock) places() (all []uint32) {
	for c := range r.catalog {
		all = append(all, r.catalog[c]...)
		if r.list[c].known {
			all = append(all, r.list[c].place)
		}
	}
	return all
}

// logPos is where the next batch is expected.
type logPos struct {
	place uint32
	seg   uint32
	block uint32
	seq   uint64
}

func (r *rootBlock) encode() []byte {
	p := make([]byte, blockSize)
	le.PutUint32(p[0:], rootMagic)
	le.PutUint32(p[4:], FormatVersion)
	copy(p[16:], r.disk.UUID[:])
	le.PutUint64(p[32:], r.seq)
	le.PutUint64(p[40:], r.life)
	le.PutUint32(p[48:], r.log.place)
	le.PutUint32(p[52:], r.log.seg)
	le.PutUint32(p[56:], r.log.block)
	le.PutUint64(p[64:], r.log.seq)
	le.PutUint64(p[72:], r.bytes)
	le.PutUint32(p[80:], r.crc)
	if r.clean {
		p[86] = 1
	}
	for i, places := range r.catalog {
		p[84+i] = byte(len(places))
		if l := r.list[i]; l.known {
			p[84+i] = rootLists
			places = []uint32{l.place, l.crc}
		}
		for j, x := range places {
			le.PutUint32(p[96+4*(i*rootPlaces+j):], x)
		}
	}
	seal(p)
	return p
}

func decodeRoot(p []byte) (r rootBlock, err error) {
	if err := checkSector(p, rootMagic, "checkpoint root"); err != nil {
		return r, err
	}
	copy(r.disk.UUID[:], p[16:])
	r.seq = le.Uint64(p[32:])
	r.life = le.Uint64(p[40:])
	r.log = logPos{place: le.Uint32(p[48:]), seg: le.Uint32(p[52:]), block: le.Uint32(p[56:]), seq: le.Uint64(p[64:])}
	r.bytes = le.Uint64(p[72:])
	r.crc = le.Uint32(p[80:])
	r.clean = p[86] == 1
	for i := range r.catalog {
		n := int(p[84+i])
		at := p[96+4*i*rootPlaces:]
		if n == rootLists {
			r.list[i] = placeList{known: true, place: le.Uint32(at), crc: le.Uint32(at[4:])}
			continue
		}
		if n > rootPlaces {
			return r, holdfast.Errorf(holdfast.Corrupt, "checkpoint root: %d catalog places, at most %d fit", n, rootPlaces)
		}
		for j := range n {
			r.catalog[i] = append(r.catalog[i], le.Uint32(at[4*j:]))
		}
	}
	return r, nil
}

// rootAt is the offset of a copy (0, 1) of the root in a slot (0, 1).
func rootAt(slot, copy int) int64 {
	return int64(rootOffset + slot*blockSize + copy*mirrorOffset)
}

// Format writes an empty store onto a device. A device that already holds one,
// of whatever version, is refused with kind Exists; one that is too small with
// kind Invalid.
func Format(dev disk.Device, id Identity, o Options) error {
	o = o.withDefaults()
	if err := checkSegmentBytes(o.SegmentBytes); err != nil {
		return err
	}
	geo := dev.Geometry()
	if geo.Sector <= 0 || blockSize%geo.Sector != 0 || geo.Sector%sectorSize != 0 {
		return holdfast.Errorf(holdfast.Invalid, "format disk: sectors of %d bytes; a divisor of %d and a multiple of %d is needed", geo.Sector, blockSize, sectorSize)
	}
	sb := superblock{id: id, size: geo.Size, segmentBytes: o.SegmentBytes, kept: keptRoom(geo.Size)}
	sb.dataStart = dataStart(o.SegmentBytes, sb.kept)
	places := (geo.Size - sb.dataStart) / o.SegmentBytes
	if places < minPlaces {
		return holdfast.Errorf(holdfast.Invalid, "format disk: %d bytes hold %d segments of %d bytes, at least %d are needed; use a larger disk or smaller segments",
			geo.Size, max(places, 0), o.SegmentBytes, minPlaces)
	}
	sb.places = uint32(min(places, 1<<31))
	if err := Wiped(dev); err != nil {
		return err
	}
	return writeEmpty(dev, sb)
}

// Wiped is nil if a device holds no store, of whatever version. Kind Exists: it
// does, or what is left of one.
func Wiped(dev disk.Device) error {
	p := make([]byte, blockSize)
	for _, off := range []int64{superOffset, mirrorOffset} {
		if err := dev.ReadAt(p, off); err != nil {
			return holdfast.Errorf(holdfast.IO, "format disk: read: %w", err)
		}
		if le.Uint32(p) == superMagic {
			return holdfast.Errorf(holdfast.Exists, "format disk: it already holds a Holdfast store; to give it up, wipe its first MiB first")
		}
	}
	return nil
}

// dataStart is where the first place is: behind superblock, roots, scrub pages and
// what the host keeps, on a whole MiB if segments have one or more.
func dataStart(segmentBytes, kept int64) int64 {
	n := 2*mirrorOffset + 2*kept
	if segmentBytes >= 1<<20 {
		n = (n + 1<<20 - 1) >> 20 << 20
	}
	return n
}

// writeEmpty writes an empty catalog and its roots, and the superblock last: a
// format that is interrupted leaves a disk that is not formatted.
func writeEmpty(dev disk.Device, sb superblock) error {
	cat := emptyCatalog()
	root := rootBlock{disk: sb.id.Disk, seq: 1, life: 1, bytes: uint64(len(cat)), crc: checksum.CRC(cat), catalog: [2][]uint32{{0}, {1}}}
	root.log = logPos{place: noPlace, seg: 1, seq: 1}
	buf := make([]byte, roundUp(len(cat)))
	copy(buf, cat)
	write := func(p []byte, off int64) error {
		if err := dev.WriteAt(p, off); err != nil {
			return holdfast.Errorf(holdfast.IO, "format disk: write: %w", err)
		}
		return nil
	}
	sync := func() error {
		if err := dev.Sync(); err != nil {
			return holdfast.Errorf(holdfast.IO, "format disk: sync: %w", err)
		}
		return nil
	}
	for c := range 2 {
		if err := write(buf, sb.dataStart+int64(c)*sb.segmentBytes); err != nil {
			return err
		}
		old := root
		old.seq = 0
		for _, r := range []rootBlock{old, root} {
			if err := write(r.encode(), rootAt(int(r.seq%2), c)); err != nil {
				return err
			}
		}
	}
	if err := sync(); err != nil {
		return err
	}
	for c := range 2 {
		if err := write(sb.encode(), int64(superOffset+c*mirrorOffset)); err != nil {
			return err
		}
	}
	return sync()
}

// roundUp rounds to whole blocks.
func roundUp(n int) int { return (n + blockSize - 1) / blockSize * blockSize }
