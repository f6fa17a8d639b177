package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	"github.com/klauspost/compress/s2"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of the format.
const (
	MaxData    = 4 << 20 // bytes of a part's payload, unpacked
	MaxExtents = 8192    // of a chunk
	ChunkData  = 1 << 20 // bytes of data that a writer gathers in a chunk

	maxDescription = 64 << 10
	maxExtentBytes = 64 << 10
	maxPayload     = MaxData + 4096
	headSize       = 96
	hashAt         = 64
	prefixSize     = 24
	magic          = "HOLDFAST BACKUP\n"
	partMagic      = "HFbk"
	sealTag        = 16 // bytes of GCM
)

type partType uint8

const (
	chunkPart   partType = 1
	keyPart     partType = 2
	recordsPart partType = 3
	endPart     partType = 4
)

const (
	codecNone uint8 = 0
	codecS2   uint8 = 1
)

type sum = [sha256.Size]byte

// Part is one part of a file: a chunk of a volume, or records of a cluster. It
// is compressed, but never sealed.
type Part struct {
	Extents []Extent // of a chunk, rising
	// Locked: it is sealed and there was no identity to open it, so it holds
	// nothing.
	Locked bool

	kind    partType
	codec   uint8
	raw     int // bytes when unpacked
	payload []byte
}

// Size is the length of what Unpack gives, in bytes.
func (p *Part) Size() int { return p.raw }

// Stored is how many bytes the payload takes.
func (p *Part) Stored() int { return len(p.payload) }

// Clone is a copy that does not share memory.
func (p *Part) Clone() Part {
	c := *p
	c.Extents = append([]Extent(nil), p.Extents...)
	c.payload = bytes.Clone(p.payload)
	return c
}

// Pack makes a chunk of extents and the data of those that are not zero, which
// the part may go on using. What is compressed is put into scratch, if that is
// large enough (PackedLen).
func Pack(extents []Extent, data, scratch []byte) (Part, error) {
	var blocks uint64
	for _, e := range extents {
		if !e.Zero {
			blocks += e.Blocks
		}
	}
	if blocks*holdfast.BlockSize != uint64(len(data)) {
		return Part{}, holdfast.Errorf(holdfast.Invalid, "a chunk of %d blocks has %d bytes", blocks, len(data))
	}
	p := pack(chunkPart, data, scratch)
	p.Extents = extents
	return p, nil
}

// PackedLen is how large the scratch of a chunk with n bytes has to be.
func PackedLen(n int) int { return s2.MaxEncodedLen(n) }

func pack(kind partType, data, scratch []byte) Part {
	p := Part{kind: kind, raw: len(data), payload: data}
	if len(data) > 0 {
		if b := s2.Encode(scratch[:cap(scratch)], data); len(b) < len(data)-len(data)/32 {
			p.codec, p.payload = codecS2, b
		}
	}
	return p
}

// Unpack decompresses what the part holds into dst, if that is large enough.
func (p *Part) Unpack(dst []byte) ([]byte, error) {
	switch {
	case p.Locked:
		return nil, holdfast.Errorf(holdfast.Denied, "the backup is sealed: give the identity that opens it with --identity")
	case p.codec == codecNone && len(p.payload) == p.raw:
		return p.payload, nil
	case p.codec == codecS2:
		n, err := s2.DecodedLen(p.payload)
		if err != nil || n != p.raw {
			break
		}
		if cap(dst) < n {
			dst = make([]byte, n)
		}
		if b, err := s2.Decode(dst[:n], p.payload); err == nil && len(b) == n {
			return b, nil
		}
	}
	return nil, holdfast.Errorf(holdfast.Corrupt, "a part of the backup cannot be decompressed though its hash is right; it was not written by Holdfast")
}

// head is the fixed beginning of a part.
type head struct {
	kind    partType
	codec   uint8
	sealed  bool
	seq     uint64
	extents int // bytes
	payload int // bytes
	raw     int // bytes
	count   int // extents
	prev    sum
	hash    sum
}

func (h *head) appendTo(b []byte) []byte {
	b = append(b, partMagic...)
	b = append(b, byte(h.kind), h.codec)
	var flags uint16
	if h.sealed {
		flags = 1
	}
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint64(b, h.seq)
	for _, n := range []int{h.extents, h.payload, h.raw, h.count} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	b = append(b, h.prev[:]...)
	return append(b, h.hash[:]...)
}

// decodeHead reads the fixed beginning of a part and refuses what none may say.
func decodeHead(b []byte) (h head, ok bool) {
	if len(b) < headSize || string(b[:4]) != partMagic {
		return h, false
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	flags := binary.LittleEndian.Uint16(b[6:])
	if u32(16) > maxExtentBytes || u32(20) > maxPayload || u32(24) > MaxData || u32(28) > MaxExtents || flags > 1 {
		return h, false
	}
	h = head{kind: partType(b[4]), codec: b[5], sealed: flags == 1, seq: binary.LittleEndian.Uint64(b[8:]),
		extents: int(u32(16)), payload: int(u32(20)), raw: int(u32(24)), count: int(u32(28)), prev: sum(b[32:]), hash: sum(b[hashAt:])}
	return h, h.kind >= chunkPart && h.kind <= endPart && h.codec <= codecS2 &&
		(h.kind == chunkPart || h.extents == 0 && h.count == 0)
}

// size is the length of the whole part.
func (h *head) size() int { return headSize + h.extents + h.payload }

// sumOf is the hash of a part as it stands in a file, b.
func sumOf(b []byte) (out sum) {
	s := sha256.New()
	s.Write(b[:hashAt])
	s.Write(b[headSize:])
	s.Sum(out[:0])
	return out
}

func appendExtents(b []byte, list []Extent) []byte {
	var at uint64
	for _, e := range list {
		b = binary.AppendUvarint(b, e.Addr-at)
		n := e.Blocks << 1
		if e.Zero {
			n |= 1
		}
		b = binary.AppendUvarint(b, n)
		at = e.End()
	}
	return b
}

// decodeExtents reads n extents, and the blocks of them that have data. They
// rise, are not empty and end before limit.
func decodeExtents(b []byte, n int, limit uint64) (out []Extent, data uint64, ok bool) {
	var at uint64
	for range n {
		gap, k := binary.Uvarint(b)
		if k <= 0 || gap > limit {
			return nil, 0, false
		}
		b = b[k:]
		length, k := binary.Uvarint(b)
		if k <= 0 || length>>1 == 0 || length>>1 > limit {
			return nil, 0, false
		}
		b = b[k:]
		e := Extent{Addr: at + gap, Blocks: length >> 1, Zero: length&1 == 1}
		if e.End() > limit {
			return nil, 0, false
		}
		if !e.Zero {
			data += e.Blocks
		}
		out, at = append(out, e), e.End()
	}
	return out, data, len(b) == 0
}

// frameHeader puts a description into the header of a file.
func frameHeader(text []byte) []byte {
	b := append(make([]byte, 0, prefixSize+len(text)+sha256.Size), magic...)
	b = binary.LittleEndian.AppendUint32(b, Version)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	s := sha256.Sum256(b)
	return append(b, s[:]...)
}

// headerSize tells how long the header is that begins with b, which has
// prefixSize bytes.
func headerSize(b []byte) (int, error) {
	if len(b) < prefixSize || string(b[:len(magic)]) != magic {
		return 0, holdfast.Errorf(holdfast.Invalid, "this is not a backup of Holdfast")
	}
	version, n := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])
	switch {
	case version > Version:
		return 0, holdfast.Errorf(holdfast.Invalid, "the backup is of format %d, and this build knows formats up to %d: use a newer one", version, Version)
	case version == 0 || n > maxDescription:
		return 0, errHeader()
	}
	return prefixSize + int(n) + sha256.Size, nil
}

func errHeader() error {
	return holdfast.Errorf(holdfast.Corrupt, "the backup's header is damaged, so nothing of the file can be used; use another backup")
}

// decodeHeader reads a whole header.
func decodeHeader(b []byte) (h Header, s sum, err error) {
	n, err := headerSize(b)
	if err != nil {
		return h, s, err
	}
	if len(b) != n {
		return h, s, errHeader()
	}
	s = sha256.Sum256(b[:n-sha256.Size])
	if s != sum(b[n-sha256.Size:]) {
		return h, s, errHeader()
	}
	if err := json.Unmarshal(b[prefixSize:n-sha256.Size], &h); err != nil {
		return h, s, holdfast.Errorf(holdfast.Invalid, "the backup's description cannot be read: %w", err)
	}
	return h, s, h.check()
}

func (t Totals) encode() []byte {
	b := make([]byte, 0, totalsSize)
	for _, n := range []uint64{t.Parts, t.Data, t.Zero, t.Records} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

const totalsSize = 32

func decodeTotals(b []byte) (t Totals, ok bool) {
	if len(b) != totalsSize {
		return t, false
	}
	for i, p := range []*uint64{&t.Parts, &t.Data, &t.Zero, &t.Records} {
		*p = binary.LittleEndian.Uint64(b[8*i:])
	}
	return t, true
}
