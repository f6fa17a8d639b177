package backup

import (
	"encoding/binary"
	"io"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
)

// Writer writes a file front to back. It belongs to one task.
type Writer struct {
	w      io.Writer
	limit  uint64 // blocks of the volume
	seal   *sealing
	seq    uint64
	prev   sum
	totals Totals
	next   uint64 // block behind the last extent
	buf    []byte
	length int64
	closed bool
}

// NewWriter writes the header. With recipients the file is sealed.
func NewWriter(w io.Writer, h Header, to []age.Recipient) (*Writer, error) {
	h.Sealed = len(to) > 0
	b, err := h.encode()
	if err != nil {
		return nil, err
	}
	out := &Writer{w: w, limit: h.Blocks(), prev: sum(b[len(b)-len(sum{}):])}
	if err := out.put(b); err != nil {
		return nil, err
	}
	return out, out.newKey(to)
}

// Resume goes on where the good parts of an interrupted file end, as a Reader
// found: w is at that place. A file that is sealed needs recipients.
func Resume(w io.Writer, r *Reader, to []age.Recipient) (*Writer, error) {
	if r.header.Sealed != (len(to) > 0) {
		return nil, holdfast.Errorf(holdfast.Invalid, "an interrupted backup is gone on with as it was begun: sealed or not")
	}
	out := &Writer{w: w, limit: r.limit, seq: r.seq, prev: r.prev, totals: r.totals, next: r.next, length: r.at}
	return out, out.newKey(to)
}

func (w *Writer) newKey(to []age.Recipient) error {
	if len(to) == 0 {
		return nil
	}
	s, wrapped, err := newSealing(to)
	if err != nil {
		return err
	}
	if err := w.part(Part{kind: keyPart, raw: len(wrapped), payload: wrapped}); err != nil {
		return err
	}
	w.seal = s
	return nil
}

func (w *Writer) put(b []byte) error {
	n, err := w.w.Write(b)
	w.length += int64(n)
	return err
}

// Next is the block behind the last extent that was written: where an
// interrupted backup goes on.
func (w *Writer) Next() uint64 { return w.next }

// Totals are what was written so far.
func (w *Writer) Totals() Totals { return w.totals }

// Length is the file's, in bytes.
func (w *Writer) Length() int64 { return w.length }

// Put writes a part. Chunks come in rising order.
func (w *Writer) Put(p Part) error {
	switch {
	case w.closed || p.Locked:
		return holdfast.Errorf(holdfast.Invalid, "this part cannot be written")
	case p.kind == recordsPart:
		w.totals.Records += countRecords(&p)
	case p.kind != chunkPart || len(p.Extents) == 0 || len(p.Extents) > MaxExtents || p.raw > MaxData:
		return holdfast.Errorf(holdfast.Invalid, "a chunk of %d extents and %d bytes cannot be written", len(p.Extents), p.raw)
	}
	for _, e := range p.Extents {
		if e.Addr < w.next || e.Blocks == 0 || e.End() > w.limit {
			return holdfast.Errorf(holdfast.Invalid, "blocks %d to %d of the volume come after %d", e.Addr, e.End(), w.next)
		}
		if e.Zero {
			w.totals.Zero += e.Blocks
		} else {
			w.totals.Data += e.Blocks
		}
		w.next = e.End()
	}
	w.totals.Parts++
	return w.part(p)
}

// part writes any part.
func (w *Writer) part(p Part) error {
	h := head{kind: p.kind, codec: p.codec, seq: w.seq, raw: p.raw, count: len(p.Extents), prev: w.prev, payload: len(p.payload)}
	if w.seal != nil && p.kind != keyPart {
		h.sealed = true
		h.payload += sealTag
	}
	w.buf = appendExtents(append(w.buf[:0], make([]byte, headSize)...), p.Extents)
	h.extents = len(w.buf) - headSize
	h.appendTo(w.buf[:0])
	if h.sealed {
		w.buf = w.seal.seal(w.buf, p.payload, h.seq, w.buf[:hashAt], w.buf[headSize:])
	} else {
		w.buf = append(w.buf, p.payload...)
	}
	s := sumOf(w.buf)
	copy(w.buf[hashAt:], s[:])
	if err := w.put(w.buf); err != nil {
		return err
	}
	w.seq, w.prev = w.seq+1, s
	return nil
}

// Close writes the end, without which a file is not whole. It does not close
// what is written to.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	b := w.totals.encode()
	return w.part(Part{kind: endPart, raw: len(b), payload: b})
}

// Record is one record of a cluster.
type Record struct {
	Key   string
	Value []byte
}

// PackRecords makes parts of records.
func PackRecords(list []Record) (out []Part) {
	var b []byte
	for _, r := range list {
		if n := len(r.Key) + len(r.Value) + 2*binary.MaxVarintLen64; len(b)+n > ChunkData && len(b) > 0 {
			out, b = append(out, pack(recordsPart, b, nil)), nil
		}
		b = binary.AppendUvarint(b, uint64(len(r.Key)))
		b = append(b, r.Key...)
		b = binary.AppendUvarint(b, uint64(len(r.Value)))
		b = append(b, r.Value...)
	}
	if len(b) > 0 {
		out = append(out, pack(recordsPart, b, nil))
	}
	return out
}

// Records gives the records of a part.
func (p *Part) Records() (out []Record, err error) {
	if p.kind != recordsPart {
		return nil, holdfast.Errorf(holdfast.Invalid, "the part has no records")
	}
	b, err := p.Unpack(nil)
	if err != nil {
		return nil, err
	}
	take := func() (field []byte, ok bool) {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return nil, false
		}
		field, b = b[k:k+int(n)], b[k+int(n):]
		return field, true
	}
	for len(b) > 0 {
		key, ok := take()
		value, also := take()
		if !ok || !also {
			return nil, holdfast.Errorf(holdfast.Corrupt, "records of the backup cannot be read; it was not written by Holdfast")
		}
		out = append(out, Record{string(key), value})
	}
	return out, nil
}

func countRecords(p *Part) uint64 {
	list, err := p.Records()
	if err != nil {
		return 0
	}
	return uint64(len(list))
}

// Finished is the writer of a file that was found whole, to which nothing is to
// be added.
func Finished(r *Reader) *Writer {
	return &Writer{limit: r.limit, seq: r.seq, prev: r.prev, totals: r.totals, next: r.next, length: r.at, closed: true}
}
