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

// Frames that carry a byte stream to a guest's port on another host
// (docs/protocol/stream.md). Each direction has one frame under way, so what
// is not read is not sent.
const (
	kindStreamOpen  transport.Kind = 0x50 + iota // VM, port → stream
	kindStreamWrite                              // stream + bytes → when taken
	kindStreamRead                               // stream → bytes; none: the end
	kindStreamEnd                                // stream: the writing side is done
	kindStreamClose                              // stream
)

const (
	streamChunk   = 64 << 10
	streamDial    = 5 * time.Second
	streamWait    = 10 * time.Minute // a silent connection may last; its host's death is noticed by the transport
	maxStreams    = 4096
	streamHeadLen = 8
)

// streams are the guest connections this host serves for others.
type streams struct {
	h    *Host
	mu   sync.Mutex
	next uint64
	open map[uint64]*stream
}

type stream struct {
	from holdfast.HostID
	c    io.ReadWriteCloser
}

func (s *streams) install(n transport.Network) {
	n.Handle(kindStreamOpen, s.serveOpen)
	n.Handle(kindStreamWrite, s.serve(func(st *stream, f transport.Frame) (transport.Frame, error) {
		for _, b := range f.Bulk {
			if _, err := st.c.Write(b); err != nil {
				return transport.Frame{}, holdfast.Errorf(holdfast.Closed, "guest connection: %w", err)
			}
		}
		return transport.Frame{}, nil
	}))
	n.Handle(kindStreamRead, s.serve(func(st *stream, _ transport.Frame) (transport.Frame, error) {
		buf := make([]byte, streamChunk)
		k, err := st.c.Read(buf)
		if k > 0 {
			return transport.Frame{Bulk: [][]byte{buf[:k]}}, nil
		}
		if err != nil && err != io.EOF {
			return transport.Frame{}, holdfast.Errorf(holdfast.Closed, "guest connection: %w", err)
		}
		return transport.Frame{}, nil
	}))
	n.Handle(kindStreamEnd, s.serve(func(st *stream, _ transport.Frame) (transport.Frame, error) {
		if hc, ok := st.c.(halfCloser); ok {
			return transport.Frame{}, hc.CloseWrite()
		}
		return transport.Frame{}, nil
	}))
	n.Handle(kindStreamClose, s.serveClose)
}

func (s *streams) serveOpen(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	if len(f.Head) != 18 {
		reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "stream open: %d bytes, need 18", len(f.Head)))
		return
	}
	var vm holdfast.VMID
	copy(vm.UUID[:], f.Head)
	port := int(binary.LittleEndian.Uint16(f.Head[16:]))
	go func() {
		m, err := s.h.member()
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		mach := m.node.Agent.Machine(vm)
		if mach == nil {
			reply(transport.Frame{}, holdfast.Errorf(holdfast.Unavailable, "the VM does not run on this host"))
			return
		}
		c, err := mach.Dial(port)
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		id, err := s.add(&stream{from: from, c: c})
		if err != nil {
			c.Close()
		}
		reply(transport.Frame{Head: binary.LittleEndian.AppendUint64(nil, id)}, err)
	}()
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
		st.c.Close()
	}
	reply(transport.Frame{}, nil)
}

// closeFrom ends the streams of hosts that are no longer alive.
func (s *streams) closeFrom(alive func(holdfast.HostID) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range s.open {
		if !alive(st.from) {
			st.c.Close()
			delete(s.open, id)
		}
	}
}

// farStream is the near end of a stream.
type farStream struct {
	m    *member
	to   holdfast.HostID
	head []byte
	left []byte
	once sync.Once
}

func (m *member) openStream(to holdfast.HostID, vm holdfast.VMID, port int) (io.ReadWriteCloser, error) {
	head := binary.LittleEndian.AppendUint16(append([]byte(nil), vm.UUID[:]...), uint16(port))
	f, err := transport.Call(clock.System{}, m.net, to, transport.Frame{Kind: kindStreamOpen, Head: head}, streamDial)
	if err != nil {
		return nil, err
	}
	if len(f.Head) != streamHeadLen {
		return nil, holdfast.Errorf(holdfast.Invalid, "stream open: the host answered %d bytes", len(f.Head))
	}
	return &farStream{m: m, to: to, head: f.Head}, nil
}

func (s *farStream) call(k transport.Kind, bulk [][]byte) (transport.Frame, error) {
	return transport.Call(clock.System{}, s.m.net, s.to, transport.Frame{Kind: k, Head: s.head, Bulk: bulk}, streamWait)
}

// Read implements io.Reader.
func (s *farStream) Read(b []byte) (int, error) {
	if len(s.left) == 0 {
		f, err := s.call(kindStreamRead, nil)
		if err != nil {
			return 0, err
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
		k := min(len(b), streamChunk)
		if _, err := s.call(kindStreamWrite, [][]byte{b[:k]}); err != nil {
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
		s.m.net.Send(s.to, transport.Frame{Kind: kindStreamClose, Head: s.head}, streamDial, func(transport.Frame, error) {})
	})
	return nil
}
