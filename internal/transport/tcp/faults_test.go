package tcp

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/transport/transporttest"
)

const (
	echo   transport.Kind = 1
	silent transport.Kind = 2
	hold   transport.Kind = 3 // replies when it is told to
)

// patient only ends a hang.
const patient = time.Minute

var alice, bob = transporttest.Host(1), transporttest.Host(2)

// serving opens and starts a host that serves the kinds above.
func (l *lab) serving(t testing.TB, id holdfast.HostID) host {
	h := l.open(t, id)
	h.Handle(echo, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) { reply(f, nil) })
	h.Handle(silent, func(holdfast.HostID, transport.Frame, func(transport.Frame, error)) {})
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func call(h host, to holdfast.HostID, kind transport.Kind, timeout time.Duration) error {
	_, err := transport.Call(clock.System{}, h, to, transport.Frame{Kind: kind, Head: []byte("x")}, timeout)
	return err
}

func wantKind(t *testing.T, err error, k holdfast.Kind) {
	t.Helper()
	if !holdfast.IsKind(err, k) {
		t.Errorf("got %v, want kind %q", err, k)
	}
}

// as connects to h with the given credentials and returns the connection and
// what it says first.
func (l *lab) as(t *testing.T, c auth.Credentials, h host) (*tls.Conn, header, []byte, error) {
	t.Helper()
	cfg := auth.ClientTLS(c, nil)
	cfg.NextProtos = []string{protocol}
	conn, err := tls.Dial("tcp", h.Addr().String(), cfg)
	if err != nil {
		return nil, header{}, nil, err
	}
	t.Cleanup(func() { conn.Close() })
	raw := make([]byte, headerLen)
	if _, err := io.ReadFull(conn, raw); err != nil {
		return conn, header{}, nil, err
	}
	first, err := parseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, first.size())
	_, err = io.ReadFull(conn, body)
	return conn, first, body, err
}

func TestOnlyMembersAreServed(t *testing.T) {
	l := newLab(t)
	b := l.serving(t, bob)
	foreign := newLab(t)
	_, _, _, err := l.as(t, auth.Credentials{CA: l.ca.Cert, Cert: foreign.credentials(t, alice).Cert, Key: foreign.credentials(t, alice).Key}, b)
	if err == nil {
		t.Error("a host of another cluster was let in")
	}
	admin := issue(t, l.ca, func(csr []byte) (auth.Credentials, error) {
		cert, err := l.ca.SignAdmin(csr, "boss")
		return auth.Credentials{CA: l.ca.Cert, Cert: cert}, err
	})
	for name, c := range map[string]auth.Credentials{"an admin": admin, "our own double": l.credentials(t, bob)} {
		_, first, why, err := l.as(t, c, b)
		if err != nil || first.typ != typeError || holdfast.Kind(first.kind) != holdfast.Denied || len(why) == 0 {
			t.Errorf("%s was not refused with a reason: %+v %q %v", name, first, why, err)
		}
	}
}

func TestAHostThatCeasesToBeAMemberIsCutOff(t *testing.T) {
	l := newLab(t)
	a, b := l.serving(t, alice), l.serving(t, bob)
	if err := call(a, bob, echo, patient); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.expired[alice] = true
	l.mu.Unlock()
	wantKind(t, call(a, bob, silent, clock.Forever), holdfast.Unavailable) // ends when the connection is cut
	err := call(a, bob, echo, patient)
	wantKind(t, err, holdfast.Unavailable)
	err = call(b, alice, echo, patient)
	wantKind(t, err, holdfast.Unavailable)
	l.mu.Lock()
	l.expired[alice] = false
	l.mu.Unlock()
	for err = call(a, bob, echo, patient); err != nil; err = call(a, bob, echo, patient) {
		wantKind(t, err, holdfast.Unavailable) // until its pause is over
	}
}

func TestAnotherHostAtTheAddressIsNotTrusted(t *testing.T) {
	l := newLab(t)
	a, b := l.serving(t, alice), l.serving(t, bob)
	carol := transporttest.Host(3)
	l.mu.Lock()
	l.addrs[carol] = b.Addr().String()
	l.mu.Unlock()
	wantKind(t, call(a, carol, echo, patient), holdfast.Unavailable)
}

// TestBadFramesEndTheConnectionOnly sends what no sound host sends, over a
// connection that is properly authenticated.
func TestBadFramesEndTheConnectionOnly(t *testing.T) {
	l := newLab(t)
	a, b := l.serving(t, alice), l.serving(t, bob)
	carol := l.credentials(t, transporttest.Host(3))
	good := appendFrame(nil, typeCall, 1, transport.Frame{Kind: echo, Head: []byte("head")})
	edit := func(f func(b []byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	for name, bad := range map[string][]byte{
		"garbage":               bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 4),
		"an endless head":       edit(func(b []byte) { binary.LittleEndian.PutUint32(b[16:], 1<<31) }),
		"an endless bulk":       edit(func(b []byte) { binary.LittleEndian.PutUint32(b[20:], transport.MaxBulk+1) }),
		"a flipped bit in head": edit(func(b []byte) { b[headerLen] ^= 1 }),
		"a flipped kind":        edit(func(b []byte) { b[6] ^= 1 }),
		"a wrong sum":           edit(func(b []byte) { b[0] ^= 1 }),
		"a reply nobody wants":  appendFrame(nil, typeReply, 1, transport.Frame{}),
		"a call without id":     appendFrame(nil, typeCall, 0, transport.Frame{}),
		"an unknown type":       appendFrame(nil, 9, 1, transport.Frame{}),
		"a welcome":             appendFrame(nil, typeWelcome, 0, transport.Frame{}),
	} {
		conn, first, _, err := l.as(t, carol, b)
		if err != nil || first.typ != typeWelcome {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := conn.Write(bad); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, conn); n != 0 { // returns when the other end has hung up
			t.Errorf("%s was answered with %d bytes, %v", name, n, err)
		}
		if err := call(a, bob, echo, patient); err != nil {
			t.Errorf("after %s others suffer: %v", name, err)
		}
	}
}

func TestStrangersOnThePortHarmNobody(t *testing.T) {
	l := newLab(t)
	a, b := l.serving(t, alice), l.serving(t, bob)
	for i := range 2*maxFromOne + 10 {
		conn, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			conn.Write([]byte("SSH-2.0-hello\r\n"))
		}
	}
	// The silent ones are dropped when their time is over, or the last ones at once.
	for err := call(a, bob, echo, 20*time.Second); err != nil; err = call(a, bob, echo, 20*time.Second) {
		wantKind(t, err, holdfast.Unavailable)
	}
	b.shaking.mu.Lock()
	defer b.shaking.mu.Unlock()
	if b.shaking.all > maxFromOne {
		t.Errorf("%d handshakes under way from one address", b.shaking.all)
	}
}

// TestAHostThatTakesNothingIsGivenOnlySoMuch has a handler that blocks, which
// it must not, so that its host stops reading.
func TestAHostThatTakesNothingIsGivenOnlySoMuch(t *testing.T) {
	l := newLab(t)
	b := l.open(t, bob)
	leave := make(chan struct{})
	b.Handle(hold, func(_ holdfast.HostID, _ transport.Frame, reply func(transport.Frame, error)) {
		<-leave
		reply(transport.Frame{}, nil)
	})
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a := l.serving(t, alice)
	const calls = 2 * maxQueued / transport.MaxBulk
	ended := make(chan error, calls)
	bulk := make([]byte, transport.MaxBulk)
	for range calls {
		a.Send(bob, transport.Frame{Kind: hold, Bulk: [][]byte{bulk}}, clock.Forever, func(_ transport.Frame, err error) { ended <- err })
	}
	wantKind(t, <-ended, holdfast.Unavailable) // the first to end is one too many
	close(leave)
	good := 0
	for range calls - 1 {
		if err := <-ended; err == nil {
			good++
		} else {
			wantKind(t, err, holdfast.Unavailable)
		}
	}
	if good < calls/4 {
		t.Errorf("%d of %d calls got through", good, calls)
	}
}

// TestAHostReadsOnAsItReplies makes more calls than a host holds for one
// other: it stops reading, and goes on as it replies.
func TestAHostReadsOnAsItReplies(t *testing.T) {
	const most, calls = maxHeld / transport.MaxBulk, maxHeld/transport.MaxBulk + 8
	l := newLab(t)
	b := l.open(t, bob)
	held := make(chan func(transport.Frame, error), calls)
	b.Handle(hold, func(_ holdfast.HostID, _ transport.Frame, reply func(transport.Frame, error)) { held <- reply })
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a := l.serving(t, alice)
	ended := make(chan error, calls)
	f := transport.Frame{Kind: hold, Bulk: [][]byte{make([]byte, transport.MaxBulk)}}
	send := func() {
		a.Send(bob, f, clock.Forever, func(_ transport.Frame, err error) { ended <- err })
	}
	var replies []func(transport.Frame, error)
	for range most {
		send()
		replies = append(replies, <-held)
	}
	for range calls - most {
		send()
	}
	for i := range calls {
		if len(held) > 0 {
			t.Fatal("a call was taken beyond what may be held")
		}
		replies[i](transport.Frame{}, nil)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if len(replies) < calls {
			replies = append(replies, <-held)
		}
	}
}

func TestReplyingFramesOfEarlierConnectionsComeFirst(t *testing.T) {
	l := newLab(t)
	b := l.open(t, bob)
	var mu sync.Mutex
	var order []string
	entered, leave := make(chan struct{}), make(chan struct{})
	b.Handle(hold, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		head := string(f.Head)
		if head == "old" {
			close(entered)
			<-leave // a handler that is slow to return
		}
		mu.Lock()
		order = append(order, head)
		mu.Unlock()
		reply(transport.Frame{}, nil)
	})
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	carol := l.credentials(t, transporttest.Host(3))
	old, _, _, err := l.as(t, carol, b)
	if err != nil {
		t.Fatal(err)
	}
	old.Write(appendFrame(nil, typeCall, 1, transport.Frame{Kind: hold, Head: []byte("old")}))
	<-entered
	anew := make(chan struct{})
	go func() {
		defer close(anew)
		conn, first, _, err := l.as(t, carol, b) // is welcomed only when the old one's handler is through
		if err != nil || first.typ != typeWelcome {
			t.Errorf("%+v %v", first, err)
			return
		}
		conn.Write(appendFrame(nil, typeCall, 1, transport.Frame{Kind: hold, Head: []byte("new")}))
		io.ReadFull(conn, make([]byte, headerLen))
	}()
	if n, _ := io.Copy(io.Discard, old); n != 0 { // the old connection is cut first
		t.Errorf("%d bytes on the old connection", n)
	}
	close(leave)
	<-anew
	mu.Lock()
	defer mu.Unlock()
	if len(order) != 2 || order[0] != "old" || order[1] != "new" {
		t.Errorf("handled in order %v", order)
	}
}

func TestABrokenConnectionEndsItsCallsAtOnce(t *testing.T) {
	l := newLab(t)
	a, b := l.serving(t, alice), l.serving(t, bob)
	for range 3 {
		if err := call(a, bob, echo, patient); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		a.Send(bob, transport.Frame{Kind: silent}, clock.Forever, func(_ transport.Frame, err error) { ended <- err })
		if err := call(a, bob, echo, patient); err != nil { // it has arrived
			t.Fatal(err)
		}
		for _, w := range b.connected() {
			w.cut(io.ErrClosedPipe)
		}
		wantKind(t, <-ended, holdfast.Unavailable)
	}
}

func TestAHandlerThatRepliesTwiceHarmsNobody(t *testing.T) {
	l := newLab(t)
	b := l.open(t, bob)
	b.Handle(echo, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		reply(f, nil)
		reply(transport.Frame{Head: []byte("again")}, nil)
	})
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a := l.serving(t, alice)
	for range 50 {
		if err := call(a, bob, echo, patient); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLateSpareBuffersAreNotShared(t *testing.T) {
	var p pool
	x := p.get(600)
	if len(x.b) != 600 || cap(x.b) != 1024 {
		t.Errorf("%d of %d", len(x.b), cap(x.b))
	}
	for _, n := range []int{0, 1, 512, 513, 4096, 4097, transport.MaxHead + transport.MaxBulk, headerLen + transport.MaxHead + transport.MaxBulk} {
		y := p.get(n)
		if len(y.b) != n {
			t.Errorf("asked for %d, got %d", n, len(y.b))
		}
		p.put(y)
	}
}
