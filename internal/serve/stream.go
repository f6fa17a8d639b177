package serve

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Frames that carry a byte stream to a guest's port, or an initiator's
// connection to a target, on another host
// (docs/protocol/stream.md). Each direction has a window of frames under way,
// so what is not read is not sent.
const (
	kindStreamOpen   transport.Kind = 0x50 + iota // VM, port → stream
	kindStreamWrite                               // stream, position + bytes → when taken
	kindStreamRead                                // stream → bytes; none: the end
	kindStreamEnd                                 // stream, position: the writing side is done
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
	streamWindow  = 32       // frames of a stream under way, each direction
	streamBudget  = 16 << 20 // bytes of all streams to one host under way, each direction, but one frame each
	streamDial    = 5 * time.Second
	targetDial    = 10 * time.Second // the host may have to come to serve the target first
	streamQuiet   = 15 * time.Second // a read is answered by then, so that a silent connection may last for ever
	streamWait    = 10 * time.Minute // for any answer, more than a window of silent reads; a guest may be slow to take what is written; relays end lost ones
	notYet        = 1
	maxStreams    = 1024
	streamHeadLen = 8
	streamAtLen   = 16 // with a position
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

func (s *streams) install(n transport.Network) {
	n.Handle(kindStreamOpen, s.serveOpen(0, func(id holdfast.UUID, port uint16, _ string) (io.ReadWriteCloser, error) {
		return s.dial(holdfast.VMID{UUID: id}, int(port))
	}))
	n.Handle(kindStreamTarget, s.serveOpen(maxFrom, func(id holdfast.UUID, group uint16, from string) (io.ReadWriteCloser, error) {
		return s.target(holdfast.ExportID{UUID: id}, group, from)
	}))
	n.Handle(kindStreamWrite, s.serve(streamAtLen, func(st *stream, f transport.Frame, reply replyFunc) {
		st.put(binary.LittleEndian.Uint64(f.Head[streamHeadLen:]), order{bulk: f.Bulk, reply: reply})
	}))
	n.Handle(kindStreamEnd, s.serve(streamAtLen, func(st *stream, f transport.Frame, reply replyFunc) {
		st.put(binary.LittleEndian.Uint64(f.Head[streamHeadLen:]), order{end: true, reply: reply})
	}))
	n.Handle(kindStreamRead, s.serve(streamHeadLen, func(st *stream, _ transport.Frame, reply replyFunc) { st.ask(reply) }))
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

// find is the stream that the first 8 bytes of a head of the given length name.
func (s *streams) find(from holdfast.HostID, head []byte, length int, remove bool) *stream {
	if len(head) != length {
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

func (s *streams) serve(headLen int, f func(*stream, transport.Frame, replyFunc)) transport.Handler {
	return func(from holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
		st := s.find(from, in.Head, headLen, false)
		if st == nil {
			reply(transport.Frame{}, errStreamOver())
			return
		}
		f(st, in, reply)
	}
}

func (s *streams) serveClose(from holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
	if st := s.find(from, in.Head, streamHeadLen, true); st != nil {
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

func errStreamOver() error { return holdfast.Errorf(holdfast.Closed, "the stream is over") }
