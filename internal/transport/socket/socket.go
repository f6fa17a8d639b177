// Package socket reads and writes sockets with as little of the scheduler as
// possible. A read or write of a non-blocking socket returns at once, so it is
// made as a raw system call: it keeps its thread's processor, and it does not
// wake the runtime's monitor, which after a pause costs more than the call
// itself (docs/BENCHMARKS.md). Where the socket has nothing to give or to take,
// the goroutine parks as usual.
package socket

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"github.com/holdfast-cloud/holdfast/internal/transport/awake"
)

// Conn is a connection whose Read and Write are raw. At most one goroutine may
// read and one write at a time; WriteNow counts as writing. Everything else is
// the connection's own.
type Conn struct {
	net.Conn
	rc    syscall.RawConn
	in    side
	out   side
	now   func(fd uintptr) (done bool) // out.step that never waits
	vec   func(fd uintptr) (done bool) // the same of pieces
	watch *watch                       // nil: a read that has to wait parks at once

	pieces []syscall.Iovec // of vec

	keeper *awake.Keeper // told of what a read has waited for
	waited bool          // the read under way found nothing at first
}

// maxPieces is how many pieces of memory one system call takes.
const maxPieces = 64

// side is one direction: the memory of the call under way and its outcome.
type side struct {
	b     []byte
	n     int
	errno syscall.Errno
	step  func(fd uintptr) (done bool)
}

// New wraps a socket. ok is false where c is none.
func New(c net.Conn) (conn *Conn, ok bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, false
	}
	s := &Conn{Conn: c, rc: rc}
	s.in.step = s.receive
	s.out.step = func(fd uintptr) bool { return s.out.call(syscall.SYS_WRITE, fd) }
	s.now = func(fd uintptr) bool { s.out.call(syscall.SYS_WRITE, fd); return true }
	s.vec = func(fd uintptr) bool { s.writeVec(fd); return true }
	return s, true
}

// Watch has reads watch for a moment for what the other end sends next, when may
// says that it has reason to. It is for the connections of initiators, which wait
// for each answer. Its caller is the one who reads.
func (c *Conn) Watch(may func() bool) { c.watch = &watch{may: may} }

// Tell has k know of every read that had to wait. Its caller is the one who reads.
func (c *Conn) Tell(k *awake.Keeper) { c.keeper = k }

// receive reads what there is, or what comes within a moment.
func (c *Conn) receive(fd uintptr) (done bool) {
	if c.in.call(syscall.SYS_READ, fd) {
		return true
	}
	c.waited = true
	return c.watch.worthwhile() && c.watch.look(func() bool { return c.in.call(syscall.SYS_READ, fd) })
}

// call reports whether the call is over: it transferred something, or failed
// otherwise than for having to wait.
func (d *side) call(trap, fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(d.b))), uintptr(len(d.b)))
		switch errno {
		case 0:
			d.n, d.errno = int(n), 0
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			d.n = 0
			return false
		default:
			d.n, d.errno = 0, errno
			return true
		}
	}
}

func (d *side) take(op string) (int, error) {
	d.b = nil
	if d.errno != 0 {
		return 0, os.NewSyscallError(op, d.errno)
	}
	return d.n, nil
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.in.b, c.waited = b, false
	if err := c.rc.Read(c.in.step); err != nil {
		c.in.b = nil
		return 0, err
	}
	n, err := c.in.take("read")
	if c.waited {
		c.keeper.Came()
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn: it sends all of b, waiting where it must.
func (c *Conn) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		c.out.b = b[sent:]
		if err := c.rc.Write(c.out.step); err != nil {
			c.out.b = nil
			return sent, err
		}
		n, err := c.out.take("write")
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// WriteNow sends what the socket takes at once and returns how much. An error is
// told by the next Write.
func (c *Conn) WriteNow(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	c.out.b, c.out.n, c.out.errno = b, 0, 0
	err := c.rc.Write(c.now)
	c.out.b = nil
	if err != nil || c.out.errno != 0 {
		return 0
	}
	return c.out.n
}

// WriteVecNow is WriteNow of pieces that follow one another.
func (c *Conn) WriteVecNow(pieces [][]byte) (n int) {
	for len(pieces) > 0 {
		want, k := 0, 0
		for ; k < len(pieces) && len(c.pieces) < maxPieces; k++ {
			if p := pieces[k]; len(p) > 0 {
				v := syscall.Iovec{Base: &p[0]}
				v.SetLen(len(p))
				c.pieces = append(c.pieces, v)
				want += len(p)
			}
		}
		c.out.n, c.out.errno = 0, 0
		err := c.rc.Write(c.vec)
		clear(c.pieces)
		c.pieces = c.pieces[:0]
		if err != nil || c.out.errno != 0 {
			return n
		}
		if n += c.out.n; c.out.n < want {
			return n
		}
		pieces = pieces[k:]
	}
	return n
}

func (c *Conn) writeVec(fd uintptr) {
	if len(c.pieces) == 0 {
		return
	}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&c.pieces[0])), uintptr(len(c.pieces)))
		switch errno {
		case 0:
			c.out.n = int(n)
			return
		case syscall.EINTR:
		case syscall.EAGAIN:
			return
		default:
			c.out.errno = errno
			return
		}
	}
}
