package tcp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, typeCall, 7, transport.Frame{Kind: 3, Head: []byte("head"), Bulk: [][]byte{[]byte("bu"), []byte("lk")}}))
	f.Add(appendFrame(nil, typeError, 7, errorFrame(errors.New("no"))))
	f.Add(make([]byte, headerLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerLen {
			return
		}
		h, err := parseHeader(b)
		if err != nil || len(b) < headerLen+h.size() {
			return
		}
		fr, err := h.body(b, b[headerLen:headerLen+h.size()], new([1][]byte))
		if err != nil {
			return
		}
		if again := appendFrame(nil, h.typ, h.id, fr); !bytes.Equal(again, b[:len(again)]) {
			t.Errorf("%x became %x", b, again)
		}
		if h.typ == typeError && frameError(fr) == nil {
			t.Error("an error became none")
		}
	})
}

// fakeConn is a connection that only reads.
type fakeConn struct {
	net.Conn
	r io.Reader
}

func (c fakeConn) Read(b []byte) (int, error) { return c.r.Read(b) }
func (c fakeConn) Close() error               { return nil }

// FuzzStream feeds a connection's reader, past TLS, with any bytes.
func FuzzStream(f *testing.F) {
	two := appendFrame(nil, typeReply, 1<<slotBits, transport.Frame{Head: []byte("a"), Bulk: [][]byte{make([]byte, 70000)}})
	f.Add(appendFrame(two, typeError, 2<<slotBits|1, errorFrame(errors.New("no"))))
	f.Add([]byte("garbage"))
	n := New(Config{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPeer(n, holdfast.HostID{})
		ended := 0
		for range 2 {
			p.calls.add(func(transport.Frame, error) { ended++ }, never)
		}
		err := p.read(newWire(fakeConn{r: bytes.NewReader(b)}, nil, auth.Identity{}))
		if err == nil {
			t.Error("a stream ended without an error")
		}
		p.fail(err, false)
		if ended != 2 {
			t.Errorf("%d of 2 calls ended", ended)
		}
	})
}

func TestCallsAreFoundByIDAndEndOnce(t *testing.T) {
	c := calls{earliest: never}
	var ended []int
	var ids []uint64
	for i := range 10 {
		id, ok := c.add(func(transport.Frame, error) { ended = append(ended, i) }, time.Duration(10-i))
		if !ok {
			t.Fatal("no room")
		}
		ids = append(ids, id)
	}
	c.take(ids[3])(transport.Frame{}, nil)
	if c.take(ids[3]) != nil || c.take(0) != nil || c.take(ids[9]+1<<slotBits) != nil || c.take(maxCalls-1) != nil {
		t.Error("a call was found that is not there")
	}
	again, _ := c.add(func(transport.Frame, error) { ended = append(ended, 10) }, 100)
	if again == ids[3] || c.take(ids[3]) != nil {
		t.Error("a late reply finds a later call")
	}
	for _, done := range c.takeDue(5) {
		done(transport.Frame{}, nil)
	}
	if c.earliest != 6 {
		t.Errorf("the next deadline is %d, want 6", c.earliest)
	}
	for _, done := range c.takeAll() {
		done(transport.Frame{}, nil)
	}
	want := []int{3, 5, 6, 7, 8, 9, 0, 1, 2, 4, 10}
	if len(ended) != len(want) || c.len() != 0 {
		t.Fatalf("ended %v, %d left", ended, c.len())
	}
	for i := range want {
		if ended[i] != want[i] {
			t.Fatalf("ended in order %v, want %v", ended, want)
		}
	}
}
