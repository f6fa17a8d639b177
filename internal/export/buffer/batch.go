package buffer

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

// keepBatch is the most memory a batch keeps for its next use, in bytes.
const keepBatch = 1 << 20

// Batch is output that one write will carry: any number of whole messages. The
// zero value is empty. It belongs to one goroutine at a time.
type Batch struct {
	// Buf is headers and short payloads; whoever makes a message appends to it.
	Buf []byte
	// Cost is what the sender reckons the batch at until it is written.
	Cost int64

	sent   int         // of Buf, if there is no vec
	mark   int         // start in Buf of what is not in vec yet
	vec    net.Buffers // pieces before Buf[mark:]
	beside int         // bytes of payloads in vec
	gone   int         // pieces of vec that have been written
	held   []*Buffer   // payloads in vec, free once written
}

// Empty reports whether nothing was appended.
func (b *Batch) Empty() bool { return b.Size() == 0 }

// Size is how long the batch is in bytes.
func (b *Batch) Size() int { return len(b.Buf) + b.beside }

// Payload appends mem: by copy, or by reference if it is too long. It reports
// which; mem that is referred to must stay as it is until the batch is written,
// and its buffer is for Hold.
func (b *Batch) Payload(mem []byte) (refers bool) {
	if len(mem) <= copyMax {
		b.Buf = append(b.Buf, mem...)
		return false
	}
	// A growing Buf moves, but pieces cut from its former place keep theirs.
	b.vec = append(b.vec, b.Buf[b.mark:len(b.Buf):len(b.Buf)], mem)
	b.mark = len(b.Buf)
	b.beside += len(mem)
	return true
}

// Hold makes the batch the owner of a buffer that payloads of it refer to.
func (b *Batch) Hold(x *Buffer) { b.held = append(b.held, x) }

// SendNow writes what a socket takes at once and reports whether that was all;
// Send writes the rest.
func (b *Batch) SendNow(c *socket.Conn) (whole bool) {
	if len(b.vec) == 0 {
		b.sent += c.WriteNow(b.Buf[b.sent:])
		return b.sent == len(b.Buf)
	}
	b.close()
	n := c.WriteVecNow(b.vec[b.gone:])
	for b.gone < len(b.vec) && n >= len(b.vec[b.gone]) {
		n -= len(b.vec[b.gone])
		b.gone++
	}
	if b.gone == len(b.vec) {
		return true
	}
	b.vec[b.gone] = b.vec[b.gone][n:]
	return false
}

// Send writes the batch, or what SendNow left of it: in one write, or one writev
// where w can do that.
func (b *Batch) Send(w io.Writer) error {
	if len(b.vec) == 0 {
		_, err := w.Write(b.Buf[b.sent:])
		return err
	}
	b.close()
	if c, plain := w.(*socket.Conn); plain {
		w = c.Conn // that can do writev
	}
	rest := b.vec[b.gone:] // WriteTo consumes its receiver
	_, err := rest.WriteTo(w)
	return err
}

// close makes the end of Buf the last piece.
func (b *Batch) close() {
	if b.mark < len(b.Buf) {
		b.vec = append(b.vec, b.Buf[b.mark:])
		b.mark = len(b.Buf)
	}
}

// Reset makes the batch empty and gives what it holds back.
func (b *Batch) Reset(p *Pool) {
	for _, x := range b.held {
		p.Put(x)
	}
	clear(b.held)
	clear(b.vec[:cap(b.vec)])
	*b = Batch{Buf: b.Buf[:0], vec: b.vec[:0], held: b.held[:0]}
	if cap(b.Buf) > keepBatch {
		b.Buf = nil
	}
}

// Zero reports whether b holds nothing but zeroes. Data that is not zero is
// usually told by its first byte; the rest is one vectorised comparison of b
// with itself, one byte further.
func Zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
