package guestnet

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/holdfast-cloud/holdfast"
)

// The guest's network.
var (
	network = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 2, 0}), 24)
	gateway = netip.AddrFrom4([4]byte{10, 0, 2, 2})
	guest   = netip.AddrFrom4([4]byte{10, 0, 2, 15})
)

// gatewayMAC is locally administered.
const gatewayMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")

const (
	nicID    = 1
	queueLen = 1024 // frames towards the guest before new ones are dropped
)

// router is the stack with its one link to the guest.
type router struct {
	stack *stack.Stack
	link  *channel.Endpoint

	received, sent atomic.Uint64 // bytes of frames, as the guest sees it
}

func newRouter() (*router, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	link := channel.New(queueLen, mtu+minFrame, gatewayMAC)
	r := &router{stack: s, link: link}
	fail := func(what string, err tcpip.Error) error {
		s.Destroy()
		return holdfast.Errorf(holdfast.Other, "set up the guest's network: %s: %s", what, err)
	}
	if err := s.CreateNIC(nicID, ethernet.New(link)); err != nil {
		return nil, fail("link", err)
	}
	addr := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{
		Address: tcpip.AddrFrom4(gateway.As4()), PrefixLen: network.Bits()}}
	if err := s.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
		return nil, fail("address", err)
	}
	// The stack answers in the name of every address that the guest talks to.
	if err := s.SetPromiscuousMode(nicID, true); err != nil {
		return nil, fail("promiscuous mode", err)
	}
	if err := s.SetSpoofing(nicID, true); err != nil {
		return nil, fail("spoofing", err)
	}
	sub, err := tcpip.NewSubnet(tcpip.AddrFrom4([4]byte{}), tcpip.MaskFromBytes(make([]byte, 4)))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Other, "set up the guest's network: %w", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: sub, NIC: nicID}})
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return nil, fail("SACK", err)
	}
	return r, nil
}

// receive takes a frame from the guest.
func (r *router) receive(frame []byte) {
	r.sent.Add(uint64(len(frame)))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	r.link.InjectInbound(0, pkt)
	pkt.DecRef()
}

// next waits for a frame to the guest; nil: ctx is over.
func (r *router) next(ctx context.Context) []byte {
	pkt := r.link.ReadContext(ctx)
	if pkt == nil {
		return nil
	}
	defer pkt.DecRef()
	v := pkt.ToView()
	defer v.Release()
	r.received.Add(uint64(v.Size()))
	return append([]byte(nil), v.AsSlice()...)
}

func (r *router) close() {
	r.link.Close()
	r.stack.Destroy()
}

// listenUDP binds a port of every address that the stack answers for, and may
// send broadcasts.
func (r *router) listenUDP(port uint16) (*gonet.UDPConn, error) {
	var wq waiter.Queue
	ep, terr := r.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if terr == nil {
		ep.SocketOptions().SetBroadcast(true)
		if terr = ep.Bind(tcpip.FullAddress{NIC: nicID, Port: port}); terr != nil {
			ep.Close()
		}
	}
	if terr != nil {
		return nil, holdfast.Errorf(holdfast.Other, "listen on port %d for the guest: %s", port, terr)
	}
	return gonet.NewUDPConn(&wq, ep), nil
}

// dialTimeout bounds the guest's answer to a connection.
const dialTimeout = 10 * time.Second

// dialGuest connects from the gateway to a port of the guest.
func (r *router) dialGuest(port uint16) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	local := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(gateway.As4())}
	remote := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(guest.As4()), Port: port}
	c, err := gonet.DialTCPWithBind(ctx, r.stack, local, remote, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("port %d of the guest: %w", port, err)
	}
	return c, nil
}
