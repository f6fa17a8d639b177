package tcp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// handshakeTimeout is after what a peer that does not get through the handshake is
// given up.
const handshakeTimeout = 5 * time.Second

// Sizes of the buffers of one connection, in bytes.
const (
	readBuffer  = 64 << 10 // below TLS: many records by one system call
	frameBuffer = 8 << 10  // above it: headers and short frames; what is longer goes where it is wanted
	writeBuffer = 320 << 10
)

// wire is one established connection: TLS over TCP, or to the host itself a
// pipe.
type wire struct {
	conn net.Conn
	tcp  *coalescer // under conn; nil for a pipe
	peer auth.Identity
	r    *bufio.Reader
	out  *outbox    // what drain and sendNow write; nil before the connection serves
	wmu  sync.Mutex // held by who writes, also while the socket takes nothing

	once sync.Once
	why  error         // set once before gone is closed
	gone chan struct{} // closed when the connection is
}

func newWire(conn net.Conn, tcp *coalescer, peer auth.Identity) *wire {
	return &wire{conn: conn, tcp: tcp, peer: peer, r: bufio.NewReaderSize(conn, frameBuffer), gone: make(chan struct{})}
}

// cut closes the connection at once; the first reason counts.
func (w *wire) cut(why error) {
	w.once.Do(func() {
		w.why = why
		close(w.gone)
		if w.tcp != nil {
			w.tcp.Conn.Close() // not TLS's Close, which would wait to say goodbye
		} else {
			w.conn.Close()
		}
	})
}

// reason returns why the connection was cut.
func (w *wire) reason() error {
	<-w.gone
	return w.why
}

// write sends b whole.
func (w *wire) write(b []byte) error {
	if _, err := w.conn.Write(b); err != nil {
		return err
	}
	if w.tcp != nil {
		return w.tcp.flush()
	}
	return nil
}

// drain writes what the outbox gathers until the connection is cut.
func (w *wire) drain() {
	for {
		if err := w.drainOnce(); err != nil {
			w.cut(err)
			return
		}
		select {
		case <-w.gone:
			return
		case <-w.out.wake:
		}
	}
}

func (w *wire) drainOnce() error {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	if w.tcp != nil { // what sendNow could not send
		if err := w.tcp.flush(); err != nil {
			return err
		}
	}
	for b := w.out.take(); b != nil; b = w.out.take() {
		if err := w.write(b); err != nil {
			return err
		}
		w.out.done(b)
	}
	return nil
}

// promptMax bounds what is sent by who causes it, in bytes. It fits the
// coalescer's buffer with what TLS adds.
const promptMax = writeBuffer - 64<<10

// sendNow is called by the connection's reader before it waits: it sends what
// was gathered while it was at work, as far as the socket takes it at once. A
// reader must not wait for the other end to read, or both could wait for ever;
// what is left is the writer's.
func (w *wire) sendNow() {
	if w.out != nil && w.out.uncork() {
		w.push()
	}
}

// push sends what is queued, as far as the socket takes it at once, on the
// caller's task: waking the writer would cost more. What is left, and what is
// queued while somebody else writes, is the writer's.
func (w *wire) push() {
	if w.tcp == nil || !w.wmu.TryLock() {
		w.out.signal()
		return
	}
	defer w.wmu.Unlock()
	var b []byte
	if w.tcp.idle() {
		b = w.out.takeShort(promptMax)
	}
	if b == nil {
		w.out.signal()
		return
	}
	_, err := w.conn.Write(b)
	w.out.done(b)
	if err != nil {
		w.cut(err)
	} else if !w.tcp.flushNow() {
		w.out.signal()
	}
}

// await waits until n bytes, at most frameBuffer, are in the reader. Before it
// waits it sends what there is to send.
func (w *wire) await(n int) error {
	if w.r.Buffered() >= n {
		return nil
	}
	w.sendNow()
	_, err := w.r.Peek(n)
	w.resume()
	return err
}

// readFull fills b, sending before it waits.
func (w *wire) readFull(b []byte) error {
	if w.r.Buffered() < len(b) {
		w.sendNow()
		defer w.resume()
	}
	_, err := io.ReadFull(w.r, b)
	return err
}

// resume says that the reader is at work again.
func (w *wire) resume() {
	if w.out != nil {
		w.out.cork()
	}
}

// readHeader waits for the next frame and returns its header, still in the
// reader.
func (w *wire) readHeader() (raw []byte, h header, err error) {
	err = w.await(headerLen)
	if errors.Is(err, io.EOF) {
		err = holdfast.Errorf(holdfast.Unavailable, "the other end closed the connection")
	}
	if err != nil {
		return nil, header{}, err
	}
	raw, _ = w.r.Peek(headerLen)
	h, err = parseHeader(raw)
	return raw, h, err
}

// secure runs the TLS handshake over an accepted or dialled connection and
// returns the wire with the proved identity of the other end.
func secure(ctx context.Context, conn net.Conn, upgrade func(net.Conn) *tls.Conn) (*wire, error) {
	tuneSocket(conn)
	under := newCoalescer(conn)
	c := upgrade(under)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	id, err := auth.PeerIdentity(c.ConnectionState())
	if err != nil {
		return nil, err
	}
	under.hold()
	return newWire(c, under, id), nil
}

// tuneSocket makes the kernel notice a dead peer soon: probes on an idle
// connection, and an end to retransmission on a busy one. A socket that
// refuses a setting still works, so failures are ignored.
func tuneSocket(conn net.Conn) {
	t, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = t.SetNoDelay(true)
	socket.NoticeDeath(t)
}
