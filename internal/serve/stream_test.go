package serve

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// wires is a network between two hosts in one process: every call runs its
// handler at once, and the handler's borrowed frame is a copy.
type wires struct {
	self     holdfast.HostID
	handlers map[transport.Kind]transport.Handler
	dead     chan struct{} // closed: nothing is answered any more
}

func newWires() *wires {
	return &wires{self: holdfast.HostID{UUID: holdfast.UUID{1}}, handlers: map[transport.Kind]transport.Handler{}, dead: make(chan struct{})}
}

func (n *wires) Send(_ holdfast.HostID, f transport.Frame, _ time.Duration, done func(transport.Frame, error)) {
	select {
	case <-n.dead:
		return
	default:
		n.handlers[f.Kind](n.self, f.Clone(), done)
	}
}
func (n *wires) Handle(k transport.Kind, h transport.Handler) { n.handlers[k] = h }
func (n *wires) Start() error                                 { return nil }
func (n *wires) Close() error                                 { return nil }

// guests are a far host whose VM answers with f.
func guests(t *testing.T, f func(net.Conn)) (*wires, *streams) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	n := newWires()
	s := &streams{open: map[uint64]*stream{}, dial: func(_ holdfast.VMID, port int) (io.ReadWriteCloser, error) {
		if port != 80 {
			return nil, holdfast.Errorf(holdfast.Unavailable, "nobody listens at port %d", port)
		}
		return net.Dial("tcp", l.Addr().String())
	}}
	s.install(n)
	return n, s
}

func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
	c.Close()
}

func TestAStreamCarriesBothWaysAndEndsOneWayAtATime(t *testing.T) {
	n, s := guests(t, echo)
	far, err := openFar(n, holdfast.HostID{}, kindStreamOpen, holdfast.UUID{}, 80, streamDial)
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 3<<20+17)
	rand.Read(sent)
	var wg sync.WaitGroup
	wg.Go(func() {
		if k, err := far.Write(sent); err != nil || k != len(sent) {
			t.Errorf("wrote %d bytes, %v", k, err)
		}
		if err := far.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(far)
	wg.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
	far.Close()
	if len(s.open) != 0 {
		t.Errorf("%d streams are left", len(s.open))
	}
	if _, err := far.Write([]byte("x")); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("write after the end: %v", err)
	}
}

func TestAPortWhereNobodyListens(t *testing.T) {
	n, _ := guests(t, echo)
	if _, err := openFar(n, holdfast.HostID{}, kindStreamOpen, holdfast.UUID{}, 81, streamDial); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatal(err)
	}
}

// A host that stands still answers nothing; its streams end all the same once
// the VM is known to be elsewhere.
func TestAStreamToALostHostEnds(t *testing.T) {
	n, _ := guests(t, echo)
	vm, host := holdfast.VMID{UUID: holdfast.UUID{7}}, holdfast.HostID{UUID: holdfast.UUID{2}}
	far, err := openFar(n, host, kindStreamOpen, vm.UUID, 80, streamDial)
	if err != nil {
		t.Fatal(err)
	}
	var r relays
	far.done = r.add(vm, host, func() { far.Close() })
	close(n.dead)
	ended := make(chan error, 1)
	go func() {
		_, err := far.Read(make([]byte, 10))
		ended <- err
	}()
	st := &cluster.State{
		VMs:   map[holdfast.VMID]cluster.Versioned[cluster.VM]{vm: {Val: cluster.VM{ID: vm, Host: host}}},
		Hosts: map[holdfast.HostID]cluster.Versioned[cluster.Host]{host: {Val: cluster.Host{ID: host}}},
		Alive: map[holdfast.HostID]cluster.Versioned[cluster.Alive]{host: {Val: cluster.Alive{Host: host}}},
	}
	r.prune(st)
	if len(r.open) != 1 {
		t.Fatal("a stream to a living host was cut")
	}
	delete(st.Alive, host)
	r.prune(st)
	if err := <-ended; !holdfast.IsKind(err, holdfast.Closed) || len(r.open) != 0 {
		t.Fatalf("%v, %d left", err, len(r.open))
	}
}

// A guest that does not read holds a window of its stream, and no more.
func TestAGuestThatDoesNotReadHoldsLittle(t *testing.T) {
	stop := make(chan struct{})
	n, s := guests(t, func(c net.Conn) { <-stop; c.Close() })
	defer close(stop)
	far, err := openFar(n, holdfast.HostID{}, kindStreamOpen, holdfast.UUID{}, 80, streamDial)
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := far.Write(make([]byte, 64<<20))
		wrote <- err
	}()
	s.closeFrom(func(holdfast.HostID) bool { return false })
	if err := <-wrote; err == nil {
		t.Fatal("64 MiB were taken by a guest that reads nothing")
	}
}

// A frame that got lost with a connection leaves a gap: nothing behind it reaches
// the guest, neither bytes nor the end.
func TestNothingIsWrittenBehindWhatWasLost(t *testing.T) {
	for _, k := range []transport.Kind{kindStreamWrite, kindStreamEnd} {
		got := make(chan string, 1)
		n, s := guests(t, func(c net.Conn) {
			b, err := io.ReadAll(c)
			got <- fmt.Sprintf("%s %t", b, err == nil)
			c.Close()
		})
		far, err := openFar(n, holdfast.HostID{}, kindStreamOpen, holdfast.UUID{}, 80, streamDial)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = far.Write([]byte("one"))
		far.at += 3 // a frame of three bytes is lost
		if k == kindStreamWrite {
			_, _ = far.Write([]byte("three"))
		}
		if err := far.CloseWrite(); err == nil { // of the gap, or of what came before it and was not written yet
			t.Error("it is said to be written")
		}
		if w := <-got; strings.Contains(w, "three") {
			t.Errorf("the guest got %q", w)
		}
		far.Close()
		if len(s.open) != 0 {
			t.Error("the stream is left")
		}
	}
}

// What comes beyond the window ends the stream instead of being held.
func TestMoreThanAWindowEndsAStream(t *testing.T) {
	near, guest := net.Pipe() // nobody reads
	defer guest.Close()
	st := newStream(holdfast.HostID{}, near)
	answers := make(chan error, 100)
	reply := func(_ transport.Frame, err error) { answers <- err }
	for i := range 2 * streamWindow {
		st.put(uint64(i), order{bulk: [][]byte{{1}}, reply: reply})
	}
	invalid := 0
	for range 2 * streamWindow {
		switch err := <-answers; holdfast.KindOf(err) {
		case holdfast.Invalid:
			invalid++
		case holdfast.Closed:
		default:
			t.Fatal(err)
		}
	}
	if invalid != 1 {
		t.Errorf("%d writes were refused as too many, want the first of them", invalid)
	}
	for range 3 {
		st.ask(reply)
		if err := <-answers; !holdfast.IsKind(err, holdfast.Closed) {
			t.Error(err)
		}
	}
}

func TestManyStreamsShareWhatIsUnderWay(t *testing.T) {
	for _, streams := range []int{0, 1, 8, 20, 256, maxStreams} {
		for _, chunk := range []int{streamChunk, targetChunk} {
			w := windowOf(streams, chunk)
			if all := w * streams * chunk; w < 1 || w > streamWindow || all > streamBudget && w > 1 {
				t.Errorf("%d streams: %d frames of %d bytes each", streams, w, chunk)
			}
		}
	}
}

func TestStreamsOfOthersAreNotTheirs(t *testing.T) {
	n, s := guests(t, echo)
	far, err := openFar(n, holdfast.HostID{}, kindStreamOpen, holdfast.UUID{}, 80, streamDial)
	if err != nil {
		t.Fatal(err)
	}
	n.self = holdfast.HostID{UUID: holdfast.UUID{9}}
	_, _ = far.Write([]byte("x")) // told by what waits for it
	if err := far.CloseWrite(); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("another host wrote to the stream: %v", err)
	}
	far.Close()
	if len(s.open) != 1 {
		t.Error("another host closed the stream")
	}
}

// FuzzStreamFrames sends any head of any kind: whatever comes is answered once.
func FuzzStreamFrames(f *testing.F) {
	f.Add(uint16(0), make([]byte, 18), []byte(nil))
	f.Add(uint16(1), make([]byte, 8), []byte("bytes"))
	f.Add(uint16(2), []byte{1}, []byte(nil))
	f.Add(uint16(4), []byte{}, []byte{0})
	f.Add(uint16(3), make([]byte, 16), []byte(nil))
	f.Fuzz(func(t *testing.T, kind uint16, head, bulk []byte) {
		n := newWires()
		s := &streams{open: map[uint64]*stream{}, dial: func(holdfast.VMID, int) (io.ReadWriteCloser, error) {
			return nil, holdfast.Errorf(holdfast.Unavailable, "no guest")
		}}
		s.install(n)
		answered := make(chan error, 2)
		fr := transport.Frame{Kind: kindStreamOpen + transport.Kind(kind%5), Head: head}
		if len(bulk) > 0 {
			fr.Bulk = [][]byte{bulk}
		}
		n.Send(n.self, fr, time.Second, func(_ transport.Frame, err error) { answered <- err })
		if err := <-answered; err == nil && fr.Kind != kindStreamClose {
			t.Fatal("a stream that does not exist was used")
		}
	})
}
