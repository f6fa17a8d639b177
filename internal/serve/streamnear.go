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

// farStream is the near end of a stream. One goroutine reads and one writes.
// Both directions have a window of frames under way, so that the time a frame
// takes does not bound what is carried.
type farStream struct {
	net  transport.Network
	to   holdfast.HostID
	head []byte
	// chunk is how much one write carries at most.
	chunk  int
	window func() int    // frames under way, each direction
	gone   chan struct{} // closed by Close
	once   sync.Once
	done   func() // of the relay

	// The reader's.
	reads []flight
	left  []byte
	rerr  error // of all reads from here on

	// The writer's.
	writes []flight
	at     uint64   // position in what was written
	spare  [][]byte // memory of writes that are over
	werr   error
}

// flight is a call under way.
type flight struct {
	bulk []byte
	c    chan answer
}

type answer struct {
	f   transport.Frame
	err error
}

func (m *member) openStream(to holdfast.HostID, vm holdfast.VMID, port int) (io.ReadWriteCloser, error) {
	s, err := openFar(m.net, to, kindStreamOpen, vm.UUID, uint16(port), streamDial)
	if err != nil {
		return nil, err
	}
	return m.relay(s, vm), nil
}

// openTarget begins a connection to a target by another host, which serves it
// or is to.
func (m *member) openTarget(to holdfast.HostID, e holdfast.ExportID, group uint16, from string) (io.ReadWriteCloser, error) {
	s, err := openFar(m.net, to, kindStreamTarget, e.UUID, group, targetDial, []byte(from[:min(len(from), maxFrom)])...)
	if err != nil {
		return nil, err
	}
	s.chunk = targetChunk
	return m.relay(s, holdfast.VMID{}), nil
}

// relay notes a stream among the relays. The streams to one host share what may
// be under way.
func (m *member) relay(s *farStream, vm holdfast.VMID) *farStream {
	s.done = m.relays.add(vm, s.to, func() { s.Close() })
	s.window = func() int { return windowOf(m.relays.to(s.to), s.chunk) }
	return s
}

// windowOf is how many frames of up to chunk bytes one of so many streams to a
// host has under way.
func windowOf(streams, chunk int) int {
	return min(max(streamBudget/(max(streams, 1)*chunk), 1), streamWindow)
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
	return &farStream{net: n, to: to, head: f.Head, chunk: streamChunk, gone: make(chan struct{}),
		window: func() int { return streamWindow }, done: func() {}}, nil
}

// begin sends a call. bulk must not change until it is answered: the network may
// hold it.
func (s *farStream) begin(k transport.Kind, head, bulk []byte) flight {
	f := transport.Frame{Kind: k, Head: head}
	if len(bulk) > 0 {
		f.Bulk = [][]byte{bulk}
	}
	fl := flight{bulk: bulk, c: make(chan answer, 1)}
	s.net.Send(s.to, f, streamWait, func(f transport.Frame, err error) {
		if err == nil {
			f = f.Clone()
		}
		fl.c <- answer{f, err}
	})
	return fl
}

// await waits for the answer or the end of the stream.
func (s *farStream) await(fl flight) (transport.Frame, error) {
	select {
	case a := <-fl.c:
		return a.f, a.err
	case <-s.gone:
		return transport.Frame{}, errClosedHere()
	}
}

func errClosedHere() error { return holdfast.Errorf(holdfast.Closed, "guest connection: closed") }

func (s *farStream) isGone() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// next is the next piece that the other side sent, until io.EOF. A read that got
// lost took bytes along: all behind it fail too.
func (s *farStream) next() ([]byte, error) {
	for s.rerr == nil {
		for n := max(s.window(), 1); len(s.reads) < n; {
			s.reads = append(s.reads, s.begin(kindStreamRead, s.head, nil))
		}
		f, err := s.await(s.reads[0])
		s.reads = append(s.reads[:0], s.reads[1:]...)
		switch {
		case err != nil:
			s.rerr = err
		case len(f.Head) == 1 && f.Head[0] == notYet:
		case f.BulkLen() == 0:
			s.rerr = io.EOF
		default:
			return f.Bulk[0], nil
		}
	}
	return nil, s.rerr
}

// Read implements io.Reader.
func (s *farStream) Read(b []byte) (int, error) {
	if len(s.left) == 0 {
		var err error
		if s.left, err = s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.left)
	s.left = s.left[n:]
	return n, nil
}

// WriteTo implements io.WriterTo, for io.Copy.
func (s *farStream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		for b := s.left; len(b) > 0; b = nil {
			k, err := w.Write(b)
			n, s.left = n+int64(k), b[k:]
			if err != nil {
				return n, err
			}
		}
		if s.left, err = s.next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// Write implements io.Writer. That something could not be written may be told by
// a later call; CloseWrite waits for all.
func (s *farStream) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if err := s.room(); err != nil {
			return n, err
		}
		k := copy(s.buffer(), b)
		s.send(k)
		n, b = n+k, b[k:]
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom, for io.Copy.
func (s *farStream) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		if err := s.room(); err != nil {
			return n, err
		}
		k, err := r.Read(s.buffer())
		if k > 0 {
			s.send(k)
			n += int64(k)
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// room waits until one more write may be under way.
func (s *farStream) room() error {
	if s.isGone() {
		return errClosedHere()
	}
	for s.werr == nil && len(s.writes) > 0 && (len(s.writes) >= s.window() || len(s.writes[0].c) > 0) {
		s.landed()
	}
	return s.werr
}

// landed waits for the oldest write.
func (s *farStream) landed() {
	fl := s.writes[0]
	s.writes = append(s.writes[:0], s.writes[1:]...)
	if _, err := s.await(fl); err != nil {
		s.werr = err
		return
	}
	if len(s.spare) < s.window() {
		s.spare = append(s.spare, fl.bulk)
	}
}

// buffer is the memory of the next write.
func (s *farStream) buffer() []byte {
	if len(s.spare) == 0 {
		s.spare = append(s.spare, make([]byte, s.chunk))
	}
	return s.spare[len(s.spare)-1][:s.chunk]
}

// send sends the first k bytes of the buffer.
func (s *farStream) send(k int) {
	b := s.buffer()[:k]
	s.spare = s.spare[:len(s.spare)-1]
	s.writes = append(s.writes, s.begin(kindStreamWrite, s.position(), b))
	s.at += uint64(k)
}

func (s *farStream) position() []byte {
	return binary.LittleEndian.AppendUint64(append([]byte(nil), s.head...), s.at)
}

// CloseWrite ends the writing side, when everything is written.
func (s *farStream) CloseWrite() error {
	for s.werr == nil && len(s.writes) > 0 {
		s.landed()
	}
	if s.werr == nil {
		_, s.werr = s.await(s.begin(kindStreamEnd, s.position(), nil))
	}
	return s.werr
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
