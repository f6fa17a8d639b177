package store

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// What a host keeps on its disk beside the store (docs/format/store.md): bytes
// that the store does not know, in two places that are written in turn, so that
// one of them is whole whatever is torn. They have nothing to do with log and
// checkpoints, and can be read without opening the store.

const (
	keptMagic = 0x314B4648 // "HFK1"
	minKept   = 64 << 10   // of a place, with its header
	maxKept   = 32 << 20
	keptPiece = 256 << 10 // of one write, so that no sync of the log waits long
)

// keptRoom is how large each of the places is on a disk of a size.
func keptRoom(size int64) int64 {
	return min(max(size/512/minKept*minKept, minKept), maxKept)
}

func (b *superblock) keptAt(slot uint64) int64 {
	return b.dataStart - int64(2-slot%2)*b.kept
}

// keptHead is the header of a place, a block.
type keptHead struct {
	disk   holdfast.DiskID
	seq    uint64
	length uint64
	crc    uint32 // of the bytes that follow
}

func (h *keptHead) encode(p []byte) {
	le.PutUint32(p[0:], keptMagic)
	le.PutUint32(p[4:], FormatVersion)
	copy(p[16:], h.disk.UUID[:])
	le.PutUint64(p[32:], h.seq)
	le.PutUint64(p[40:], h.length)
	le.PutUint32(p[48:], h.crc)
	seal(p)
}

func decodeKept(p []byte) (h keptHead, err error) {
	if err := checkSector(p, keptMagic, "what the host keeps"); err != nil {
		return h, err
	}
	copy(h.disk.UUID[:], p[16:])
	h.seq, h.length, h.crc = le.Uint64(p[32:]), le.Uint64(p[40:]), le.Uint32(p[48:])
	return h, nil
}

// KeptRoom is how many bytes Keep takes at most.
func (s *Store) KeptRoom() int64 { return s.sb.kept - blockSize }

// Keep writes b to the disk, durably, in the place of the older of the last two.
// It may be called from one task at a time. Kind NoSpace: it is longer than
// KeptRoom; otherwise the disk's errors.
func (s *Store) Keep(b []byte) error {
	if int64(len(b)) > s.KeptRoom() {
		return holdfast.Errorf(holdfast.NoSpace, "%d bytes are too many to be kept on a disk of %d, which has room for %d", len(b), s.sb.size, s.KeptRoom())
	}
	if s.keptSeq == 0 {
		if all := readKept(s.dev, &s.sb); len(all) > 0 {
			s.keptSeq = all[0].seq
		}
	}
	h := keptHead{disk: s.id.Disk, seq: s.keptSeq + 1, length: uint64(len(b)), crc: checksum.CRC(b)}
	buf := newBuffer(shape{header: 1 + roundUp(len(b))/blockSize}).b
	h.encode(buf)
	copy(buf[blockSize:], b)
	sw, direct := s.dev.(disk.SyncWriter)
	for at := 0; at < len(buf); at += keptPiece {
		piece, off := buf[at:min(at+keptPiece, len(buf))], s.sb.keptAt(h.seq)+int64(at)
		var err error
		if direct {
			err = s.sync("what the host keeps", func() error { return s.devWriteBy(sw.WriteSync, &s.usage.Catalog, piece, off) })
		} else {
			err = s.devWrite(&s.usage.Catalog, piece, off)
		}
		if err != nil {
			return holdfast.Errorf(holdfast.IO, "what the host keeps: %w", err)
		}
	}
	if !direct {
		if err := s.sync("what the host keeps", s.dev.Sync); err != nil {
			return err
		}
	}
	s.keptSeq = h.seq
	return nil
}

func readKeptHead(dev disk.Device, sb *superblock, slot uint64) (keptHead, error) {
	p := newBuffer(shape{header: 1}).b
	if err := dev.ReadAt(p, sb.keptAt(slot)); err != nil {
		return keptHead{}, err
	}
	h, err := decodeKept(p)
	if err == nil && (h.disk != sb.id.Disk || h.seq%2 != slot || int64(h.length) < 0 || int64(h.length) > sb.kept-blockSize) {
		return keptHead{}, errForeign
	}
	return h, err
}

// Kept returns whose disk a device is and what a host kept on it, the newest
// first, without opening its store. Kind Invalid: it holds no store, or one of
// another version.
func Kept(dev disk.Device) (id Identity, kept [][]byte, err error) {
	sb, err := readSuper(dev, false)
	if err != nil {
		return id, nil, err
	}
	for _, k := range readKept(dev, &sb) {
		kept = append(kept, k.b)
	}
	return sb.id, kept, nil
}

// keptWhole is what stands whole in a place.
type keptWhole struct {
	seq uint64
	b   []byte
}

// readKept reads the places, the newest first; what was never written, is torn or
// rotten is left out.
func readKept(dev disk.Device, sb *superblock) (all []keptWhole) {
	for slot := range uint64(2) {
		h, err := readKeptHead(dev, sb, slot)
		if err != nil {
			continue
		}
		p := newBuffer(shape{header: max(1, roundUp(int(h.length))/blockSize)}).b
		if err := dev.ReadAt(p, sb.keptAt(slot)+blockSize); err == nil && checksum.CRC(p[:h.length]) == h.crc {
			all = append(all, keptWhole{h.seq, p[:h.length]})
		}
	}
	slices.SortFunc(all, func(a, b keptWhole) int { return cmp.Compare(b.seq, a.seq) })
	return all
}
