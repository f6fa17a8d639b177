package backup

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
)

// readAhead holds the longest part.
const readAhead = headSize + maxExtentBytes + maxPayload

// Reader reads a file front to back. It belongs to one task.
type Reader struct {
	b      *bufio.Reader
	ids    []age.Identity
	header Header
	limit  uint64

	seal   *sealing
	seq    uint64 // of the next part
	prev   sum    // hash of the part before it
	at     int64  // offset of the next part
	next   uint64 // block behind the last extent
	totals Totals
	taken  int  // bytes of the part that Next gave out
	gaps   bool // parts were passed over
	ended  bool
	last   sum
}

// NewReader reads the header. Without identities the parts of a sealed file are
// verified and given out locked. Kinds: Invalid if it is no backup or of a newer
// format, Corrupt if the header is damaged, io.EOF if there is nothing at all.
func NewReader(r io.Reader, ids []age.Identity) (*Reader, error) {
	b, ok := r.(*bufio.Reader)
	if !ok || b.Size() < readAhead {
		b = bufio.NewReaderSize(r, readAhead)
	}
	first, err := b.Peek(prefixSize)
	if len(first) == 0 && errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	n, err := headerSize(first)
	if err != nil {
		return nil, err
	}
	whole, err := b.Peek(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, s, err := decodeHeader(whole)
	if err != nil {
		return nil, err
	}
	_, _ = b.Discard(n) // it was peeked
	return &Reader{b: b, ids: ids, header: h, limit: h.Blocks(), prev: s, at: int64(n)}, nil
}

// Header describes the file.
func (r *Reader) Header() Header { return r.header }

// Totals are what was read so far; after the end, of the whole file.
func (r *Reader) Totals() Totals { return r.totals }

// Offset is where the part after the last one that was given out begins.
func (r *Reader) Offset() int64 { return r.at }

// Sum is the hash of the last part, which after the end is one over the whole
// file.
func (r *Reader) Sum() [32]byte { return r.last }

// After is the stream behind the file, once Next has returned io.EOF: another
// file may begin there.
func (r *Reader) After() *bufio.Reader { return r.b }

// Next gives the next part, whose hash is verified, or io.EOF after the end of a
// whole file. The part is good until the next call. Corrupt: the file is damaged
// or truncated at Offset.
func (r *Reader) Next() (Part, error) {
	r.drop()
	if r.ended {
		return Part{}, io.EOF
	}
	for {
		p, h, err := r.peek()
		if err == nil {
			err = r.follows(&h)
		}
		if err == nil {
			err = r.open(&p, &h)
		}
		if err == nil {
			err = r.take(&p, &h)
		}
		switch {
		case err != nil:
			return Part{}, err
		case p.kind == keyPart:
			r.drop()
		case p.kind == endPart:
			r.drop()
			return Part{}, io.EOF
		default:
			return p, nil
		}
	}
}

// drop lets the part go that was given out.
func (r *Reader) drop() {
	_, _ = r.b.Discard(r.taken) // it was peeked
	r.taken = 0
}

func (r *Reader) damaged(what string) error {
	return holdfast.Errorf(holdfast.Corrupt, "the backup is damaged at byte %d: %s", r.at, what)
}

// peek finds the part that begins here, if its hash is right.
func (r *Reader) peek() (p Part, h head, err error) {
	first, err := r.b.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return p, h, err
	}
	if len(first) < headSize {
		return p, h, r.damaged("it ends here, and its end is missing; it is not whole")
	}
	h, ok := decodeHead(first)
	if !ok {
		return p, h, r.damaged("no part of a backup begins here")
	}
	b, err := r.b.Peek(h.size())
	if err != nil && !errors.Is(err, io.EOF) {
		return p, h, err
	}
	if len(b) < h.size() {
		return p, h, r.damaged("it ends within a part; it is not whole")
	}
	if sumOf(b) != h.hash {
		return p, h, r.damaged("a part does not match its hash")
	}
	p = Part{kind: h.kind, codec: h.codec, raw: h.raw, payload: b[headSize+h.extents:]}
	var data uint64
	if p.Extents, data, ok = decodeExtents(b[headSize:headSize+h.extents], h.count, r.limit); !ok {
		return p, h, r.damaged("a part names blocks that the volume does not have")
	}
	if p.kind == chunkPart && (data*holdfast.BlockSize != uint64(h.raw) || h.count == 0) {
		return p, h, r.damaged("a part has not as much data as it names")
	}
	return p, h, nil
}

// follows checks that a part comes after the one before it.
func (r *Reader) follows(h *head) error {
	switch {
	case h.prev != r.prev:
		return r.damaged("the part here does not belong behind the one before it: parts are missing, or in another order, or of another file")
	case h.seq != r.seq:
		return r.damaged("parts are missing here")
	case h.sealed != (r.header.Sealed && h.kind != keyPart):
		return r.damaged("the part here is sealed, or not, other than its file says")
	}
	return nil
}

// open takes the seal off a part.
func (r *Reader) open(p *Part, h *head) (err error) {
	switch {
	case p.kind == keyPart && len(r.ids) > 0:
		r.seal, err = openSealing(p.payload, r.ids)
		return err
	case !h.sealed:
		return nil
	case len(r.ids) == 0:
		p.Locked, p.payload = true, nil
		return nil
	case r.seal == nil:
		return r.damaged("the key of what follows is missing")
	}
	b, err := r.b.Peek(headSize + h.extents)
	if err != nil {
		return err
	}
	p.payload, err = r.seal.open(p.payload, h.seq, b[:hashAt], b[headSize:])
	return err
}

// take counts a part.
func (r *Reader) take(p *Part, h *head) error {
	switch p.kind {
	case endPart:
		if !p.Locked && !r.gaps {
			if t, ok := decodeTotals(p.payload); !ok || t != r.totals {
				return r.damaged("its end counts other parts than there are")
			}
		}
		r.ended = true
	case chunkPart:
		if r.header.Kind != Volume || p.Extents[0].Addr < r.next {
			return r.damaged("the blocks of the part here do not follow those before")
		}
		for _, e := range p.Extents {
			if e.Zero {
				r.totals.Zero += e.Blocks
			} else {
				r.totals.Data += e.Blocks
			}
			r.next = e.End()
		}
		r.totals.Parts++
	case recordsPart:
		if r.header.Kind != Cluster {
			return r.damaged("records stand in the backup of a volume")
		}
		if !p.Locked {
			r.totals.Records += countRecords(p)
		}
		r.totals.Parts++
	}
	r.seq, r.prev, r.last = h.seq+1, h.hash, h.hash
	r.at += int64(h.size())
	r.taken = h.size()
	return nil
}

// resync finds the next part whose hash is right, behind a damaged place, and
// goes on with it as if it followed. io.EOF: there is none.
func (r *Reader) resync() error {
	r.drop()
	for skip := 1; ; {
		if _, err := r.b.Discard(skip); err != nil {
			return io.EOF
		}
		r.at += int64(skip)
		b, err := r.b.Peek(readAhead)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		i := bytes.Index(b, []byte(partMagic))
		switch {
		case i < 0 && len(b) < readAhead:
			return io.EOF
		case i < 0:
			skip = readAhead - len(partMagic) + 1
			continue
		case i > 0:
			skip = i
			continue
		}
		if _, h, err := r.peek(); err == nil {
			r.seq, r.prev, r.gaps = h.seq, h.prev, true
			return nil
		}
		skip = 1
	}
}
