package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// HungUp reports whether the far side of a connection has ended it, as far as the
// system knows, or this side has; false where c is no socket.
func HungUp(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0
	})
	return gone || err != nil
}
