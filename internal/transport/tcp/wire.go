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
	"golang.org/x/sys/unix"
)

// Times after which a peer that gives no sign of life is given up.
const (
	handshakeTimeout = 5 * time.Second
	ackTimeout       = 3 * time.Second // unacknowledged data, RFC 5482
)

// Sizes of the buffers of one connection, in bytes.
const (
	readBuffer  = 64 << 10
	writeBuffer = 128 << 10
)

// wire is one established connection: TLS over TCP, or to the host itself a
// pipe.
type wire struct {
	conn net.Conn
	tcp  *coalescer // under conn; nil for a pipe
	peer auth.Identity
	r    *bufio.Reader

	once sync.Once
	why  error         // set once before gone is closed
	gone chan struct{} // closed when the connection is
}

func newWire(conn net.Conn, tcp *coalescer, peer auth.Identity) *wire {
	return &wire{conn: conn, tcp: tcp, peer: peer, r: bufio.NewReaderSize(conn, readBuffer), gone: make(chan struct{})}
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

// drain writes what o gathers until the connection is cut.
func (w *wire) drain(o *outbox) {
	for {
		for b := o.take(); b != nil; b = o.take() {
			if err := w.write(b); err != nil {
				w.cut(err)
				return
			}
			o.done(b)
		}
		select {
		case <-w.gone:
			return
		case <-o.wake:
		}
	}
}

// readHeader waits for the next frame and returns its header, still in the
// reader.
func (w *wire) readHeader() (raw []byte, h header, err error) {
	raw, err = w.r.Peek(headerLen)
	if errors.Is(err, io.EOF) {
		err = holdfast.Errorf(holdfast.Unavailable, "the other end closed the connection")
	}
	if err != nil {
		return nil, header{}, err
	}
	h, err = parseHeader(raw)
	return raw, h, err
}

// coalescer sits between TLS and the socket and gathers TLS's records of at
// most 16 KiB each into larger writes. Until hold is called it passes
// everything on, for the handshake. TLS may write from the reading side too
// (key updates), hence the lock.
type coalescer struct {
	net.Conn
	mu      sync.Mutex
	holding bool
	buf     []byte
}

func (c *coalescer) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = true
	c.buf = make([]byte, 0, writeBuffer)
}

func (c *coalescer) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holding {
		return c.Conn.Write(b)
	}
	if len(c.buf)+len(b) > cap(c.buf) {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
		if len(b) > cap(c.buf) {
			return c.Conn.Write(b)
		}
	}
	c.buf = append(c.buf, b...)
	return len(b), nil
}

func (c *coalescer) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked()
}

func (c *coalescer) flushLocked() error {
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// secure runs the TLS handshake over an accepted or dialled connection and
// returns the wire with the proved identity of the other end.
func secure(ctx context.Context, conn net.Conn, upgrade func(net.Conn) *tls.Conn) (*wire, error) {
	tuneSocket(conn)
	under := &coalescer{Conn: conn}
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
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3})
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ackTimeout/time.Millisecond))
	})
}
