package nbd

import (
	"net"
	"syscall"
)

// prompt writes to a socket without ever waiting for the client: what completes
// on a task that must not block is answered at once if the socket's buffer has
// room, and no other goroutine has to be woken for it.
type prompt struct {
	rc  syscall.RawConn
	b   []byte
	n   int
	try func(fd uintptr) bool
}

// newPrompt returns nil where there is no plain socket, as under TLS.
func newPrompt(nc net.Conn) *prompt {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	p := &prompt{rc: rc}
	p.try = func(fd uintptr) bool {
		p.n, _ = syscall.Write(int(fd), p.b) // the socket is non-blocking; an error is met again by who may wait
		return true
	}
	return p
}

// write sends what it can of b now and returns how much.
func (p *prompt) write(b []byte) int {
	p.b, p.n = b, 0
	err := p.rc.Write(p.try)
	p.b = nil
	if err != nil || p.n < 0 {
		return 0
	}
	return p.n
}
