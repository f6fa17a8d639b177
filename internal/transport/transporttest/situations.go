package transporttest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

type situation struct {
	name  string
	check func(p *pair)
}

func situations() []situation {
	return []situation{
		{"a call carries kind, head and bulk there and back", checkEcho},
		{"an error crosses with its kind and its text", checkErrors},
		{"a frame nobody handles is refused as invalid", checkUnknownKind},
		{"frames arrive in the order they were sent", checkOrder},
		{"replies find their calls in whatever order they come", checkMultiplex},
		{"a host calls itself like any other", checkSelf},
		{"hosts call each other at the same time and from handlers", checkBothWays},
		{"what exceeds the limits is refused and harms nobody", checkLimits},
		{"a reply that exceeds the limits becomes an error", checkReplyLimits},
		{"a call that gets no reply ends after its timeout", checkTimeout},
		{"a reply that comes too late is dropped", checkLateReply},
		{"done never runs inside Send", checkNotInline},
		{"a host that does not exist is unavailable", checkNobody},
		{"a closed host is unavailable, and reachable in its next life", checkNextLife},
		{"closing ends pending calls, and later ones, as closed", checkClose},
		{"a frame may be changed once its call has ended", checkBorrow},
	}
}

func checkEcho(p *pair) {
	for i, c := range []struct {
		head string
		bulk []int
	}{
		{"", nil}, {"head", nil}, {"", []int{1}}, {"h", []int{0, 4096, 0, 3, 512}},
		{strings.Repeat("h", transport.MaxHead), []int{transport.MaxBulk}},
		{"big", []int{70000}}, {"many", slices.Repeat([]int{4096}, 32)},
	} {
		f := transport.Frame{Kind: echo, Head: []byte(c.head)}
		for j, n := range c.bulk {
			f.Bulk = append(f.Bulk, pattern(i+j, n))
		}
		want := bytes.Join(f.Bulk, nil)
		for _, kind := range []transport.Kind{echo, later} {
			f.Kind = kind
			sameFrame(p, p.mustCall(p.a, Host(2), f), kind, f.Head, want)
		}
	}
}

func checkErrors(p *pair) {
	for k := holdfast.Other; k <= holdfast.LostCache; k++ {
		text := fmt.Sprintf("what, why, what to do about %s", k)
		_, err := p.call(p.a, Host(2), transport.Frame{Kind: refuse, Head: append([]byte{byte(k)}, text...)}, patient)
		p.wantKind(err, k)
		if err == nil || !strings.Contains(err.Error(), "op: "+text) {
			p.t.Errorf("the text became %v", err)
		}
	}
	_, err := p.call(p.a, Host(2), transport.Frame{Kind: refuse, Head: []byte("\x01" + strings.Repeat("é", 9000))}, patient)
	p.wantKind(err, holdfast.Invalid)
	if err == nil || len(err.Error()) > 2000 || !strings.HasPrefix(err.Error(), "op: é") || strings.ContainsRune(err.Error(), '\ufffd') {
		p.t.Errorf("a long text must be cut cleanly, got %.60q", fmt.Sprint(err))
	}
}

func checkUnknownKind(p *pair) {
	_, err := p.call(p.a, Host(2), transport.Frame{Kind: unknown}, patient)
	p.wantKind(err, holdfast.Invalid)
	p.mustCall(p.a, Host(2), transport.Frame{Kind: echo})
}

func checkOrder(p *pair) {
	const n = 2000
	y := p.tally(n)
	for i := range n {
		f := transport.Frame{Kind: record, Head: fmt.Append(nil, i)}
		if i%7 == 0 {
			f.Bulk = [][]byte{pattern(i, i*13)}
		}
		p.a.Send(Host(2), f, patient, y.done(i))
	}
	for _, err := range y.wait() {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	y.onceEach()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.seen {
		if want := fmt.Sprint(Host(1).Short(), ":", i); s != want {
			p.t.Fatalf("frame %d handled was %s, want %s", i, s, want)
		}
	}
	if len(p.seen) != n {
		p.t.Errorf("%d of %d frames handled", len(p.seen), n)
	}
}

func checkMultiplex(p *pair) {
	const n = 300
	y := p.tally(n)
	var mu sync.Mutex
	wrong := 0
	for i := range n {
		kind, end := echo, y.done(i)
		if i%3 == 0 {
			kind = later
		}
		p.a.Send(Host(2), transport.Frame{Kind: kind, Head: fmt.Append(nil, i), Bulk: [][]byte{pattern(i, 100)}}, patient,
			func(f transport.Frame, err error) {
				if string(f.Head) != fmt.Sprint(i) || len(f.Bulk) != 1 || !bytes.Equal(f.Bulk[0], pattern(i, 100)) {
					mu.Lock()
					wrong++
					mu.Unlock()
				}
				end(f, err)
			})
	}
	y.wait()
	y.onceEach()
	if wrong > 0 {
		p.t.Errorf("%d of %d calls got another call's reply", wrong, n)
	}
}

func checkSelf(p *pair) {
	bulk := pattern(3, 200000)
	sameFrame(p, p.mustCall(p.a, Host(1), transport.Frame{Kind: later, Head: []byte("me"), Bulk: [][]byte{bulk}}), later, []byte("me"), bulk)
	p.mustCall(p.a, Host(1), transport.Frame{Kind: record, Head: []byte("x")})
	if p.seen[0] != Host(1).Short()+":x" {
		p.t.Errorf("the caller appeared as %s", p.seen[0])
	}
	_, err := p.call(p.a, Host(1), transport.Frame{Kind: silent}, 10*time.Millisecond)
	p.wantKind(err, holdfast.Unavailable)
}

func checkBothWays(p *pair) {
	c := p.lab.Clock()
	g := clock.NewGroup(c)
	for i := range 8 {
		from, to := p.a, Host(2)
		if i%2 == 1 {
			from, to = p.b, Host(1)
		}
		g.Go(func() {
			for j := range 30 {
				kind := []transport.Kind{echo, later, forward}[j%3]
				head, bulk := fmt.Append(nil, i, j), pattern(i*j, j*1000)
				r, err := p.call(from, to, transport.Frame{Kind: kind, Head: head, Bulk: [][]byte{bulk}}, patient)
				if err != nil || !bytes.Equal(r.Head, head) || !bytes.Equal(bytes.Join(r.Bulk, nil), bulk) {
					p.t.Errorf("task %d call %d: %v", i, j, err)
				}
			}
		})
	}
	g.Wait()
}

func checkLimits(p *pair) {
	for _, f := range []transport.Frame{
		{Kind: echo, Head: make([]byte, transport.MaxHead+1)},
		{Kind: echo, Bulk: [][]byte{make([]byte, transport.MaxBulk), {1}}},
	} {
		_, err := p.call(p.a, Host(2), f, patient)
		p.wantKind(err, holdfast.Invalid)
	}
	p.mustCall(p.a, Host(2), transport.Frame{Kind: echo})
}

func checkReplyLimits(p *pair) {
	c := p.lab.Open(p.t, Host(3))
	c.Handle(echo, func(_ holdfast.HostID, _ transport.Frame, reply func(transport.Frame, error)) {
		reply(transport.Frame{Head: make([]byte, transport.MaxHead+1)}, nil)
	})
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	_, err := p.call(p.a, Host(3), transport.Frame{Kind: echo}, patient)
	p.wantKind(err, holdfast.Invalid)
	_, err = p.call(p.a, Host(3), transport.Frame{Kind: unknown}, patient)
	p.wantKind(err, holdfast.Invalid)
	if err := c.Close(); err != nil {
		p.t.Error(err)
	}
}

func checkTimeout(p *pair) {
	c := p.lab.Clock()
	p.mustCall(p.a, Host(2), transport.Frame{Kind: echo}) // connected
	start := c.Now()
	y := p.tally(4)
	for i, d := range []time.Duration{80, 20, 50, 20} {
		p.a.Send(Host(2), transport.Frame{Kind: silent, Head: []byte("x")}, d*time.Millisecond, y.done(i))
	}
	p.mustCall(p.a, Host(2), transport.Frame{Kind: echo}) // others are not held up
	for _, err := range y.wait() {
		p.wantKind(err, holdfast.Unavailable)
	}
	if d := c.Now() - start; d < 80*time.Millisecond {
		p.t.Errorf("a call of 80ms ended after %v", d)
	}
	y.onceEach()
}

func checkLateReply(p *pair) {
	y := p.tally(50)
	for i := range 50 {
		p.a.Send(Host(2), transport.Frame{Kind: later, Head: fmt.Append(nil, i)}, 0, y.done(i))
	}
	for _, err := range y.wait() {
		p.wantKind(err, holdfast.Unavailable)
	}
	for i := range 20 {
		head := fmt.Append(nil, "fresh", i)
		sameFrame(p, p.mustCall(p.a, Host(2), transport.Frame{Kind: later, Head: head}), later, head, nil)
	}
	y.onceEach()
}

func checkNotInline(p *pair) {
	closed := p.open(Host(3))
	if err := closed.Close(); err != nil {
		p.t.Fatal(err)
	}
	for _, c := range []struct {
		n  transport.Network
		to holdfast.HostID
		f  transport.Frame
	}{
		{p.a, Host(2), transport.Frame{Kind: echo}},
		{p.a, Host(1), transport.Frame{Kind: echo}},
		{p.a, Host(9), transport.Frame{Kind: echo}},
		{p.a, Host(2), transport.Frame{Kind: echo, Head: make([]byte, transport.MaxHead+1)}},
		{closed, Host(2), transport.Frame{Kind: echo}},
	} {
		y := p.tally(1)
		var mu sync.Mutex // as a caller may hold across Send, and take in done
		mu.Lock()
		c.n.Send(c.to, c.f, 100*time.Millisecond, func(f transport.Frame, err error) {
			mu.Lock()
			defer mu.Unlock()
			y.done(0)(f, err)
		})
		mu.Unlock()
		y.wait()
		y.onceEach()
	}
}

func checkNobody(p *pair) {
	_, err := p.call(p.a, Host(9), transport.Frame{Kind: echo}, 500*time.Millisecond)
	p.wantKind(err, holdfast.Unavailable)
}

func checkNextLife(p *pair) {
	p.mustCall(p.a, Host(2), transport.Frame{Kind: echo})
	y := p.tally(2)
	p.a.Send(Host(2), transport.Frame{Kind: silent}, patient, y.done(0))
	p.a.Send(Host(2), transport.Frame{Kind: silent}, 2*time.Second, y.done(1))
	p.mustCall(p.a, Host(2), transport.Frame{Kind: echo}) // they have arrived
	if err := p.b.Close(); err != nil {
		p.t.Fatal(err)
	}
	for _, err := range y.wait() {
		p.wantKind(err, holdfast.Unavailable)
	}
	_, err := p.call(p.a, Host(2), transport.Frame{Kind: echo}, 200*time.Millisecond)
	p.wantKind(err, holdfast.Unavailable)
	p.b = p.open(Host(2))
	for deadline := p.lab.Clock().Now() + patient; ; {
		_, err := p.call(p.a, Host(2), transport.Frame{Kind: echo}, time.Second)
		if err == nil {
			break
		}
		p.wantKind(err, holdfast.Unavailable)
		if p.lab.Clock().Now() > deadline {
			p.t.Fatalf("the next life is never reached: %v", err)
		}
		clock.Sleep(p.lab.Clock(), 10*time.Millisecond)
	}
	p.mustCall(p.b, Host(1), transport.Frame{Kind: echo})
}

func checkClose(p *pair) {
	const n = 40
	p.mustCall(p.a, Host(2), transport.Frame{Kind: echo})
	y := p.tally(n)
	for i := range n {
		to, timeout := Host(1+i%3), patient // itself, the other
		if i%3 == 2 {
			to = Host(2)
			timeout = clock.Forever
		}
		p.a.Send(to, transport.Frame{Kind: silent}, timeout, y.done(i))
	}
	if err := p.a.Close(); err != nil {
		p.t.Fatal(err)
	}
	for _, err := range y.wait() {
		p.wantKind(err, holdfast.Closed)
	}
	y.onceEach()
	_, err := p.call(p.a, Host(2), transport.Frame{Kind: echo}, patient)
	p.wantKind(err, holdfast.Closed)
}

// checkBorrow overwrites each frame as soon as its call has ended, and checks
// that neither an earlier nor a later one changes on its way.
func checkBorrow(p *pair) {
	f := transport.Frame{Kind: later, Head: make([]byte, 8), Bulk: [][]byte{make([]byte, 5000), make([]byte, 3)}}
	for i := range 30 {
		copy(f.Head, fmt.Append(nil, i, "        "))
		copy(f.Bulk[0], pattern(i, 5000))
		copy(f.Bulk[1], pattern(i+1, 3))
		want := f.Clone()
		timeout := patient
		if i%4 == 3 {
			timeout = 0 // ends while it is still under way
		}
		r, err := p.call(p.a, Host(2), f, timeout)
		if timeout == 0 {
			p.wantKind(err, holdfast.Unavailable)
		} else if err != nil {
			p.t.Fatal(err)
		} else {
			sameFrame(p, r, later, want.Head, bytes.Join(want.Bulk, nil))
		}
	}
}
