package socket

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// When a connection's other end counts as dead: data that it has not
// acknowledged for so long, or silence to so many probes. Left to itself TCP
// takes a quarter of an hour, and after a cable was cut and healed it is silent
// for as long again as it was cut.
const (
	ackTimeout    = 3 * time.Second // TCP_USER_TIMEOUT, RFC 5482
	probeAfter    = time.Second     // of idleness
	probes        = 3               // a second apart
	thinLinearOpt = 16              // TCP_THIN_LINEAR_TIMEOUTS of linux/tcp.h
)

// NoticeDeath makes the kernel notice soon that the other end of a TCP
// connection is gone, and try often at first to reach it. A socket that refuses a
// setting still works, so failures are ignored; c may be anything.
func NoticeDeath(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(NoticeDeathFD)
	}
}

// NoticeDeathFD does it for the socket of a descriptor.
func NoticeDeathFD(fd uintptr) {
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ackTimeout / time.Millisecond)},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(probeAfter / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probes},
		{unix.IPPROTO_TCP, thinLinearOpt, 1}, // the first retransmissions do not double their pauses
	} {
		_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
	}
}

// NoticesDeath reports whether the socket of a descriptor has been told.
func NoticesDeath(fd uintptr) bool {
	v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	return err == nil && v == int(ackTimeout/time.Millisecond)
}
