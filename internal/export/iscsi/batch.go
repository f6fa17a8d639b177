package iscsi

import (
	"io"
	"net"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// copyMax is the longest data segment that is copied between the headers of a
// batch; longer ones are handed to writev where they are.
const copyMax = 16 << 10

// keepBatch is the most memory a batch keeps for its next use, in bytes.
const keepBatch = 1 << 20

// batch is output that one write will carry: any number of whole PDUs.
type batch struct {
	headerDigest, dataDigest bool

	buf  []byte      // headers and short data segments
	mark int         // start in buf of what is not in vec yet
	vec  net.Buffers // pieces before buf[mark:]
	size int         // bytes in all
	held []*buffer   // data in vec, free once written
	cost int64       // share of the session's memory, given back once written
}

func (b *batch) empty() bool { return b.size == 0 }

// add appends one PDU. It reports whether data is referred to, not copied:
// then it must stay as it is until the batch is written.
func (b *batch) add(h *pdu.Header, data []byte) (refers bool) {
	before := len(b.buf)
	h.SetDataLength(len(data))
	b.buf = append(b.buf, h[:]...)
	if b.headerDigest {
		b.buf = pdu.AppendDigest(b.buf, h[:])
	}
	if len(data) > copyMax {
		// A growing buf moves, but pieces cut from its former place keep theirs.
		b.vec = append(b.vec, b.buf[b.mark:len(b.buf):len(b.buf)], data)
		b.mark = len(b.buf)
		b.size += len(data)
		refers = true
	} else {
		b.buf = append(b.buf, data...)
	}
	if len(data) > 0 {
		var zero [3]byte
		pad := zero[:pdu.Padding(len(data))]
		b.buf = append(b.buf, pad...)
		if b.dataDigest {
			b.buf = pdu.AppendDigest(b.buf, data, pad)
		}
	}
	b.size += len(b.buf) - before
	return refers
}

// writeTo sends the batch: one write, or one writev where w can do that.
func (b *batch) writeTo(w io.Writer) error {
	if len(b.vec) == 0 {
		_, err := w.Write(b.buf)
		return err
	}
	if b.mark < len(b.buf) {
		b.vec = append(b.vec, b.buf[b.mark:])
	}
	rest := b.vec // WriteTo consumes its receiver
	_, err := rest.WriteTo(w)
	return err
}

// reset makes the batch empty and gives its data back.
func (b *batch) reset(p *pool) {
	for i, h := range b.held {
		p.put(h)
		b.held[i] = nil
	}
	clear(b.vec[:cap(b.vec)])
	b.held, b.vec = b.held[:0], b.vec[:0]
	b.buf, b.mark, b.size, b.cost = b.buf[:0], 0, 0, 0
	if cap(b.buf) > keepBatch {
		b.buf = nil
	}
}
