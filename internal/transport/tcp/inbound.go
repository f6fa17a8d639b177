package tcp

import (
	"sync"
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// maxHeld bounds the bytes of one host's calls that are not replied to yet;
// beyond it, its connection is not read until some are.
const maxHeld = 64 << 20

// inbound serves one other host's calls over one connection. There is one per
// host: a newer connection of the same host ends the older one and waits until
// its last handler has returned, so that calls of a host never overtake those
// it made before it reconnected.
type inbound struct {
	n        *Network
	w        *wire
	from     holdfast.HostID
	out      *outbox
	held     atomic.Int64
	room     chan struct{} // a token when held has fallen below maxHeld
	finished chan struct{}
}

func newInbound(n *Network, w *wire, from holdfast.HostID) *inbound {
	return &inbound{n: n, w: w, from: from, out: newOutbox(), room: make(chan struct{}, 1), finished: make(chan struct{})}
}

// serve runs until the connection is cut.
func (in *inbound) serve() {
	defer close(in.finished)
	if before := in.n.supersede(in); before != nil {
		before.w.cut(holdfast.Errorf(holdfast.Closed, "the host connected anew"))
		<-before.finished
	}
	defer in.n.leave(in)
	in.out.put(typeWelcome, 0, transport.Frame{}) // sent by drain, which begins with what there is
	var writer sync.WaitGroup
	in.w.out = in.out
	in.out.serves(in.w)
	writer.Go(in.w.drain)
	err := in.read()
	in.w.cut(err)
	writer.Wait()
	if k := holdfast.KindOf(in.w.reason()); k == holdfast.Invalid || k == holdfast.Corrupt || k == holdfast.Denied {
		in.n.log.Error("connection of host cut off", "host", in.from.String(), "err", in.w.reason())
	} else {
		in.n.log.Debug("connection of host ended", "host", in.from.String(), "err", in.w.reason())
	}
}

func (in *inbound) read() error {
	for {
		raw, h, err := in.w.readHeader()
		if err != nil {
			return err
		}
		if h.typ != typeCall || h.id == 0 {
			return holdfast.Errorf(holdfast.Invalid, "bad frame: type %d, call %d where a call was expected", h.typ, h.id)
		}
		if err := in.call(raw, h); err != nil {
			return err
		}
	}
}

// call takes one call from the connection and runs its handler.
func (in *inbound) call(raw []byte, h header) error {
	var keep [headerLen]byte
	copy(keep[:], raw)
	if _, err := in.w.r.Discard(headerLen); err != nil {
		return err
	}
	if err := in.admit(h.size()); err != nil {
		return err
	}
	r := &request{in: in, id: h.id, kind: h.kind, buf: in.n.pool.get(h.size())}
	if err := in.w.readFull(r.buf.b); err != nil {
		return err
	}
	f, err := h.body(keep[:], r.buf.b, &r.bulk)
	if err != nil {
		return err
	}
	handler := in.n.handlers[f.Kind]
	if handler == nil {
		r.reply(transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "host %s does not know frames of kind %d; it may run another release", in.n.cfg.Self.Short(), h.kind))
		return nil
	}
	handler(in.from, f, r.reply)
	return nil
}

// admit waits until n more bytes may be held.
func (in *inbound) admit(n int) error {
	in.held.Add(int64(n))
	for in.held.Load() > maxHeld {
		in.w.sendNow()
		select {
		case <-in.w.gone:
			return in.w.reason()
		case <-in.room:
		}
	}
	return nil
}

func (in *inbound) release(n int) {
	if left := in.held.Add(-int64(n)); left <= maxHeld && left+int64(n) > maxHeld {
		select {
		case in.room <- struct{}{}:
		default:
		}
	}
}

// request is one call being handled. It owns the buffer that the handler's
// frame lies in until reply is called.
type request struct {
	in      *inbound
	id      uint64
	kind    uint16
	buf     *buffer
	bulk    [1][]byte
	replied atomic.Bool
}

func (r *request) reply(f transport.Frame, err error) {
	if !r.replied.CompareAndSwap(false, true) {
		r.in.n.log.Error("a handler replied twice; the second reply is dropped", "kind", r.kind)
		return
	}
	typ := typeReply
	if err == nil {
		if err = f.Check(); err != nil {
			r.in.n.log.Error("a handler's reply cannot be sent", "kind", r.kind, "err", err)
		}
	}
	if err != nil {
		typ, f = typeError, errorFrame(err)
	}
	ok, first := r.in.out.put(typ, r.id, f)
	switch {
	case !ok:
		r.in.w.cut(holdfast.Errorf(holdfast.Invalid, "the host calls but does not take its replies"))
	case first:
		r.in.out.push()
	}
	n := len(r.buf.b)
	r.in.n.pool.put(r.buf)
	r.in.release(n)
}
