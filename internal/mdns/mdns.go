// Package mdns answers for names on the link (multicast DNS, RFC 6762): who opens
// field.local on a phone finds the hosts beside it without any server of names.
//
// Every host of a cluster answers for the cluster's name with its own address, and a
// phone takes one: whichever is up. So no host asks first whether somebody has the
// name already (§8.1); two clusters of one name on a link are told apart by what their
// certificates say, and one of them is to be renamed.
package mdns

import (
	"io"
	"net"
	"net/netip"

	"github.com/pion/logging"
	"github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/holdfast-cloud/holdfast"
)

// TTL is how long an answer may be believed, seconds: as long as it takes to notice
// that a host has gone.
const TTL = 30

// Answer answers for names with an address of this machine, on the link that it is
// on, until Close. Errors: NotFound: no link has the address; Unavailable: port 5353
// is not to be had.
func Answer(names []string, addr netip.Addr) (io.Closer, error) {
	on, err := linkOf(addr)
	if err != nil {
		return nil, err
	}
	opts := []mdns.ServerOption{mdns.WithLocalNames(names...), mdns.WithLocalAddress(addr.AsSlice()), mdns.WithInterfaces(*on), mdns.WithIncludeLoopback(on.Flags&net.FlagLoopback != 0),
		mdns.WithResponseTTL(TTL), mdns.WithLoggerFactory(quiet{})}
	var p4 *ipv4.PacketConn
	var p6 *ipv6.PacketConn
	network, group := "udp4", mdns.DefaultAddressIPv4
	if addr.Is6() {
		network, group = "udp6", mdns.DefaultAddressIPv6
	}
	at, err := net.ResolveUDPAddr(network, group)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Other, "names on the link: %w", err)
	}
	c, err := net.ListenUDP(network, at) // beside others: a group's port is shared
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "names on the link: %w", err)
	}
	if addr.Is6() {
		p6 = ipv6.NewPacketConn(c)
	} else {
		p4 = ipv4.NewPacketConn(c)
	}
	s, err := mdns.NewServer(p4, p6, opts...)
	if err != nil {
		c.Close()
		return nil, holdfast.Errorf(holdfast.Unavailable, "names on the link: %w", err)
	}
	return s, nil
}

// linkOf finds the interface that has an address.
func linkOf(addr netip.Addr) (*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "names on the link: %w", err)
	}
	for _, i := range all {
		has, err := i.Addrs()
		if err != nil {
			continue // it has gone
		}
		for _, a := range has {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().WithZone("") == addr.WithZone("") {
				return &i, nil
			}
		}
	}
	return nil, holdfast.Errorf(holdfast.NotFound, "names on the link: no interface has the address %s", addr)
}

// quiet is a log that nobody reads: whatever anybody sends on the link would be in it.
type quiet struct{}

// NewLogger implements logging.LoggerFactory.
func (quiet) NewLogger(string) logging.LeveledLogger {
	return logging.NewDefaultLeveledLoggerForScope("mdns", logging.LogLevelDisabled, io.Discard)
}
