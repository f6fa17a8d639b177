package tcp

import (
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// The coding of frames, docs/protocol/transport.md. All numbers are little
// endian.
//
//	0  u32  CRC32C of bytes 4 to 23 and of the head
//	4  u8   type
//	5  u8   0
//	6  u16  kind: of the frame, or of the error
//	8  u64  call id
//	16 u32  length of the head
//	20 u32  length of the bulk
//	24      head, then bulk
const headerLen = 24

// frameType says what a frame does.
type frameType uint8

const (
	typeCall    frameType = 1 // dialler to listener
	typeReply   frameType = 2 // listener to dialler
	typeError   frameType = 3 // listener to dialler: kind is a holdfast.Kind, head its text; call id 0 ends the connection
	typeWelcome frameType = 4 // listener to dialler, first: you are let in
)

type header struct {
	sum        uint32
	typ        frameType
	kind       uint16
	id         uint64
	head, bulk uint32
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // one shared table

// appendFrame codes a frame behind b. The caller has checked the lengths.
func appendFrame(b []byte, typ frameType, id uint64, f transport.Frame) []byte {
	at := len(b)
	var h [headerLen]byte
	h[4] = byte(typ)
	binary.LittleEndian.PutUint16(h[6:], uint16(f.Kind))
	binary.LittleEndian.PutUint64(h[8:], id)
	binary.LittleEndian.PutUint32(h[16:], uint32(len(f.Head)))
	binary.LittleEndian.PutUint32(h[20:], uint32(f.BulkLen()))
	b = append(b, h[:]...)
	b = append(b, f.Head...)
	binary.LittleEndian.PutUint32(b[at:], checksum(b[at+4:at+headerLen], f.Head))
	for _, p := range f.Bulk {
		b = append(b, p...)
	}
	return b
}

func checksum(header, head []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli(), header), castagnoli(), head)
}

// parseHeader reads a header, b's first headerLen bytes, and bounds what it
// announces.
func parseHeader(b []byte) (header, error) {
	h := header{
		sum:  binary.LittleEndian.Uint32(b),
		typ:  frameType(b[4]),
		kind: binary.LittleEndian.Uint16(b[6:]),
		id:   binary.LittleEndian.Uint64(b[8:]),
		head: binary.LittleEndian.Uint32(b[16:]),
		bulk: binary.LittleEndian.Uint32(b[20:]),
	}
	switch {
	case h.typ < typeCall || h.typ > typeWelcome || b[5] != 0:
		return h, holdfast.Errorf(holdfast.Invalid, "bad frame: type %d.%d is not known", b[4], b[5])
	case h.head > transport.MaxHead || h.bulk > transport.MaxBulk:
		return h, holdfast.Errorf(holdfast.Invalid, "bad frame: it announces a head of %d and a bulk of %d bytes, beyond the limits", h.head, h.bulk)
	}
	return h, nil
}

// size is the number of bytes behind the header.
func (h header) size() int { return int(h.head) + int(h.bulk) }

// body takes apart the bytes behind the header after checking the sum. raw is
// the header as received; bulk is where the single piece of Bulk is kept.
func (h header) body(raw, b []byte, bulk *[1][]byte) (transport.Frame, error) {
	head := b[:h.head:h.head]
	if checksum(raw[4:headerLen], head) != h.sum {
		return transport.Frame{}, holdfast.Errorf(holdfast.Corrupt, "bad frame: header and head do not match their checksum")
	}
	f := transport.Frame{Kind: transport.Kind(h.kind), Head: head}
	if h.bulk > 0 {
		bulk[0] = b[h.head:h.size():h.size()]
		f.Bulk = bulk[:]
	}
	return f, nil
}

// errorFrame codes an error for the wire: its kind and its text.
func errorFrame(err error) transport.Frame {
	return transport.Frame{Kind: transport.Kind(holdfast.KindOf(err)), Head: []byte(transport.ErrorText(err))}
}

// frameError is the inverse of errorFrame.
func frameError(f transport.Frame) error {
	k := holdfast.Other
	if f.Kind <= 0xff {
		k = holdfast.Kind(f.Kind)
	}
	return holdfast.Errorf(k, "%s", strings.ToValidUTF8(string(f.Head), "?"))
}
