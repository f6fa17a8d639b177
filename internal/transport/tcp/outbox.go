package tcp

import (
	"sync"

	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// maxQueued bounds the bytes that wait to be written to one connection.
const maxQueued = 64 << 20

// keepBuffer is the largest outgoing buffer kept for reuse, in bytes.
const keepBuffer = 3 << 20

// outbox gathers coded frames while the writer is busy with the ones before,
// so that under load many frames leave in one write. Frames are copied in:
// their owners may end their calls, by timeout, before the bytes are sent.
//
// While the connection's reader is at work the outbox is corked: what its
// handlers answer, and what they cause to be sent, gathers until the reader has
// nothing more to do, and then the reader itself sends it. Otherwise whoever
// puts the first frame sends it, as far as that needs no waiting.
type outbox struct {
	mu     sync.Mutex
	buf    []byte
	spare  []byte
	corked bool
	wire   *wire         // the connection that serves; nil: none yet
	wake   chan struct{} // holds a token whenever there may be something for the writer
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put adds a frame; ok is false if too much is queued already. first says that
// nobody is going to send it unless the caller calls push.
func (o *outbox) put(typ frameType, id uint64, f transport.Frame) (ok, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := len(o.buf)
	if was+headerLen+len(f.Head)+f.BulkLen() > maxQueued {
		return false, false
	}
	o.buf = appendFrame(o.buf, typ, id, f)
	return true, was == 0 && !o.corked
}

// push sends what is queued, or has it sent. It does not wait.
func (o *outbox) push() {
	o.mu.Lock()
	w := o.wire
	o.mu.Unlock()
	if w != nil {
		w.push()
	} else {
		o.signal()
	}
}

// serves says which connection takes what is queued from here on.
func (o *outbox) serves(w *wire) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wire = w
}

// signal wakes the writer.
func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// cork says that the reader is at work; uncork that it is about to wait, and
// reports whether there is something that it is to send.
func (o *outbox) cork() {
	o.mu.Lock()
	o.corked = true
	o.mu.Unlock()
}

func (o *outbox) uncork() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	mine := o.corked // else the writer was woken for what there is
	o.corked = false
	return mine && len(o.buf) > 0
}

// take hands over everything queued, nil if that is nothing; done gives the
// memory back.
func (o *outbox) take() []byte { return o.takeShort(maxQueued) }

// takeShort is take if no more than max bytes are queued; else it returns nil.
func (o *outbox) takeShort(max int) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) == 0 || len(o.buf) > max {
		return nil
	}
	b := o.buf
	o.buf, o.spare = o.spare[:0], nil
	return b
}

func (o *outbox) done(b []byte) {
	if cap(b) > keepBuffer {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spare = b
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) == 0
}

// drop forgets everything queued.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = nil
	o.corked = false
	o.wire = nil
}
