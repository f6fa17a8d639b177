package guestnet

import (
	"net"
	"net/netip"

	"github.com/holdfast-cloud/holdfast"
)

// allowed says whether a guest may open a connection to an address outside;
// the error says why not.
func allowed(a netip.Addr, deny []netip.Prefix) error {
	a = a.Unmap()
	refuse := func(why string) error {
		return holdfast.Errorf(holdfast.Denied, "a guest may not reach %s: %s", a, why)
	}
	switch {
	case !a.Is4():
		return refuse("only IPv4 is carried")
	case a.As4()[0] == 0 || a.As4()[0] == 127:
		return refuse("it is this computer")
	case a.IsMulticast() || a.As4()[0] >= 240:
		return refuse("it is not one computer's address")
	case a.IsLinkLocalUnicast():
		return refuse("it is link-local")
	case network.Contains(a):
		return refuse("it lies in the guest's own network")
	}
	for _, p := range deny {
		if p.Contains(a) {
			return refuse("the cluster's hosts are not for guests")
		}
	}
	if isLocal(a) {
		return refuse("it is this computer")
	}
	return nil
}

// isLocal reports whether the kernel would deliver to itself what is sent to
// a: it is an address of an interface, or a route says so, which shows in the
// source address that the kernel chooses. Connecting UDP sends nothing.
func isLocal(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // then nothing is known, and nothing is allowed
	}
	for _, x := range addrs {
		if n, ok := x.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a {
				return true
			}
		}
	}
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: a.AsSlice(), Port: 9})
	if err != nil {
		return false // no route: dialling will say so
	}
	defer c.Close()
	from := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	return from == a
}
