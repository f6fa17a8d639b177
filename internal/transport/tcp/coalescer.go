package tcp

import (
	"bufio"
	"net"
	"sync"

	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// coalescer sits between TLS and the socket. It gathers TLS's records of at
// most 16 KiB each into larger writes, and reads many of them at once. Until
// hold is called it passes every write on, for the handshake. TLS may write from
// the reading side too (key updates), hence the lock.
type coalescer struct {
	net.Conn
	in    *bufio.Reader // the reading side's alone
	plain *socket.Conn  // Conn, if it is a socket

	mu      sync.Mutex
	holding bool
	buf     []byte
	sent    int // of buf, by flushNow
}

func newCoalescer(conn net.Conn) *coalescer {
	c := &coalescer{Conn: conn}
	if plain, ok := socket.New(conn); ok {
		c.Conn, c.plain = plain, plain
	}
	c.in = bufio.NewReaderSize(c.Conn, readBuffer)
	return c
}

func (c *coalescer) Read(b []byte) (int, error) { return c.in.Read(b) }

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

// idle reports whether everything written has been sent.
func (c *coalescer) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.buf) == 0
}

func (c *coalescer) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked()
}

// flushNow sends what the socket takes without waiting and reports whether that
// was everything; flush sends the rest.
func (c *coalescer) flushNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plain == nil {
		return false
	}
	c.sent += c.plain.WriteNow(c.buf[c.sent:])
	if c.sent < len(c.buf) {
		return false
	}
	c.buf, c.sent = c.buf[:0], 0
	return true
}

func (c *coalescer) flushLocked() error {
	if len(c.buf) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf[c.sent:])
	c.buf, c.sent = c.buf[:0], 0
	return err
}
