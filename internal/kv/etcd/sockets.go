package etcd

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// tuneEvery is how often the member's new connections are looked for.
const tuneEvery = 500 * time.Millisecond

// tunePeers has the kernel notice dead connections to other members. etcd dials
// them itself, means to give up on one that is silent for 5 s, and does not: its
// transport has both a Dial with deadlines and a DialContext without, and
// net/http takes the latter (seen in 3.7.3). A member whose cable was cut and
// healed then hears nothing until TCP tries again, for as long as the cut lasted,
// and votes in no election. There is no way in to the dialler, so the sockets are
// found among the process's own.
func (m *Member) tunePeers(stop <-chan struct{}) {
	t := time.NewTicker(tuneEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			tuneSockets(m.peerAddrs())
		}
	}
}

// peerAddrs are the addresses of the other members.
func (m *Member) peerAddrs() map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, p := range m.etcd.Server.Cluster().Members() {
		if p.ID == m.etcd.Server.MemberID() {
			continue
		}
		for _, text := range p.PeerURLs {
			u, err := url.Parse(text)
			if err != nil {
				continue
			}
			// A peer with a name is found by its address once it is connected to;
			// hosts advertise addresses.
			if a, err := netip.ParseAddrPort(u.Host); err == nil {
				out[a] = true
			}
		}
	}
	return out
}

// tuneSockets tunes this process's connections to some addresses. A descriptor
// may be closed and mean another socket meanwhile: to notice death does no harm
// to any.
func tuneSockets(to map[netip.AddrPort]bool) (found int) {
	if len(to) == 0 {
		return 0
	}
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer dir.Close()
	fds, _ := dir.Readdirnames(-1)
	for _, name := range fds {
		fd, err := strconv.Atoi(name)
		if err != nil || !to[peerOf(fd)] {
			continue
		}
		found++
		if !socket.NoticesDeath(uintptr(fd)) {
			socket.NoticeDeathFD(uintptr(fd))
		}
	}
	return found
}

// peerOf returns the address at the other end of a TCP connection, of any other
// descriptor the zero one.
func peerOf(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		ip, _ := netip.AddrFromSlice(net.IP(a.Addr[:]))
		return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
