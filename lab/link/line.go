package link

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Spec is a lane as the lab wants it: what carries the packets of some pairs of
// addresses one way. A lane that is named again goes on with another shape.
type Spec struct {
	Name  string          `json:"name"`
	Shape Shape           `json:"shape"`
	Pairs [][2]netip.Addr `json:"pairs"` // from, to
}

// line carries packets: it is what the process does, without the device.
type line struct {
	now   func() time.Duration
	write func([]byte) // gives a packet back; called by deliver alone

	mu     sync.Mutex // guards what follows
	lanes  map[string]*lane
	routes map[[2]netip.Addr]*lane
	moving transit
	order  uint64

	wake chan struct{} // something is due earlier than it was
	pool sync.Pool
}

func newLine(now func() time.Duration, write func([]byte)) *line {
	return &line{now: now, write: write, lanes: map[string]*lane{}, routes: map[[2]netip.Addr]*lane{}, wake: make(chan struct{}, 1),
		pool: sync.Pool{New: func() any { b := make([]byte, maxPacket); return &b }}}
}

// set replaces all lanes. What is under way arrives.
func (l *line) set(specs []Spec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lanes := map[string]*lane{}
	l.routes = map[[2]netip.Addr]*lane{}
	for _, s := range specs {
		n := l.lanes[s.Name]
		if n == nil {
			n = &lane{rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
		}
		n.shape = s.Shape
		n.free = min(n.free, l.now()) // at the new rate
		lanes[s.Name] = n
		for _, p := range s.Pairs {
			l.routes[p] = n
		}
	}
	l.lanes = lanes
}

// counts returns what became of the packets, by the lanes' names.
func (l *line) counts() map[string]Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]Count{}
	for name, n := range l.lanes {
		out[name] = n.count
	}
	return out
}

// maxPacket is longer than what the device gives: its MTU is that of Ethernet.
const maxPacket = 2048

// take puts a packet on its way. What no lane carries is given back at once: it
// has been on its way here while its lane was removed.
func (l *line) take(b []byte) {
	pair, ok := ends(b)
	if !ok || len(b) > maxPacket {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	way := l.routes[pair]
	if way == nil {
		way = new(lane)
	}
	due, ok := way.offer(now, len(b))
	if !ok {
		return
	}
	data := (*l.pool.Get().(*[]byte))[:len(b)]
	copy(data, b)
	l.order++
	heap.Push(&l.moving, packet{due: due, order: l.order, data: data, lane: way})
	if l.moving[0].order == l.order {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// ends returns source and destination of an IPv4 packet (RFC 791, 3.1).
func ends(b []byte) (pair [2]netip.Addr, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return pair, false
	}
	return [2]netip.Addr{netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))}, true
}

// deliver gives packets back when they are due, until done is closed.
func (l *line) deliver(done <-chan struct{}) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		l.mu.Lock()
		p, ok, wait := l.moving.next(l.now())
		if ok {
			p.lane.arrived(len(p.data))
		}
		l.mu.Unlock()
		if ok {
			l.write(p.data)
			b := p.data[:cap(p.data)]
			l.pool.Put(&b)
			continue
		}
		if wait < 0 {
			wait = time.Hour
		}
		t.Reset(wait)
		select {
		case <-done:
			return
		case <-l.wake:
		case <-t.C:
		}
	}
}
