package httpapi

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"
)

// packedFrom is how long a batch has to be, in bytes, for compression to be worth a
// compressor.
const packedFrom = 512

// deflators are compressors, of which each has more than half a megabyte. A stream
// takes one for a batch and gives it back: hundreds of streams that wait have none.
var deflators = sync.Pool{New: func() any {
	w, err := flate.NewWriter(io.Discard, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a known one
	}
	return w
}}

// packed is a gzip stream (RFC 1952) that is sent piece by piece. What its methods
// return is sent in that order: head, any number of pieces, end.
type packed struct{ crc, size uint32 }

// head begins a stream of no name and no time.
func (*packed) head() []byte { return []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255} }

// end ends it with an empty last block, and the sum of all.
func (p *packed) end() []byte {
	b := binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0xff, 0xff}, p.crc)
	return binary.LittleEndian.AppendUint32(b, p.size)
}

// pack returns a piece that a reader of the stream can read at once and that refers to
// nothing before it, so that pieces may come from any compressor.
func (p *packed) pack(piece []byte) []byte {
	p.crc = crc32.Update(p.crc, crc32.IEEETable, piece)
	p.size += uint32(len(piece))
	var out bytes.Buffer
	if len(piece) >= packedFrom {
		w := deflators.Get().(*flate.Writer)
		w.Reset(&out)
		_, err := w.Write(piece)
		if err == nil {
			err = w.Flush()
		}
		deflators.Put(w)
		if err == nil { // it always is: a buffer takes everything
			return out.Bytes()
		}
		out.Reset()
	}
	// Stored as it is (RFC 1951, section 3.2.4): each piece ends at a byte. An empty
	// block after it has readers give out what they have.
	for len(piece) > 0 {
		n := min(len(piece), 0xffff)
		stored(&out, piece[:n])
		piece = piece[n:]
	}
	stored(&out, nil)
	return out.Bytes()
}

func stored(out *bytes.Buffer, b []byte) {
	head := [5]byte{0}
	binary.LittleEndian.PutUint16(head[1:], uint16(len(b)))
	binary.LittleEndian.PutUint16(head[3:], ^uint16(len(b)))
	out.Write(head[:])
	out.Write(b)
}
