package serve

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Frames that carry a byte stream to a guest's port, or an initiator's
// connection to a target, on another host
// (docs/protocol/stream.md). Each direction has one frame under way, so what
// is not read is not sent.
const (
	kindStreamOpen   transport.Kind = 0x50 + iota // VM, port → stream
	kindStreamWrite                               // stream + bytes → when taken
	kindStreamRead                                // stream → bytes; none: the end
	kindStreamEnd                                 // stream: the writing side is done
	kindStreamClose                               // stream
	kindStreamTarget                              // export, portal group → stream
)

// What all streams together hold of a guest that does not read stays far below
// what the transport holds of one host's calls (64 MiB): guests must not stop
// the replicas, whose frames take the same way.
const (
	streamChunk   = 16 << 10 // of one write to a guest
	targetChunk   = 64 << 10 // of one write to a target; its server has no more than 256 connections
	streamRead    = 64 << 10
	streamDial    = 5 * time.Second
	targetDial    = 10 * time.Second // the host may have to come to serve the target first
	streamQuiet   = 20 * time.Second // a read is answered by then, so that a silent connection may last for ever
	streamWait    = 10 * time.Minute // for any answer: a guest may be slow to take what is written; relays end lost ones
	notYet        = 1
	maxStreams    = 1024
	streamHeadLen = 8
	streamOpenLen = 18
	maxFrom       = 64 // bytes of an initiator's address
)

// streams are the guest connections this host serves for others.
type streams struct {
	dial func(vm holdfast.VMID, guestPort int) (io.ReadWriteCloser, error)
	// target begins a connection to a target that this host serves, or comes to
	// serve by that.
	target func(e holdfast.ExportID, group uint16, from string) (io.ReadWriteCloser, error)
	mu     sync.Mutex
	next   uint64
	open   map[uint64]*stream
}

// stream is the far end, beside the guest. One goroutine reads from the guest
// until the stream is closed; chunks then holds what is not yet asked for.
type stream struct {
	from   holdfast.HostID
	c      io.ReadWriteCloser
	chunks chan []byte // closed at the end
	err    error       // why, if not io.EOF; set before chunks is closed
	over   chan struct{}
	once   sync.Once
}

func newStream(from holdfast.HostID, c io.ReadWriteCloser) *stream {
	st := &stream{from: from, c: c, chunks: make(chan []byte, 1), over: make(chan struct{})}
	go st.read()
	return st
}

func (st *stream) read() {
	defer close(st.chunks)
	for {
		buf := make([]byte, streamRead)
		k, err := st.c.Read(buf)
		if k > 0 {
			select {
			case st.chunks <- buf[:k]:
			case <-st.over:
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				st.err = holdfast.Errorf(holdfast.Closed, "guest connection: %w", err)
			}
			return
		}
	}
}

// next is the answer to a read: bytes, none at the end, or after a while a
// head that says that there are none yet.
func (st *stream) next() (transport.Frame, error) {
	wait := time.NewTimer(streamQuiet)
	defer wait.Stop()
	select {
	case b, ok := <-st.chunks:
		if !ok {
			return transport.Frame{}, st.err
		}
		return transport.Frame{Bulk: [][]byte{b}}, nil
	case <-wait.C:
		return transport.Frame{Head: []byte{notYet}}, nil
	}
}

func (st *stream) close() {
	st.once.Do(func() {
		close(st.over)
		st.c.Close()
	})
}

func (s *streams) install(n transport.Network) {
	n.Handle(kindStreamOpen, s.serveOpen(0, func(id holdfast.UUID, port uint16, _ string) (io.ReadWriteCloser, error) {
		return s.dial(holdfast.VMID{UUID: id}, int(port))
	}))
	n.Handle(kindStreamTarget, s.serveOpen(maxFrom, func(id holdfast.UUID, group uint16, from string) (io.ReadWriteCloser, error) {
		return s.target(holdfast.ExportID{UUID: id}, group, from)
	}))
	n.Handle(kindStreamWrite, s.serve(func(st *stream, f transport.Frame) (transport.Frame, error) {
		for _, b := range f.Bulk {
			if _, err := st.c.Write(b); err != nil {
				return transport.Frame{}, holdfast.Errorf(holdfast.Closed, "guest connection: %w", err)
			}
		}
		return transport.Frame{}, nil
	}))
	n.Handle(kindStreamRead, s.serve(func(st *stream, _ transport.Frame) (transport.Frame, error) { return st.next() }))
	n.Handle(kindStreamEnd, s.serve(func(st *stream, _ transport.Frame) (transport.Frame, error) {
		if hc, ok := st.c.(halfCloser); ok {
			return transport.Frame{}, hc.CloseWrite()
		}
		return transport.Frame{}, nil
	}))
	n.Handle(kindStreamClose, s.serveClose)
}

// serveOpen opens a stream by dial, which is told what follows the fixed part of
// the head, at most so many bytes.
func (s *streams) serveOpen(more int, dial func(id holdfast.UUID, port uint16, rest string) (io.ReadWriteCloser, error)) transport.Handler {
	return func(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		if len(f.Head) < streamOpenLen || len(f.Head) > streamOpenLen+more {
			reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "stream open: %d bytes, need %d", len(f.Head), streamOpenLen))
			return
		}
		id, port, rest := holdfast.UUID(f.Head[:16]), binary.LittleEndian.Uint16(f.Head[16:]), string(f.Head[streamOpenLen:])
		go func() {
			c, err := dial(id, port, rest)
			if err != nil {
				reply(transport.Frame{}, err)
				return
			}
			st := newStream(from, c)
			sid, err := s.add(st)
			if err != nil {
				st.close()
			}
			reply(transport.Frame{Head: binary.LittleEndian.AppendUint64(nil, sid)}, err)
		}()
	}
}

func (s *streams) add(st *stream) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxStreams {
		return 0, holdfast.Errorf(holdfast.Busy, "this host carries %d connections for others already", maxStreams)
	}
	s.next++
	s.open[s.next] = st
	return s.next, nil
}

func (s *streams) find(from holdfast.HostID, head []byte, remove bool) *stream {
	if len(head) != streamHeadLen {
		return nil
	}
	id := binary.LittleEndian.Uint64(head)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.open[id]
	if st == nil || st.from != from {
		return nil
	}
	if remove {
		delete(s.open, id)
	}
	return st
}

func (s *streams) serve(f func(*stream, transport.Frame) (transport.Frame, error)) transport.Handler {
	return func(from holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
		st := s.find(from, in.Head, false)
		if st == nil {
			reply(transport.Frame{}, holdfast.Errorf(holdfast.Closed, "the stream is over"))
			return
		}
		go func() { reply(f(st, in)) }()
	}
}

func (s *streams) serveClose(from holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
	if st := s.find(from, in.Head, true); st != nil {
		st.close()
	}
	reply(transport.Frame{}, nil)
}

// closeFrom ends the streams of hosts that are no longer alive.
func (s *streams) closeFrom(alive func(holdfast.HostID) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range s.open {
		if !alive(st.from) {
			st.close()
			delete(s.open, id)
		}
	}
}

// farStream is the near end of a stream.
type farStream struct {
	net  transport.Network
	to   holdfast.HostID
	head []byte
	left []byte
	// chunk is how much one write carries at most.
	chunk int
	gone  chan struct{} // closed by Close
	once  sync.Once
	done  func() // of the relay
}

func (m *member) openStream(to holdfast.HostID, vm holdfast.VMID, port int) (io.ReadWriteCloser, error) {
	s, err := openFar(m.net, to, kindStreamOpen, vm.UUID, uint16(port), streamDial)
	if err != nil {
		return nil, err
	}
	s.done = m.relays.add(vm, to, func() { s.Close() })
	return s, nil
}

// openTarget begins a connection to a target by another host, which serves it
// or is to.
func (m *member) openTarget(to holdfast.HostID, e holdfast.ExportID, group uint16, from string) (io.ReadWriteCloser, error) {
	s, err := openFar(m.net, to, kindStreamTarget, e.UUID, group, targetDial, []byte(from[:min(len(from), maxFrom)])...)
	if err != nil {
		return nil, err
	}
	s.chunk = targetChunk
	s.done = m.relays.add(holdfast.VMID{}, to, func() { s.Close() })
	return s, nil
}

func openFar(n transport.Network, to holdfast.HostID, kind transport.Kind, id holdfast.UUID, port uint16, wait time.Duration, rest ...byte) (*farStream, error) {
	head := append(binary.LittleEndian.AppendUint16(append([]byte(nil), id[:]...), port), rest...)
	f, err := transport.Call(clock.System{}, n, to, transport.Frame{Kind: kind, Head: head}, wait)
	if err != nil {
		return nil, err
	}
	if len(f.Head) != streamHeadLen {
		return nil, holdfast.Errorf(holdfast.Invalid, "stream open: the host answered %d bytes", len(f.Head))
	}
	return &farStream{net: n, to: to, head: f.Head, chunk: streamChunk, gone: make(chan struct{}), done: func() {}}, nil
}

// call asks the far end and waits for the answer or the end of the stream.
// bulk must not change afterwards: the network may still hold it then.
func (s *farStream) call(k transport.Kind, bulk []byte) (transport.Frame, error) {
	type answer struct {
		f   transport.Frame
		err error
	}
	f := transport.Frame{Kind: k, Head: s.head}
	if len(bulk) > 0 {
		f.Bulk = [][]byte{bulk}
	}
	c := make(chan answer, 1)
	s.net.Send(s.to, f, streamWait, func(f transport.Frame, err error) {
		if err == nil {
			f = f.Clone()
		}
		c <- answer{f, err}
	})
	select {
	case a := <-c:
		return a.f, a.err
	case <-s.gone:
		return transport.Frame{}, holdfast.Errorf(holdfast.Closed, "guest connection: closed")
	}
}

// Read implements io.Reader.
func (s *farStream) Read(b []byte) (int, error) {
	for len(s.left) == 0 {
		f, err := s.call(kindStreamRead, nil)
		if err != nil {
			return 0, err
		}
		if len(f.Head) == 1 && f.Head[0] == notYet {
			continue
		}
		if len(f.Bulk) == 0 || len(f.Bulk[0]) == 0 {
			return 0, io.EOF
		}
		s.left = f.Bulk[0]
	}
	n := copy(b, s.left)
	s.left = s.left[n:]
	return n, nil
}

// Write implements io.Writer.
func (s *farStream) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		k := min(len(b), s.chunk)
		if _, err := s.call(kindStreamWrite, append([]byte(nil), b[:k]...)); err != nil {
			return n, err
		}
		n, b = n+k, b[k:]
	}
	return n, nil
}

// CloseWrite ends the writing side.
func (s *farStream) CloseWrite() error {
	_, err := s.call(kindStreamEnd, nil)
	return err
}

// Close implements io.Closer.
func (s *farStream) Close() error {
	s.once.Do(func() {
		close(s.gone)
		s.done()
		s.net.Send(s.to, transport.Frame{Kind: kindStreamClose, Head: s.head}, streamDial, func(transport.Frame, error) {})
	})
	return nil
}
