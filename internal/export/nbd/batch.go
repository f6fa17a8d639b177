package nbd

import (
	"bytes"
	"io"
	"net"

	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// copyMax is the longest payload that is copied between the headers of a
// batch; longer ones are handed to writev where they are. Measured: below
// it one copy costs less than two more pieces.
const copyMax = 16 << 10

// keepBatch is the most memory a batch keeps for its next use.
const keepBatch = 1 << 20

// batch is output that one write will carry: any number of whole replies.
type batch struct {
	buf   []byte      // headers and short payloads
	mark  int         // start in buf of what is not in vec yet
	vec   net.Buffers // pieces before buf[mark:]
	held  []*buffer   // payloads in vec, free once written
	sent  int         // of buf, with an empty vec, written already
	count int         // requests answered
	cost  int64       // their share of the window, in bytes
}

func (b *batch) empty() bool { return b.count == 0 }

// payload appends the content of p[from:to], taking p over if it is too long
// to copy. It reports whether p is held.
func (b *batch) payload(mem []byte) (held bool) {
	if len(mem) <= copyMax {
		b.buf = append(b.buf, mem...)
		return false
	}
	// A growing buf moves, but pieces cut from its former place keep theirs.
	b.vec = append(b.vec, b.buf[b.mark:len(b.buf):len(b.buf)], mem)
	b.mark = len(b.buf)
	return true
}

// writeTo sends the batch: one write, or one writev where w can do that.
func (b *batch) writeTo(w io.Writer) error {
	if len(b.vec) == 0 {
		_, err := w.Write(b.buf[b.sent:])
		return err
	}
	if b.mark < len(b.buf) {
		b.vec = append(b.vec, b.buf[b.mark:])
	}
	if c, plain := w.(*socket.Conn); plain {
		w = c.Conn // that can do writev
	}
	rest := b.vec // WriteTo consumes its receiver
	_, err := rest.WriteTo(w)
	return err
}

// reset makes the batch empty and gives its payloads back.
func (b *batch) reset(p *pool) {
	for i, h := range b.held {
		p.put(h)
		b.held[i] = nil
	}
	clear(b.vec[:cap(b.vec)])
	b.held, b.vec = b.held[:0], b.vec[:0]
	b.buf, b.mark, b.sent, b.count, b.cost = b.buf[:0], 0, 0, 0, 0
	if cap(b.buf) > keepBatch {
		b.buf = nil
	}
}

// allZero reports whether b holds nothing but zeroes. Data that is not zero
// is usually told by its first byte; the rest is one vectorised comparison of
// b with itself, one byte further.
func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
