package guestnet

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/holdfast-cloud/holdfast"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cable connects a router with the given settings to a guest: another stack,
// which stands in for the one inside a VM.
func cable(t *testing.T, cfg Config) (r *router, guestSide *stack.Stack) {
	t.Helper()
	r, err := newRouter()
	if err != nil {
		t.Fatal(err)
	}
	startForwarding(r, &settings{path: "/nonexistent", cfg: cfg})
	link := channel.New(queueLen, mtu+minFrame, tcpip.LinkAddress("\x52\x54\x00\x12\x34\x56"))
	g := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	g.CreateNIC(nicID, ethernet.New(link))
	g.AddProtocolAddress(nicID, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{
		Address: tcpip.AddrFrom4(guest.As4()), PrefixLen: 24}}, stack.AddressProperties{})
	all, _ := tcpip.NewSubnet(tcpip.AddrFrom4([4]byte{}), tcpip.MaskFromBytes(make([]byte, 4)))
	g.SetRouteTable([]tcpip.Route{{Destination: all, Gateway: tcpip.AddrFrom4(gateway.As4()), NIC: nicID}})
	a, b := net.Pipe()
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); exchange(r, a) }()
	go func() { defer wg.Done(); exchange(&router{stack: g, link: link}, b) }()
	t.Cleanup(func() {
		a.Close()
		b.Close()
		wg.Wait()
		r.close()
		g.Destroy()
		r.stack.Wait()
		g.Wait()
	})
	return r, g
}

func dialFrom(g *stack.Stack, addr string, port uint16) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a := netip.MustParseAddr(addr)
	return gonet.DialContextTCP(ctx, g, tcpip.FullAddress{Addr: tcpip.AddrFrom4(a.As4()), Port: port}, ipv4.ProtocolNumber)
}

func TestAGuestIsRefusedByEveryListenerOfThisComputer(t *testing.T) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	_, g := cable(t, Config{})
	targets := []string{"10.0.2.2", "10.0.2.99", "169.254.169.254"}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			targets = append(targets, n.IP.String())
		}
	}
	for _, to := range targets {
		if c, err := dialFrom(g, to, port); err == nil {
			c.Close()
			t.Errorf("the guest reached %s:%d", to, port)
		}
	}
}

func TestTheAgentDialsTheGuestAndBothSidesEndInOrder(t *testing.T) {
	r, g := cable(t, Config{})
	ln, err := gonet.ListenTCP(g, tcpip.FullAddress{NIC: nicID, Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() { // an echo that answers only after the client has ended its side
		c, err := ln.Accept()
		if err == nil {
			var b []byte
			if b, err = io.ReadAll(c); err == nil {
				_, err = c.Write(b)
			}
			c.Close()
		}
		done <- err
	}()
	dir := t.TempDir()
	sock, err := net.Listen("unix", dir+"/dial")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() { defer close(over); acceptDials(r, sock) }()
	defer func() { sock.Close(); <-over }()
	c, err := Dial(dir+"/dial", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	go func() {
		c.Write(want)
		c.(*net.UnixConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came back, %v", len(got), len(want), err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if in, out, err := Count(dir + "/dial"); err != nil || in < uint64(len(want)) || out < uint64(len(want)) {
		t.Fatalf("the guest received %d and sent %d, %v", in, out, err)
	}
	if _, _, err := Count(dir + "/nobody"); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("nobody counts: %v", err)
	}
	if _, err := Dial(dir+"/dial", 81); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("a closed port: %v", err)
	}
	if _, err := Dial(dir+"/dial", 70000); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("no port: %v", err)
	}
}

func TestDNSGoesToTheHostsResolver(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.77.77.77:53")
	if err != nil {
		t.Skip("cannot serve DNS on loopback: ", err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(append([]byte("answer to "), buf[:n]...), from)
		}
	}()
	defer func() { server.Close(); <-over }()
	_, g := cable(t, Config{DNS: []netip.Addr{netip.MustParseAddr("127.77.77.77")}})
	c, err := gonet.DialUDP(g, nil, &tcpip.FullAddress{Addr: tcpip.AddrFrom4(gateway.As4()), Port: 53}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("question"))
	c.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if string(buf[:n]) != "answer to question" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
}

func TestThePolicy(t *testing.T) {
	deny := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	for _, a := range []string{"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "169.254.1.1", "224.1.1.1", "240.0.0.1", "255.255.255.255",
		"10.0.2.7", "203.0.113.9", "::1", "fe80::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:203.0.113.9"} {
		if err := allowed(netip.MustParseAddr(a), deny); !holdfast.IsKind(err, holdfast.Denied) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"198.51.100.7", "10.0.3.1", "203.0.112.255", "::ffff:198.51.100.7"} {
		if err := allowed(netip.MustParseAddr(a), deny); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// discover is a client's message of a type, asking for an address.
func discover(kind byte, want netip.Addr) []byte {
	b := make([]byte, dhcpHeader)
	b[0], b[1], b[2] = 1, 1, 6
	copy(b[4:], "\x11\x22\x33\x44")
	copy(b[28:], "\x52\x54\x00\x12\x34\x56")
	b = binary.BigEndian.AppendUint32(b, dhcpCookie)
	b = append(b, optType, 1, kind)
	if want.IsValid() {
		b = append(append(b, optRequested, 4), want.AsSlice()...)
	}
	return append(b, optEnd)
}

func TestTheGuestGetsItsOneAddress(t *testing.T) {
	offer := dhcpReply(discover(typeDiscover, netip.Addr{}))
	if offer == nil || addr4(offer[16:20]) != guest || string(offer[4:8]) != "\x11\x22\x33\x44" || string(offer[28:34]) != "\x52\x54\x00\x12\x34\x56" {
		t.Fatalf("offer %x", offer)
	}
	opts := dhcpOptions(offer[dhcpHeader+4:])
	if opts[optType][0] != typeOffer || addr4(opts[optRouter]) != gateway || addr4(opts[optDNS]) != gateway {
		t.Fatalf("offer %v", opts)
	}
	kind := func(b []byte) byte { return dhcpOptions(b[dhcpHeader+4:])[optType][0] }
	if got := kind(dhcpReply(discover(typeRequest, guest))); got != typeAck {
		t.Errorf("request: %d", got)
	}
	if got := kind(dhcpReply(discover(typeRequest, netip.MustParseAddr("10.0.2.16")))); got != typeNak {
		t.Errorf("request of another address: %d", got)
	}
	for name, b := range map[string][]byte{"short": make([]byte, 100), "an answer": offer, "no options": discover(typeDiscover, guest)[:dhcpHeader+4], "a release": discover(7, guest)} {
		if r := dhcpReply(b); r != nil {
			t.Errorf("%s was answered", name)
		}
	}
}

func FuzzDHCP(f *testing.F) {
	f.Add(discover(typeDiscover, netip.Addr{}))
	f.Add(discover(typeRequest, guest))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := dhcpReply(b); r != nil && (len(r) < 300 || r[0] != 2) {
			t.Errorf("answer %x", r)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0e01234567890123"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		buf := make([]byte, maxFrame)
		for {
			at := len(b) - in.Len()
			frame, err := readFrame(in, buf)
			if err != nil {
				return
			}
			if again := appendFrame(nil, frame); !bytes.Equal(again, b[at:at+len(again)]) {
				t.Fatalf("frame %x came out of %x", frame, b[at:])
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"frames":"a","dial":"b","lock":"c","deny":["10.0.0.0/8"],"dns":["1.1.1.1"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseConfig(b); err == nil && c.Lock == "" {
			t.Error("accepted a configuration without a lock")
		}
	})
}

func FuzzReadPort(f *testing.F) {
	f.Add("80\nrest")
	f.Add("0\n")
	f.Fuzz(func(t *testing.T, s string) {
		in := strings.NewReader(s)
		port, err := parsePort(readShortLine(in))
		if err == nil && (port == 0 || !strings.HasSuffix(fmt.Sprint(s[:len(s)-in.Len()]), "\n")) {
			t.Errorf("%q gave port %d", s, port)
		}
	})
}

func TestResolversAreReadAsTheHostDoes(t *testing.T) {
	got := parseResolvers("# x\nnameserver 192.0.2.1\nsearch a\n nameserver ::1 \nnameserver nonsense\nnameserver\n")
	if fmt.Sprint(got) != "[192.0.2.1 ::1]" {
		t.Fatal(got)
	}
}
