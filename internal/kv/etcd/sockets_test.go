package etcd

import (
	"net"
	"net/netip"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// A connection that somebody else dialled is found by where it leads, and
// no other is touched.
func TestConnectionsToMembersAreFound(t *testing.T) {
	dial := func() (*net.TCPConn, netip.AddrPort) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.TCPConn), netip.MustParseAddrPort(ln.Addr().String())
	}
	tuned := func(c *net.TCPConn) (yes bool) {
		raw, err := c.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { yes = socket.NoticesDeath(fd) })
		}
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	member, addr := dial()
	other, _ := dial()
	for range 2 { // the second time it is told already
		if n := tuneSockets(map[netip.AddrPort]bool{addr: true}); n != 1 {
			t.Fatalf("%d connections to a member were found, not 1", n)
		}
	}
	if !tuned(member) || tuned(other) {
		t.Errorf("told: the connection to a member: %v, to somebody else: %v", tuned(member), tuned(other))
	}
	if n := tuneSockets(nil); n != 0 {
		t.Errorf("without members %d connections were found", n)
	}
}
