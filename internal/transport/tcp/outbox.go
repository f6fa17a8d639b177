package tcp

import (
	"sync"

	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// maxQueued bounds the bytes that wait to be written to one connection.
const maxQueued = 64 << 20

// keepBuffer is the largest outgoing buffer kept for reuse, in bytes.
const keepBuffer = 1 << 20

// outbox gathers coded frames while the writer is busy with the ones before,
// so that under load many frames leave in one write. Frames are copied in:
// their owners may end their calls, by timeout, before the bytes are sent.
type outbox struct {
	mu    sync.Mutex
	buf   []byte
	spare []byte
	wake  chan struct{} // holds a token whenever buf may have become non-empty
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put adds a frame and reports false if too much is queued already.
func (o *outbox) put(typ frameType, id uint64, f transport.Frame) bool {
	o.mu.Lock()
	was := len(o.buf)
	if was+headerLen+len(f.Head)+f.BulkLen() > maxQueued {
		o.mu.Unlock()
		return false
	}
	o.buf = appendFrame(o.buf, typ, id, f)
	o.mu.Unlock()
	if was == 0 {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// take hands over everything queued, nil if that is nothing; done gives the
// memory back.
func (o *outbox) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) == 0 {
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
}
