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
	slot    uint16 // of the first payload unit, once closed
	closed  bool
	last    bool // seals its segment
	isNote  bool // has no records, says only what is synced and stable
	buf     *buffer
	entries uint32
	hdr     int      // bytes of header used, headerSize included
	n       int      // payload units
	hashes  []uint64 // of the payload's blocks, which are named by their place in it
	at      []uint16 // where each block begins in the payload, in units
	touched []touch
	written []func(error)
	synced  []func(error)
	dead    []uint32 // blocks freed before it was closed
	lost    []uint32 // blocks that only stand for lost ones
}

// touch notes the last LSN of a head that a batch makes durable, and what the
// head's records take in it.
type touch struct {
	h     *head
	lsn   holdfast.LSN
	bytes int64
}

// buffer is room for one batch: headers grow from the front of the header part,
// payload from the front of the rest.
type buffer struct{ b []byte }

const (
	unitSize  = holdfast.StoredUnit
	blockUnit = blockSize / unitSize // units of a block that is stored as it is

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

// payload is the bytes of payload units i to i+n.
func (b *batch) payload(sh shape, i, n int) []byte {
	at := sh.header*blockSize + i*unitSize
	return b.buf.b[at : at+n*unitSize]
}

// units is how many units block i of the payload has.
func (b *batch) units(i uint32) uint16 { return uint16(checksum.Units(b.hashes[i])) }

// slotOf is the slot of block i of a batch that has been closed.
func (b *batch) slotOf(i uint32) uint16 { return b.slot + b.at[i] }

// stored is what is stored of block i of a batch that is in memory.
func (b *batch) stored(sh shape, i uint32) []byte {
	return b.payload(sh, int(b.at[i]), int(b.units(i)))
}

// lay notes blocks behind those that are there, as lays says, and returns the
// first one's number. Their bytes are copied by gather.
func (b *batch) lay(hashes []uint64) (first uint32) {
	first = uint32(len(b.hashes))
	at := lays(b.n, hashes)
	for _, h := range hashes {
		b.at = append(b.at, uint16(at))
		at += checksum.Units(h)
	}
	b.hashes = append(b.hashes, hashes...)
	b.n = at
	return first
}

// lays is where blocks that are added to n units of payload begin: at once,
// unless all of them are stored as they are. Those keep to whole blocks, so that
// each can be read without its neighbours.
func lays(n int, hashes []uint64) int {
	if n%blockUnit != 0 && checksum.AllRaw(hashes) {
		return (n + blockUnit - 1) / blockUnit * blockUnit
	}
	return n
}

// gather adds blocks and their bytes, zeros where they are too few, to a batch
// that has room for them.
func (s *Store) gather(b *batch, hashes []uint64, data []byte) (first uint32) {
	before := b.n
	first = b.lay(hashes)
	at := int(b.at[first])
	clear(b.payload(s.shape, before, at-before))
	room := b.payload(s.shape, at, b.n-at)
	clear(room[copy(room, data):])
	s.wal.pending += int64(b.n-before) * unitSize
	s.usage.Appended += int64(b.n-at) * unitSize
	return first
}

// fitting is how many of the blocks fit behind n units of payload.
func (sh shape) fitting(n int, hashes []uint64) (k uint32) {
	room := sh.hard*blockUnit - lays(n, hashes)
	for _, h := range hashes {
		if room -= checksum.Units(h); room < 0 {
			break
		}
		k++
	}
	return k
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
	payload uint32 // units
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
		h.payload <= 2*softBlocks*blockUnit && h.synced < h.seq && h.entries <= h.bytes/entrySize
	return h, ok
}

// payloadBlocks is how many blocks behind the header the payload takes.
func (h *headerInfo) payloadBlocks() uint32 { return (h.payload + blockUnit - 1) / blockUnit }

func checkHeader(p []byte) bool { return le.Uint32(p[8:]) == checksum.CRC(p[12:]) }

// entry is one decoded entry of a batch.
type entry struct {
	replica uint32
	kind    entryKind
	body    []byte
	rec     record.Record // entryRecord
	hashes  []uint64      // of the payload's blocks
	payload int           // first payload unit
	first   int           // number of the first payload block in the batch
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
	payload, blocks := 0, 0
	for range h.entries {
		if len(p) < entrySize {
			return bad("its entries are cut off")
		}
		e := entry{replica: le.Uint32(p), kind: entryKind(p[4]), first: blocks}
		n := int(le.Uint16(p[6:]))
		if len(p) < entrySize+n {
			return bad("an entry is cut off")
		}
		e.body = p[entrySize : entrySize+n]
		p = p[entrySize+n:]
		if err := e.parse(); err != nil {
			return nil, err
		}
		if len(e.hashes) > 0 {
			e.payload = lays(payload, e.hashes)
			payload = e.payload + checksum.Length(e.hashes)/unitSize
			blocks += len(e.hashes)
		}
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
			e.hashes = rec.Hashes
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
			e.hashes = []uint64{le.Uint64(e.body[32:])}
		}
	case entryRepair:
		if want = repairBytes; len(e.body) == want {
			e.hashes = []uint64{le.Uint64(e.body[40:])}
		}
	case entryDamage:
		if len(e.body) <= maxDamageText {
			return nil
		}
	}
	if len(e.body) != want {
		return holdfast.Errorf(holdfast.Corrupt, "batch entry of kind %d has %d bytes", e.kind, len(e.body))
	}
	if len(e.hashes) == 1 && !checksum.Proper(e.hashes[0]) {
		return holdfast.Errorf(holdfast.Corrupt, "batch entry of kind %d: its block has no length that is stored", e.kind)
	}
	return nil
}
