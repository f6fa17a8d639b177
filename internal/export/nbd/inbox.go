package nbd

import (
	"bufio"
	"io"
	"net"
	"syscall"
)

// inboxSize is how much is read from a client at once, in bytes: some dozens
// of 4 KiB writes.
const inboxSize = 256 << 10

// inbox is the buffered input of a session. Unlike a bufio.Reader it can look
// whether more has arrived without waiting for it, so that replies gather
// while the client is still sending.
type inbox struct {
	nc   net.Conn
	raw  syscall.RawConn // nil where nc is not a socket itself (TLS)
	buf  []byte
	r, w int // buf[r:w] is unread

	// poll is handed to raw.Read; it is made once, so that looking allocates
	// nothing, and leaves its outcome in n.
	poll func(fd uintptr) bool
	n    int
}

// newInbox goes on where the handshake's reader stopped.
func newInbox(nc net.Conn, br *bufio.Reader) *inbox {
	in := &inbox{nc: nc, buf: make([]byte, inboxSize)}
	rest, _ := br.Peek(br.Buffered())
	in.w = copy(in.buf, rest)
	if sc, isSocket := nc.(syscall.Conn); isSocket {
		if raw, err := sc.SyscallConn(); err == nil {
			in.raw = raw
		}
	}
	in.poll = func(fd uintptr) bool {
		in.n, _ = syscall.Read(int(fd), in.buf[in.w:])
		return true // an empty socket is an answer, too; errors come again
	}
	return in
}

func (in *inbox) buffered() int { return in.w - in.r }

// room moves what is unread to the front.
func (in *inbox) room() {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
}

// arrived reports whether n bytes, at most inboxSize, can be read without
// waiting.
func (in *inbox) arrived(n int) bool {
	if in.buffered() < n && in.raw != nil {
		in.room()
		in.n = 0
		if in.raw.Read(in.poll) == nil && in.n > 0 {
			in.w += in.n
		}
	}
	return in.buffered() >= n
}

// next returns the next n bytes, at most inboxSize, which stay valid until
// the next call. At the end of the input it returns what there is, and io.EOF.
func (in *inbox) next(n int) ([]byte, error) {
	for in.buffered() < n {
		if in.r > 0 && in.r+n > len(in.buf) || in.buffered() == 0 {
			in.room()
		}
		k, err := in.nc.Read(in.buf[in.w:])
		in.w += k
		if err != nil && in.buffered() < n {
			return in.buf[in.r:in.w], err
		}
	}
	b := in.buf[in.r : in.r+n]
	in.r += n
	return b, nil
}

// read fills p, directly where p is long.
func (in *inbox) read(p []byte) error {
	k := copy(p, in.buf[in.r:in.w])
	in.r += k
	if p = p[k:]; len(p) == 0 {
		return nil
	}
	if len(p) >= len(in.buf)/4 {
		_, err := io.ReadFull(in.nc, p)
		return err
	}
	b, err := in.next(len(p))
	copy(p, b)
	return err
}

// discard skips n bytes.
func (in *inbox) discard(n int) error {
	for n > 0 {
		b, err := in.next(min(n, len(in.buf)))
		if err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}
