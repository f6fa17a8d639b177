package tcp

import (
	"net"
	"net/netip"
	"sync"
)

// maxHandshakes bounds the connections that have not yet proved who they are,
// maxFromOne those from one IP address, so that a stranger does not keep
// others out.
const (
	maxHandshakes = 256
	maxFromOne    = 32
)

// Handshakes counts the connections to a listener that have not yet proved who
// they are. Its zero value is ready; it is safe for concurrent use.
type Handshakes struct {
	mu   sync.Mutex
	all  int
	from map[netip.Addr]int
}

// Begin counts a connection in, if there is room for it: ok is false if too
// many are under way, together or from its address. end counts it out; it is
// called once.
func (h *Handshakes) Begin(conn net.Conn) (end func(), ok bool) {
	a, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	from := a.Addr()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all >= maxHandshakes || h.from[from] >= maxFromOne {
		return nil, false
	}
	if h.from == nil {
		h.from = make(map[netip.Addr]int)
	}
	h.all++
	h.from[from]++
	return func() { h.end(from) }, true
}

func (h *Handshakes) end(from netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all--
	if h.from[from]--; h.from[from] == 0 {
		delete(h.from, from)
	}
}
