package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/holdfast-cloud/holdfast"
)

// header is what the first cluster says.
type header struct {
	version     uint32
	clusterBits uint
	size        int64
	l1Entries   int64
	l1Offset    int64
	snapshots   uint32
	snapshotsAt int64
	features    uint64 // incompatible
	zstd        bool
	extended    bool // L2 entries

	backing       string
	backingFormat string
}

func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// entryBits is the length of an L2 entry, as a power of two.
func (h *header) entryBits() uint {
	if h.extended {
		return 4
	}
	return 3
}

// l2Span is how many bytes of the disk an L2 table speaks of.
func (h *header) l2Span() int64 { return 1 << (2*h.clusterBits - h.entryBits()) }

// readHeader reads and judges the header of a file of so many bytes.
func readHeader(r io.ReaderAt, length int64) (*header, error) {
	b := make([]byte, min(length, 1<<maxClusterBits))
	if len(b) < headerV2 {
		return nil, bad("it has only %d bytes", length)
	}
	first := b[:min(len(b), 4096)]
	if err := readFull(r, first, 0); err != nil {
		return nil, err
	}
	h, err := parseFields(first)
	if err != nil {
		return nil, err
	}
	b = b[:min(int64(len(b)), h.clusterSize())]
	if err := readFull(r, b, 0); err != nil {
		return nil, err
	}
	return h, h.parseRest(b, length)
}

// parseFields reads the fixed fields that say how the rest is to be read.
func parseFields(b []byte) (*header, error) {
	be := binary.BigEndian
	if string(b[:4]) != magic {
		return nil, bad("it does not begin as one")
	}
	h := &header{version: be.Uint32(b[4:]), snapshots: be.Uint32(b[60:]), snapshotsAt: int64(be.Uint64(b[64:])),
		l1Entries: int64(be.Uint32(b[36:])), l1Offset: int64(be.Uint64(b[40:]))}
	if h.version != 2 && h.version != 3 {
		return nil, holdfast.Errorf(holdfast.Invalid, "this is a QCOW image of version %d, and only 2 and 3 are known: convert it first with the qemu-img that made it", h.version)
	}
	bits, size := be.Uint32(b[20:]), be.Uint64(b[24:])
	switch {
	case bits < minClusterBits || bits > maxClusterBits:
		return nil, bad("clusters of 2^%d bytes; they can have 2^%d to 2^%d", bits, minClusterBits, maxClusterBits)
	case size > 1<<60:
		return nil, bad("a disk of %d bytes", size)
	case size == 0:
		return nil, holdfast.Errorf(holdfast.Invalid, "the image is empty: its disk has no bytes")
	}
	h.clusterBits, h.size = uint(bits), int64(size)
	switch crypt := be.Uint32(b[32:]); crypt {
	case 0:
	case 1, 2:
		return nil, holdfast.Errorf(holdfast.Invalid, "the image is encrypted (%s): decrypt it first, with qemu-img convert and its key", [...]string{"", "AES", "LUKS"}[crypt])
	default:
		return nil, bad("encryption of kind %d", crypt)
	}
	return h, nil
}

// parseRest reads the fields of version 3 and the extensions, from the whole
// first cluster, and checks where the tables are.
func (h *header) parseRest(b []byte, length int64) error {
	be := binary.BigEndian
	end, compression := headerV2, byte(0)
	if h.version == 3 {
		if len(b) < headerV3 {
			return bad("it ends in its header")
		}
		n := be.Uint32(b[100:])
		if n < headerV3 || n%8 != 0 || int64(n) > int64(len(b)) {
			return bad("a header of %d bytes", n)
		}
		if order := be.Uint32(b[96:]); order > 6 {
			return bad("refcounts of 2^%d bits", order)
		}
		end, h.features = int(n), be.Uint64(b[72:])
		if n > headerV3 {
			compression = b[headerV3]
		}
	}
	ext, err := parseExtensions(b[end:])
	if err != nil {
		return err
	}
	if err := h.checkFeatures(compression, ext.names); err != nil {
		return err
	}
	h.backingFormat = ext.format
	if h.backing, err = backingName(b); err != nil {
		return err
	}
	return h.checkTables(length)
}

// checkFeatures refuses what is not understood.
func (h *header) checkFeatures(compression byte, names map[int]string) error {
	has := func(bit int) bool { return h.features&(1<<bit) != 0 }
	h.zstd, h.extended = has(bitCompressionType), has(bitExtendedL2)
	switch {
	case has(bitCorrupt):
		return holdfast.Errorf(holdfast.Invalid, "the image is marked as corrupt: run qemu-img check -r all on a copy, and look at what it lost")
	case has(bitExternalData):
		return holdfast.Errorf(holdfast.Invalid, "the image keeps its data in another file: put both into one first: qemu-img convert -O qcow2 FILE flat.qcow2")
	case h.features>>(bitExtendedL2+1) != 0:
		for bit := bitExtendedL2 + 1; ; bit++ {
			if has(bit) {
				return holdfast.Errorf(holdfast.Invalid, "the image needs a feature that is not known here: bit %d%s; convert it first: qemu-img convert -O qcow2 FILE plain.qcow2", bit, named(names[bit]))
			}
		}
	case h.zstd != (compression != 0):
		return bad("its compression type, %d, is not what its features say", compression)
	case compression > 1:
		return holdfast.Errorf(holdfast.Invalid, "the image is compressed in a way that is not known here (type %d); convert it first: qemu-img convert -O qcow2 FILE plain.qcow2", compression)
	case h.extended && h.clusterBits < extendedBits:
		return bad("extended L2 entries with clusters of 2^%d bytes", h.clusterBits)
	}
	return nil
}

func named(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf(", which it calls %q", s)
}

// checkTables checks what the header says of the L1 table.
func (h *header) checkTables(length int64) error {
	need := (h.size + h.l2Span() - 1) / h.l2Span()
	switch {
	case h.l1Entries*8 > maxL1Bytes:
		return bad("an L1 table of %d entries", h.l1Entries)
	case need > h.l1Entries:
		return bad("an L1 table of %d entries, and the disk of %d bytes needs %d", h.l1Entries, h.size, need)
	case h.l1Offset < h.clusterSize() || h.l1Offset%h.clusterSize() != 0:
		return bad("its L1 table is at %d", h.l1Offset)
	case h.l1Offset > length || length-h.l1Offset < h.l1Entries*8:
		return bad("its L1 table, at %d, is not within its %d bytes; was it downloaded whole?", h.l1Offset, length)
	}
	return nil
}

// backingName reads the name of the file that an image is the difference to.
func backingName(b []byte) (string, error) {
	at, n := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:])
	if at == 0 {
		return "", nil
	}
	if n == 0 || n > maxName || at > uint64(len(b)) || uint64(len(b))-at < uint64(n) {
		return "", bad("its backing file's name, of %d bytes at %d, is not within its first cluster", n, at)
	}
	return string(b[at : at+uint64(n)]), nil
}

// Types of header extensions.
const (
	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extFeatureNames  = 0x6803f857
	featureNameSize  = 48
)

type extensions struct {
	format string         // of the backing file
	names  map[int]string // of incompatible features
}

// parseExtensions reads what stands behind the header's fields.
func parseExtensions(b []byte) (x extensions, err error) {
	for len(b) >= 8 {
		kind, n := binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint32(b[4:]))
		if kind == extEnd {
			return x, nil
		}
		b = b[8:]
		if n > int64(len(b)) {
			return x, bad("a header extension of %d bytes", n)
		}
		switch data := b[:n]; kind {
		case extBackingFormat:
			x.format = string(data)
		case extFeatureNames:
			x.names = map[int]string{}
			for ; len(data) >= featureNameSize; data = data[featureNameSize:] {
				if data[0] == 0 {
					x.names[int(data[1])] = string(bytes.TrimRight(data[2:featureNameSize], "\x00"))
				}
			}
		}
		b = b[min((n+7)&^7, int64(len(b))):]
	}
	return x, nil
}

// readFull reads all of b.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return bad("it ends before %d", off+int64(len(b)))
	}
	if holdfast.KindOf(err) == holdfast.Other {
		err = holdfast.Errorf(holdfast.IO, "read the image: %w", err)
	}
	return err
}
