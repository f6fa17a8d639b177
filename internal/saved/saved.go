// Package saved is the form in which a volume holds the memory of a machine
// (docs/format/memory.md): a stream in pieces, each with its hash, and a header
// that is written last.
package saved

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"

	"github.com/holdfast-cloud/holdfast"
)

// Piece is how much of the stream has a hash of its own, in bytes.
const Piece = 1 << 20

const (
	magic      = "HOLDMEM1"
	version    = 1
	headSize   = holdfast.BlockSize
	sumAt      = headSize - sha256.Size
	aboutAt    = 100
	maxAbout   = sumAt - aboutAt
	maxStream  = 1 << 40 // bytes: its table, which is read as a whole, has 32 MiB
	tableChunk = 256 << 10
)

// Device is what a memory is kept on. Offsets and lengths are of whole blocks.
type Device interface {
	Size() int64
	ReadAt(p []byte, off int64) error
	WriteAt(p []byte, off int64) error
	Flush() error
}

// About is what a memory is of.
type About struct {
	VM     holdfast.VMID     `json:"-"`
	Volume holdfast.VolumeID `json:"-"`
	Kind   string            `json:"kind"`  // of hosts that can go on with it
	Parts  []string          `json:"parts"` // that the machine was made of
}

// Room is how large a device must be for a stream of so many bytes.
func Room(stream int64) int64 { return dataAt(stream) + roundUp(stream) }

func dataAt(stream int64) int64 { return headSize + roundUp(pieces(stream)*sha256.Size) }

func pieces(stream int64) int64 { return (stream + Piece - 1) / Piece }

func roundUp(n int64) int64 {
	return (n + holdfast.BlockSize - 1) / holdfast.BlockSize * holdfast.BlockSize
}

// Writer takes a stream. Nothing is kept before Close has succeeded.
type Writer struct {
	dev   Device
	about About
	start int64
	piece []byte
	table []byte
	n     int64
}

// NewWriter writes a memory over whatever the device holds: what that was counts
// no more when it returns.
func NewWriter(dev Device, about About) (*Writer, error) {
	if err := dev.WriteAt(make([]byte, headSize), 0); err != nil {
		return nil, err
	}
	return &Writer{dev: dev, about: about, start: dataAt(dev.Size()), piece: make([]byte, 0, Piece)}, dev.Flush()
}

// Write implements io.Writer. Kind NoSpace: the device is too small.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), Piece-len(w.piece))
		w.piece = append(w.piece, p[:k]...)
		p, n = p[k:], n+k
		if len(w.piece) == Piece {
			if err := w.put(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// put writes the piece.
func (w *Writer) put() error {
	sum := sha256.Sum256(w.piece)
	size := int64(len(w.piece))
	full := append(w.piece, make([]byte, roundUp(size)-size)...)
	at := w.start + w.n
	if at+int64(len(full)) > w.dev.Size() {
		return holdfast.Errorf(holdfast.NoSpace, "a memory of more than %d bytes does not fit the %d bytes that were made for it", w.n, w.dev.Size())
	}
	if err := w.dev.WriteAt(full, at); err != nil {
		return err
	}
	w.table = append(w.table, sum[:]...)
	w.n += size
	w.piece = w.piece[:0]
	return nil
}

// Close writes what is left, and then, when that is durable, the header. It
// returns the length of the stream.
func (w *Writer) Close() (int64, error) {
	if len(w.piece) > 0 {
		if err := w.put(); err != nil {
			return 0, err
		}
	}
	head, err := w.header()
	if err != nil {
		return 0, err
	}
	table := append(bytes.Clone(w.table), make([]byte, roundUp(int64(len(w.table)))-int64(len(w.table)))...)
	for off := 0; off < len(table); off += tableChunk {
		if err := w.dev.WriteAt(table[off:min(off+tableChunk, len(table))], headSize+int64(off)); err != nil {
			return 0, err
		}
	}
	if err := w.dev.Flush(); err != nil {
		return 0, err
	}
	if err := w.dev.WriteAt(head, 0); err != nil {
		return 0, err
	}
	return w.n, w.dev.Flush()
}

func (w *Writer) header() ([]byte, error) {
	about, err := json.Marshal(w.about)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "what the memory is of cannot be written down: %w", err)
	}
	if len(about) > maxAbout {
		return nil, holdfast.Errorf(holdfast.Invalid, "what the memory is of takes %d bytes, at most %d fit", len(about), maxAbout)
	}
	head := make([]byte, headSize)
	le := binary.LittleEndian
	copy(head, magic)
	le.PutUint32(head[8:], version)
	le.PutUint32(head[12:], Piece)
	le.PutUint64(head[16:], uint64(w.n))
	le.PutUint64(head[24:], uint64(w.start))
	table := sha256.Sum256(w.table)
	copy(head[32:], table[:])
	copy(head[64:], w.about.VM.UUID[:])
	copy(head[80:], w.about.Volume.UUID[:])
	le.PutUint32(head[96:], uint32(len(about)))
	copy(head[aboutAt:], about)
	sum := sha256.Sum256(head[:sumAt])
	copy(head[sumAt:], sum[:])
	return head, nil
}

// Reader gives a stream back, and never a byte that fails its hash.
type Reader struct {
	About  About
	Length int64 // of the stream, in bytes
	dev    Device
	start  int64
	table  []byte
	sum    [sha256.Size]byte
	next   int64 // piece
	left   []byte
}

// Open reads what a device says that it holds, and the table. Kind Corrupt: it
// holds no memory, or one that fails its hashes.
func Open(dev Device) (*Reader, error) {
	if dev.Size() < headSize {
		return nil, corrupt("%d bytes are no memory", dev.Size())
	}
	head := make([]byte, headSize)
	if err := dev.ReadAt(head, 0); err != nil {
		return nil, err
	}
	r, err := parseHeader(head, dev.Size())
	if err != nil {
		return nil, err
	}
	r.dev = dev
	size := pieces(r.Length) * sha256.Size
	r.table = make([]byte, roundUp(size))
	for off := int64(0); off < int64(len(r.table)); off += tableChunk {
		if err := dev.ReadAt(r.table[off:min(off+tableChunk, int64(len(r.table)))], headSize+off); err != nil {
			return nil, err
		}
	}
	if r.table = r.table[:size]; sha256.Sum256(r.table) != r.sum {
		return nil, corrupt("its table fails its hash")
	}
	return r, nil
}

func corrupt(format string, args ...any) error {
	return holdfast.Errorf(holdfast.Corrupt, "the saved memory cannot be used: "+format, args...)
}

// parseHeader reads block 0 of a device of a size.
func parseHeader(head []byte, size int64) (*Reader, error) {
	le := binary.LittleEndian
	switch {
	case len(head) != headSize || string(head[:8]) != magic:
		return nil, corrupt("there is none")
	case sha256.Sum256(head[:sumAt]) != [sha256.Size]byte(head[sumAt:]):
		return nil, corrupt("its header fails its hash")
	case le.Uint32(head[8:]) != version || le.Uint32(head[12:]) != Piece:
		return nil, holdfast.Errorf(holdfast.Invalid, "the saved memory is of version %d, this program knows %d", le.Uint32(head[8:]), version)
	}
	length, start, n := le.Uint64(head[16:]), le.Uint64(head[24:]), le.Uint32(head[96:])
	if length > maxStream || start > maxStream || n > maxAbout || start%holdfast.BlockSize != 0 {
		return nil, corrupt("its header says what cannot be")
	}
	r := &Reader{Length: int64(length), start: int64(start)}
	if r.start < dataAt(r.Length) || r.start+roundUp(r.Length) > size {
		return nil, corrupt("%d bytes from %d do not fit %d", length, start, size)
	}
	copy(r.sum[:], head[32:])
	if err := json.Unmarshal(head[aboutAt:aboutAt+n], &r.About); err != nil {
		return nil, corrupt("its description cannot be read: %w", err)
	}
	copy(r.About.VM.UUID[:], head[64:])
	copy(r.About.Volume.UUID[:], head[80:])
	return r, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		at := r.next * Piece
		if at >= r.Length {
			return 0, io.EOF
		}
		size := min(Piece, r.Length-at)
		buf := make([]byte, roundUp(size))
		if err := r.dev.ReadAt(buf, r.start+at); err != nil {
			return 0, err
		}
		if sum := sha256.Sum256(buf[:size]); !bytes.Equal(sum[:], r.table[r.next*sha256.Size:][:sha256.Size]) {
			return 0, corrupt("piece %d fails its hash", r.next)
		}
		r.left, r.next = buf[:size], r.next+1
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
