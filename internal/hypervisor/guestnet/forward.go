package guestnet

import (
	"io"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Bounds on what one guest may occupy.
const (
	maxConnecting = 64
	maxTCP        = 1024
	maxUDP        = 512
	outTimeout    = 20 * time.Second
	udpIdle       = 60 * time.Second
	dnsIdle       = 10 * time.Second
	maxDatagram   = 65507
)

const dnsPort = 53

// forwarder opens sockets for the guest.
type forwarder struct {
	router   *router
	settings *settings
	tcp, udp chan struct{} // one token per flow
}

// startForwarding installs the handlers for everything that the guest sends to
// other addresses than a bound one of the gateway.
func startForwarding(r *router, s *settings) {
	f := &forwarder{router: r, settings: s, tcp: make(chan struct{}, maxTCP), udp: make(chan struct{}, maxUDP)}
	t := tcp.NewForwarder(r.stack, 0, maxConnecting, f.onTCP)
	r.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, t.HandlePacket)
	u := udp.NewForwarder(r.stack, f.onUDP)
	r.stack.SetTransportProtocolHandler(udp.ProtocolNumber, u.HandlePacket)
}

// target decides where a flow to addr and port goes, "" for nowhere.
func (f *forwarder) target(id stack.TransportEndpointID) string {
	a, ok := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	if !ok {
		return ""
	}
	cfg := f.settings.now()
	if a == gateway {
		if id.LocalPort != dnsPort || len(cfg.DNS) == 0 {
			return ""
		}
		return netip.AddrPortFrom(cfg.DNS[0], dnsPort).String()
	}
	if allowed(a, cfg.Deny) != nil {
		return ""
	}
	return netip.AddrPortFrom(a, id.LocalPort).String()
}

// onTCP answers a SYN: only after the other side has answered ours.
func (f *forwarder) onTCP(r *tcp.ForwarderRequest) {
	select {
	case f.tcp <- struct{}{}:
		defer func() { <-f.tcp }()
	default:
		r.Complete(true)
		return
	}
	to := f.target(r.ID())
	if to == "" {
		r.Complete(true)
		return
	}
	out, err := net.DialTimeout("tcp", to, outTimeout)
	if err != nil {
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	r.Complete(terr != nil)
	if terr != nil {
		out.Close()
		return
	}
	splice(gonet.NewTCPConn(&wq, ep), out)
}

// onUDP starts a flow at its first datagram.
func (f *forwarder) onUDP(r *udp.ForwarderRequest) {
	to := f.target(r.ID())
	if to == "" {
		return
	}
	select {
	case f.udp <- struct{}{}:
	default:
		return
	}
	idle := udpIdle
	if r.ID().LocalPort == dnsPort {
		idle = dnsIdle
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		<-f.udp
		return
	}
	in := gonet.NewUDPConn(&wq, ep)
	out, err := net.Dial("udp", to)
	if err != nil {
		in.Close()
		<-f.udp
		return
	}
	go func() {
		defer func() { <-f.udp }()
		relay(in, out, idle)
	}()
}

// halfCloser is a stream whose sending side can be ended alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// splice copies both ways until both sides have ended or one failed, and
// closes both.
func splice(a, b net.Conn) {
	done := make(chan struct{}, 2)
	pipe := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if h, ok := dst.(halfCloser); ok && err == nil {
			h.CloseWrite()
		} else {
			dst.Close()
			src.Close()
		}
		done <- struct{}{}
	}
	go pipe(a, b)
	go pipe(b, a)
	<-done
	<-done
	a.Close()
	b.Close()
}

// relay copies datagrams both ways until nothing came for a while.
func relay(a, b net.Conn, idle time.Duration) {
	done := make(chan struct{}, 2)
	pipe := func(dst, src net.Conn) {
		buf := make([]byte, maxDatagram)
		for {
			src.SetReadDeadline(time.Now().Add(idle))
			n, err := src.Read(buf)
			if err != nil {
				break
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				break
			}
		}
		a.Close()
		b.Close()
		done <- struct{}{}
	}
	go pipe(a, b)
	go pipe(b, a)
	<-done
	<-done
}
