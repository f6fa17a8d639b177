// Package transport is the seam to the other hosts: framed calls by HostID.
// Implementations: transport/tcp (mutual TLS), transport/simnet (seeded
// faults); conformance: transport/transporttest.
package transport

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// Kind selects the handler of a frame. The numbers are part of the wire
// protocol (docs/protocol/transport.md) and never reused.
type Kind uint16

// MaxHead and MaxBulk bound a frame; a peer that exceeds them is cut off.
const (
	MaxHead = 64 << 10
	MaxBulk = 4 << 20
)

// Frame is one message: a head the two ends understand, and bulk bytes that
// are carried without being looked at. A sender may give Bulk in pieces; a
// receiver gets at most one.
type Frame struct {
	Kind Kind
	Head []byte
	Bulk [][]byte
}

// Handler serves one kind of frame. It runs on the connection's own task, in
// the order the frames were sent, so it must not block: what takes time is
// handed to another task, which calls reply later. reply must be called
// exactly once, from anywhere. f is borrowed until reply is called.
type Handler func(from holdfast.HostID, f Frame, reply func(Frame, error))

// Network reaches the other hosts of the cluster. A frame to the own HostID is
// delivered like any other.
type Network interface {
	// Send sends a frame and calls done exactly once: with the reply, with the
	// handler's error (its kind and text cross the wire), or with kind
	// Unavailable when the peer cannot be reached or has not replied within
	// timeout; then the handler may have run, may be running or may run later.
	// Frames to one host arrive in the order of Send while the connection
	// lasts. Send does not block; f is borrowed until done is called. done
	// runs on a task of the network and must not block.
	Send(to holdfast.HostID, f Frame, timeout time.Duration, done func(Frame, error))
	// Handle installs the handler of a kind; all are installed before Start.
	Handle(k Kind, h Handler)
	// Start begins to serve.
	Start() error
	// Close cuts all connections; pending calls end with kind Closed.
	Close() error
}

// Call is Send for a task that waits for the reply. The reply's bytes belong
// to the caller.
func Call(c clock.Clock, n Network, to holdfast.HostID, f Frame, timeout time.Duration) (Frame, error) {
	type result struct {
		f   Frame
		err error
	}
	fut := clock.NewFuture[result](c)
	n.Send(to, f, timeout, func(f Frame, err error) {
		if err == nil {
			f = f.Clone() // done only borrows the reply
		}
		fut.Resolve(result{f, err})
	})
	r, _ := fut.Wait(clock.Forever)
	return r.f, r.err
}

// Clone returns a deep copy of f.
func (f Frame) Clone() Frame {
	g := Frame{Kind: f.Kind, Head: append([]byte(nil), f.Head...)}
	for _, b := range f.Bulk {
		g.Bulk = append(g.Bulk, append([]byte(nil), b...))
	}
	return g
}
