// Package transporttest is the conformance suite of the transport seam: the
// TCP network and the simulated one pass the same situations.
package transporttest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Lab is a few hosts on one network, fresh for each test.
type Lab interface {
	// Clock is that of the test's own tasks.
	Clock() clock.Clock
	// Run executes f on a task of Clock and returns when f has ended.
	Run(t *testing.T, f func())
	// Open starts the life of a host: a new endpoint for id that is known to
	// all others and neither serves nor has handlers yet.
	Open(t *testing.T, id holdfast.HostID) transport.Network
}

// Host returns the identity of the suite's n-th host.
func Host(n int) holdfast.HostID {
	return holdfast.HostID{UUID: holdfast.UUID{0: byte(n), 6: 0x40, 8: 0x80, 15: byte(n)}}
}

// The kinds of frame the suite uses.
const (
	echo    transport.Kind = 1  // replies with what came
	later   transport.Kind = 2  // the same, from another task, after others
	refuse  transport.Kind = 3  // replies with an error
	silent  transport.Kind = 4  // never replies
	record  transport.Kind = 5  // notes the head's bytes in order
	forward transport.Kind = 6  // calls echo at the sender before it replies
	unknown transport.Kind = 99 // has no handler
)

const patient = time.Minute // a timeout that does not pass in a sound run

// pair is two hosts, a and b, of which b serves everything above.
type pair struct {
	t    *testing.T
	lab  Lab
	a, b transport.Network
	mu   sync.Mutex
	seen []string
}

// Run checks the network that open makes.
func Run(t *testing.T, open func(t *testing.T) Lab) {
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			lab := open(t)
			p := &pair{t: t, lab: lab}
			lab.Run(t, func() {
				p.a = p.open(Host(1))
				p.b = p.open(Host(2))
				s.check(p)
				if p.a.Close() != nil || p.b.Close() != nil {
					t.Error("Close failed")
				}
			})
		})
	}
}

func (p *pair) open(id holdfast.HostID) transport.Network {
	n := p.lab.Open(p.t, id)
	p.install(n)
	if err := n.Start(); err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *pair) install(n transport.Network) {
	c := p.lab.Clock()
	n.Handle(echo, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) { reply(f, nil) })
	n.Handle(later, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		c.AfterFunc(5*time.Millisecond, func() { reply(f, nil) })
	})
	n.Handle(refuse, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		reply(transport.Frame{}, fmt.Errorf("op: %w", holdfast.Errorf(holdfast.Kind(f.Head[0]), "%s", f.Head[1:])))
	})
	n.Handle(silent, func(holdfast.HostID, transport.Frame, func(transport.Frame, error)) {})
	n.Handle(record, func(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		p.mu.Lock()
		p.seen = append(p.seen, from.Short()+":"+string(f.Head))
		p.mu.Unlock()
		reply(transport.Frame{}, nil)
	})
	n.Handle(forward, func(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		g := f.Clone() // ours beyond this call
		g.Kind = echo
		n.Send(from, g, patient, func(r transport.Frame, err error) { reply(r, err) })
	})
}

func (p *pair) call(n transport.Network, to holdfast.HostID, f transport.Frame, timeout time.Duration) (transport.Frame, error) {
	return transport.Call(p.lab.Clock(), n, to, f, timeout)
}

func (p *pair) mustCall(n transport.Network, to holdfast.HostID, f transport.Frame) transport.Frame {
	p.t.Helper()
	r, err := p.call(n, to, f, patient)
	if err != nil {
		p.t.Fatalf("call of kind %d: %v", f.Kind, err)
	}
	return r
}

func (p *pair) wantKind(err error, k holdfast.Kind) {
	p.t.Helper()
	if !holdfast.IsKind(err, k) {
		p.t.Errorf("got error %v, want kind %q", err, k)
	}
}

// pattern returns n bytes that differ by seed and place.
func pattern(seed, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*31 + seed*17 + i>>8)
	}
	return b
}

func sameFrame(p *pair, got transport.Frame, kind transport.Kind, head, bulk []byte) {
	p.t.Helper()
	if got.Kind != kind || !bytes.Equal(got.Head, head) {
		p.t.Errorf("got kind %d head %.40q, want kind %d head %.40q", got.Kind, got.Head, kind, head)
	}
	if len(got.Bulk) > 1 || !bytes.Equal(bytes.Join(got.Bulk, nil), bulk) {
		p.t.Errorf("bulk of %d pieces, %d bytes differs from the %d bytes sent", len(got.Bulk), len(bytes.Join(got.Bulk, nil)), len(bulk))
	}
}

// tally waits for a number of calls to end and counts how each did.
type tally struct {
	p    *pair
	mu   sync.Mutex
	ends map[int]int
	errs []error
	left int
	all  clock.Event
}

func (p *pair) tally(n int) *tally {
	return &tally{p: p, ends: make(map[int]int), left: n, all: p.lab.Clock().NewEvent()}
}

func (y *tally) done(i int) func(transport.Frame, error) {
	return func(_ transport.Frame, err error) {
		y.mu.Lock()
		defer y.mu.Unlock()
		y.ends[i]++
		y.errs = append(y.errs, err)
		if y.left--; y.left == 0 {
			y.all.Set()
		}
	}
}

// wait returns the errors in order of their arrival.
func (y *tally) wait() []error {
	y.p.t.Helper()
	if !y.all.Wait(2 * patient) {
		y.p.t.Fatalf("%d calls never ended", y.left)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.errs
}

// onceEach checks that no call ended twice, even some time after.
func (y *tally) onceEach() {
	y.p.t.Helper()
	clock.Sleep(y.p.lab.Clock(), 50*time.Millisecond)
	y.mu.Lock()
	defer y.mu.Unlock()
	for i, n := range y.ends {
		if n != 1 {
			y.p.t.Errorf("call %d ended %d times", i, n)
		}
	}
}
