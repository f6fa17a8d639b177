package pdu

import (
	"bufio"
	"errors"
	"hash/crc32"
	"io"

	"github.com/holdfast-cloud/holdfast"
)

// maxAHS is the longest additional header that is read, in bytes: an extended
// CDB of 260 bytes and an expected read length.
const maxAHS = 280

// MaxExtraCDB is the longest part of a CDB that stands in an additional
// header, in bytes.
const MaxExtraCDB = 244

// castagnoli is the polynomial of the digests (RFC 7143 §13.1); a table that
// nobody changes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDigest says that a header's digest does not match: nothing that follows
// on the connection can be trusted.
var ErrDigest = errors.New("the header digest does not match")

// ErrDataDigest says that a data digest does not match; the header is good.
var ErrDataDigest = errors.New("the data digest does not match")

// Reader takes PDUs off a connection. After Next, the data segment must be
// taken with Data or Skip before the next header is read.
type Reader struct {
	R            *bufio.Reader
	HeaderDigest bool
	DataDigest   bool
	// MaxData is the longest data segment accepted, in bytes: the
	// MaxRecvDataSegmentLength this end declared.
	MaxData int

	left int // bytes of the data segment not taken yet
	ahs  [maxAHS]byte
}

// Next reads a header into h and returns its additional header segments,
// valid until the next call. Errors: io.EOF at a clean end, ErrDigest, kind
// Invalid for lengths beyond the limits.
func (r *Reader) Next(h *Header) (ahs []byte, err error) {
	if _, err := io.ReadFull(r.R, h[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, holdfast.Errorf(holdfast.Invalid, "the connection ended within a header")
		}
		return nil, err
	}
	n := h.AHSLength()
	if n > maxAHS && !r.HeaderDigest {
		return nil, holdfast.Errorf(holdfast.Invalid, "an additional header of %d bytes; at most %d are taken", n, maxAHS)
	}
	ahs = r.ahs[:min(n, maxAHS)]
	if err := r.full(ahs); err != nil {
		return nil, err
	}
	if n > maxAHS { // the digest covers it, so that nobody knows whether the length is right
		return nil, ErrDigest
	}
	if r.HeaderDigest {
		var d [4]byte
		if err := r.full(d[:]); err != nil {
			return nil, err
		}
		if !sumMatches(d, sum(sum(0, h[:]), ahs)) {
			return nil, ErrDigest
		}
	}
	r.left = h.DataLength()
	if r.left > r.MaxData {
		return nil, holdfast.Errorf(holdfast.Invalid, "a data segment of %d bytes; at most %d are taken", r.left, r.MaxData)
	}
	return ahs, nil
}

// Buffered reports whether a whole header is at hand without waiting.
func (r *Reader) Buffered() bool { return r.R.Buffered() >= HeaderSize }

// Data reads the data segment into b, which must be exactly as long, with its
// padding and digest. Errors: ErrDataDigest, kind Invalid if it is cut short.
func (r *Reader) Data(b []byte) error {
	if len(b) == 0 {
		r.left = 0
		return nil
	}
	if err := r.full(b); err != nil {
		return err
	}
	return r.trailer(b, 0, true)
}

// Skip reads the data segment and forgets it, digest and all.
func (r *Reader) Skip() error {
	n := r.left
	if n == 0 {
		return nil
	}
	if _, err := r.R.Discard(n); err != nil {
		return short(err)
	}
	return r.trailer(nil, Padding(n), false)
}

func (r *Reader) trailer(b []byte, pad int, check bool) error {
	r.left = 0
	var tail [8]byte
	if check {
		pad = Padding(len(b))
	}
	n := pad
	if r.DataDigest {
		n += 4
	}
	if n == 0 {
		return nil
	}
	if err := r.full(tail[:n]); err != nil {
		return err
	}
	if check && r.DataDigest && !sumMatches([4]byte(tail[pad:n]), sum(sum(0, b), tail[:pad])) {
		return ErrDataDigest
	}
	return nil
}

func (r *Reader) full(b []byte) error {
	_, err := io.ReadFull(r.R, b)
	return short(err)
}

func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return holdfast.Errorf(holdfast.Invalid, "the connection ended within a PDU")
	}
	return err
}

func sum(s uint32, b []byte) uint32 { return crc32.Update(s, castagnoli, b) }

// sumMatches compares a digest on the wire: its bytes are those of the CRC
// from the lowest to the highest.
func sumMatches(d [4]byte, s uint32) bool {
	return d == [4]byte{byte(s), byte(s >> 8), byte(s >> 16), byte(s >> 24)}
}

// AppendDigest appends the digest over the concatenation of parts.
func AppendDigest(b []byte, parts ...[]byte) []byte {
	s := uint32(0)
	for _, p := range parts {
		s = sum(s, p)
	}
	return append(b, byte(s), byte(s>>8), byte(s>>16), byte(s>>24))
}

// ExtendedCDB returns the part of a CDB that stands in additional header
// segments, and the expected length of a bidirectional read if there is one.
// ok is false if the segments are malformed.
func ExtendedCDB(ahs []byte) (cdb []byte, ok bool) {
	for len(ahs) > 0 {
		if len(ahs) < 4 {
			return nil, false
		}
		n := int(be.Uint16(ahs)) // without the two bytes of itself and the type
		end := 3 + n
		if n < 1 || end > len(ahs) {
			return nil, false
		}
		if ahs[2] == 1 {
			cdb = ahs[4:end]
		}
		ahs = ahs[min(len(ahs), end+Padding(end)):]
	}
	return cdb, len(cdb) <= MaxExtraCDB
}
