package serve

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// publisher answers the published ports of all VMs on this host and carries
// each connection to the VM, wherever it runs: here through the machine's own
// network, elsewhere through its host.
type publisher struct {
	h *Host

	mu     sync.Mutex
	closed bool
	ports  map[netip.AddrPort]*port
	failed map[netip.AddrPort]string // told once
}

// port is one listening address.
type port struct {
	l    net.Listener
	vm   holdfast.VMID
	port int
}

func newPublisher(h *Host) *publisher {
	return &publisher{h: h, ports: make(map[netip.AddrPort]*port), failed: make(map[netip.AddrPort]string)}
}

// maxConns bounds the connections through one published port at one host.
const maxConns = 1024

// set makes the listening addresses those of vms.
func (p *publisher) set(vms []cluster.VM) {
	want := make(map[netip.AddrPort]*port)
	for _, vm := range vms {
		if vm.Deleted || vm.Power != cluster.On {
			continue
		}
		for _, pub := range vm.Publish {
			if at, err := p.address(pub); err == nil {
				want[at] = &port{vm: vm.ID, port: pub.GuestPort}
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for at, have := range p.ports {
		if w := want[at]; w == nil || w.vm != have.vm || w.port != have.port {
			have.l.Close()
			delete(p.ports, at)
		}
	}
	for at, w := range want {
		if p.ports[at] == nil {
			p.listen(at, w)
		}
	}
}

func (p *publisher) address(pub cluster.Publish) (netip.AddrPort, error) {
	addr := pub.Addr
	if addr == "" {
		addr = p.h.cfg.PublishAddr
	}
	return netip.ParseAddrPort(net.JoinHostPort(addr, strconv.Itoa(pub.Port)))
}

func (p *publisher) listen(at netip.AddrPort, w *port) {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		if p.failed[at] != err.Error() {
			p.failed[at] = err.Error()
			p.h.log.Error("a published port cannot be answered here", "addr", at.String(), "error", err)
		}
		return
	}
	delete(p.failed, at)
	w.l = l
	p.ports[at] = w
	go p.accept(w)
}

func (p *publisher) accept(w *port) {
	room := make(chan struct{}, maxConns)
	for {
		c, err := w.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors: others must end first
			continue
		}
		room <- struct{}{}
		go func() {
			defer func() { <-room }()
			p.carry(c, w)
		}()
	}
}

// carry connects to the guest and copies both ways. A guest that cannot be
// reached shows as a reset connection, which clients retry.
func (p *publisher) carry(c net.Conn, w *port) {
	guest, err := p.h.dialGuest(w.vm, w.port)
	if err != nil {
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		c.Close()
		p.h.log.Debug("a published port did not reach its guest", "port", w.port, "error", err)
		return
	}
	splice(c, guest)
}

// dialGuest connects to a TCP port of a VM, wherever it runs.
func (h *Host) dialGuest(id holdfast.VMID, guestPort int) (io.ReadWriteCloser, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if mach := m.node.Agent.Machine(id); mach != nil {
		return mach.Dial(guestPort)
	}
	st := m.node.Cluster.State()
	vm, ok := st.VMs[id]
	if !ok || vm.Val.Host == h.dir.id.Host || !st.AliveHost(vm.Val.Host) {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the VM does not run now")
	}
	return m.openStream(vm.Val.Host, id, guestPort)
}

// dialHere connects to a TCP port of a VM that runs on this host.
func (m *member) dialHere(id holdfast.VMID, guestPort int) (io.ReadWriteCloser, error) {
	mach := m.node.Agent.Machine(id)
	if mach == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the VM does not run on this host")
	}
	return mach.Dial(guestPort)
}

// halfCloser is a connection whose writing side can be ended alone.
type halfCloser interface{ CloseWrite() error }

// splice copies both ways until both sides have ended.
func splice(a, b io.ReadWriteCloser) {
	var wg sync.WaitGroup
	one := func(dst, src io.ReadWriteCloser) {
		_, err := io.Copy(dst, src)
		if hc, ok := dst.(halfCloser); ok && err == nil {
			hc.CloseWrite()
			return
		}
		dst.Close()
		src.Close()
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
}

func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	ports := make([]*port, 0, len(p.ports))
	for _, w := range p.ports {
		ports = append(ports, w)
	}
	for _, w := range slices.Clip(ports) {
		w.l.Close()
	}
}
