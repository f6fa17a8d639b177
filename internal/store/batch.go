package store

import (
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// batch is one group commit: entries in aligned header blocks, then their
// payload blocks. It gathers in memory, gets its place in the log when it is
// closed, and is written with one write. Under the store's lock, but the bytes
// of buf belong to the committer from closing until the write has returned.
type batch struct {
	seq     uint64
	head    logPos // where its header goes, once closed
	blocks  uint32 // of header
	slot    uint16 // of the first payload block, once closed
	closed  bool
	last    bool // seals its segment
	isNote  bool // has no records, says only what is synced and stable
	buf     *buffer
	entries uint32
	hdr     int // bytes of header used, headerSize included
	n       int // payload blocks
	hashes  []uint64
	touched []touch
	written []func(error)
	synced  []func(error)
	dead    []uint32 // payload blocks freed before it was closed
	lost    []uint32 // payload blocks that only stand for lost ones
}

// touch notes the last LSN of a head that a batch makes durable.
type touch struct {
	h   *head
	lsn holdfast.LSN
}

// buffer is room for one batch: headers grow from the front of the header part,
// payload from the front of the rest.
type buffer struct{ b []byte }

const (
	headerSize      = 96      // fixed part of a batch header
	headerMaxBlocks = 16      // at most 64 KiB of header
	entrySize       = 8       // in front of every entry's body
	softBlocks      = 256     // a batch of this much payload is closed
	alignment       = 4096    // of buffers, for direct I/O
	maxEntry        = 4 << 10 // longest entry: a Write of 256 blocks
)

// shape is the sizes of batches for a segment size.
type shape struct {
	header int // header blocks at most
	soft   int // payload blocks at which a batch is closed
	hard   int // payload blocks at most
}

func shapeFor(segBlocks uint32) shape {
	soft := min(softBlocks, int(segBlocks)/8)
	return shape{header: min(headerMaxBlocks, max(4, int(segBlocks)/64)), soft: soft, hard: 2 * soft}
}

func newBuffer(sh shape) *buffer {
	n := (sh.header + sh.hard) * blockSize
	b := make([]byte, n) // whole blocks are mostly aligned as they are
	skip := misaligned(b)
	if skip != 0 {
		b = make([]byte, n+alignment)
		skip = misaligned(b)
	}
	return &buffer{b: b[skip : skip+n : skip+n]}
}

// misaligned is how many bytes are missing until the next boundary.
func misaligned(b []byte) int {
	return int(-uintptr(unsafe.Pointer(&b[0])) % alignment)
}

// payload is the bytes of payload blocks i to i+n.
func (b *batch) payload(sh shape, i, n int) []byte {
	at := (sh.header + i) * blockSize
	return b.buf.b[at : at+n*blockSize]
}

// room reports whether an entry whose body has n bytes still fits the header.
func (b *batch) room(sh shape, n int) bool {
	return b.hdr+entrySize+n <= sh.header*blockSize
}

// entryKind says what an entry of a batch is.
type entryKind uint8

const (
	entryRecord   entryKind = 1  // a record of a replica; a Write has payload
	entryStable   entryKind = 2  // u64 LSN: the replica's stable
	entryCreate   entryKind = 3  // see control.go
	entryClone    entryKind = 4  //
	entryRemove   entryKind = 5  //
	entryPromise  entryKind = 6  // u32 epoch
	entryTruncate entryKind = 7  // u64 cut
	entryBuild    entryKind = 8  // a build begins: whatever follows for the replica does not survive a restart
	entryAbort    entryKind = 9  // the build was given up; the replica stays ineligible
	entryIngest   entryKind = 10 // origin, address, LSN, hash of a block of a build; payload unless a hole
	entryRepair   entryKind = 11 // segment, slot of a block whose bytes are in the payload; with origin to check them
	entryDamage   entryKind = 12 // the replica is not eligible from here on; text
)

// begin starts an entry and returns the header bytes to append its body to.
func (b *batch) begin(k entryKind, replica uint32) []byte {
	p := b.buf.b[b.hdr:b.hdr:len(b.buf.b)]
	p = le.AppendUint32(p, replica)
	return append(p, byte(k), 0, 0, 0)
}

// end takes the entry that begin started, now complete.
func (b *batch) end(p []byte) {
	le.PutUint16(p[6:], uint16(len(p)-entrySize))
	b.hdr += len(p)
	b.entries++
}

// headerInfo is the fixed part of a batch header.
type headerInfo struct {
	disk    holdfast.DiskID
	life    uint64
	seq     uint64
	synced  uint64 // last batch known to be on disk when this one was written
	ckpt    uint64 // last checkpoint known to be on disk
	seg     uint32
	block   uint32
	blocks  uint32 // of header
	payload uint32 // blocks
	bytes   uint32 // of header used
	entries uint32
	next    uint32 // place where the log goes on after this segment; noPlace: not decided
	last    bool   // the log goes on there with the next batch
}

// put writes the fixed part and the checksum over all header blocks p.
func (h *headerInfo) put(p []byte) {
	clear(p[:headerSize])
	le.PutUint32(p[0:], batchMagic)
	le.PutUint32(p[4:], FormatVersion)
	copy(p[16:], h.disk.UUID[:])
	le.PutUint64(p[32:], h.life)
	le.PutUint64(p[40:], h.seq)
	le.PutUint64(p[48:], h.synced)
	le.PutUint64(p[56:], h.ckpt)
	le.PutUint32(p[64:], h.seg)
	le.PutUint32(p[68:], h.block)
	le.PutUint32(p[72:], h.payload)
	le.PutUint32(p[76:], h.bytes)
	le.PutUint32(p[80:], h.entries)
	le.PutUint32(p[84:], h.next)
	le.PutUint16(p[88:], uint16(h.blocks))
	if h.last {
		p[90] = 1
	}
	le.PutUint32(p[8:], checksum.CRC(p[12:]))
}

// parseHeader reads the fixed part of a header whose first block is p; the
// checksum needs all blocks and is checked by checkHeader.
func parseHeader(p []byte) (h headerInfo, ok bool) {
	if len(p) < blockSize || le.Uint32(p) != batchMagic || le.Uint32(p[4:]) != FormatVersion {
		return h, false
	}
	copy(h.disk.UUID[:], p[16:])
	h.life = le.Uint64(p[32:])
	h.seq = le.Uint64(p[40:])
	h.synced = le.Uint64(p[48:])
	h.ckpt = le.Uint64(p[56:])
	h.seg = le.Uint32(p[64:])
	h.block = le.Uint32(p[68:])
	h.payload = le.Uint32(p[72:])
	h.bytes = le.Uint32(p[76:])
	h.entries = le.Uint32(p[80:])
	h.next = le.Uint32(p[84:])
	h.blocks = uint32(le.Uint16(p[88:]))
	h.last = p[90] == 1
	ok = h.blocks > 0 && h.blocks <= headerMaxBlocks && h.bytes >= headerSize && h.bytes <= h.blocks*blockSize &&
		h.payload <= 2*softBlocks && h.synced < h.seq && h.entries <= h.bytes/entrySize
	return h, ok
}

func checkHeader(p []byte) bool { return le.Uint32(p[8:]) == checksum.CRC(p[12:]) }

// entry is one decoded entry of a batch.
type entry struct {
	replica uint32
	kind    entryKind
	body    []byte
	rec     record.Record // entryRecord
	payload int           // first payload block
	blocks  int           // payload blocks
}

// parseEntries decodes the entries of a whole, checked header.
func parseEntries(h headerInfo, p []byte) ([]entry, error) {
	bad := func(what string) ([]entry, error) {
		return nil, holdfast.Errorf(holdfast.Corrupt, "batch %d: %s", h.seq, what)
	}
	if int(h.bytes) > len(p) || h.bytes < headerSize {
		return bad("its header is cut off")
	}
	p = p[headerSize:h.bytes]
	var out []entry
	payload := 0
	for range h.entries {
		if len(p) < entrySize {
			return bad("its entries are cut off")
		}
		e := entry{replica: le.Uint32(p), kind: entryKind(p[4]), payload: payload}
		n := int(le.Uint16(p[6:]))
		if len(p) < entrySize+n {
			return bad("an entry is cut off")
		}
		e.body = p[entrySize : entrySize+n]
		p = p[entrySize+n:]
		if err := e.parse(); err != nil {
			return nil, err
		}
		payload += e.blocks
		out = append(out, e)
	}
	if payload != int(h.payload) || len(p) != 0 {
		return bad("its entries and its payload do not agree")
	}
	return out, nil
}

// parse checks the body's length and finds how much payload the entry has.
func (e *entry) parse() error {
	want := -1
	switch e.kind {
	case entryRecord:
		rec, rest, err := record.DecodeHeader(e.body)
		if err != nil {
			return err
		}
		if len(rest) != 0 {
			return holdfast.Errorf(holdfast.Corrupt, "batch entry: a record has %d bytes too many", len(rest))
		}
		e.rec = rec
		if rec.Kind == record.Write {
			e.blocks = int(rec.Count)
		}
		return nil
	case entryStable, entryTruncate:
		want = 8
	case entryCreate:
		want = createBytes
	case entryClone:
		want = cloneBytes
	case entryRemove, entryAbort, entryBuild:
		want = 0
	case entryPromise:
		want = 4
	case entryIngest:
		want = ingestBytes
		if len(e.body) == want && e.body[40] == 0 {
			e.blocks = 1
		}
	case entryRepair:
		want = repairBytes
		e.blocks = 1
	case entryDamage:
		if len(e.body) <= maxDamageText {
			return nil
		}
	}
	if len(e.body) != want {
		return holdfast.Errorf(holdfast.Corrupt, "batch entry of kind %d has %d bytes", e.kind, len(e.body))
	}
	return nil
}
