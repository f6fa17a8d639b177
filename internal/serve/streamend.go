package serve

import (
	"io"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

type replyFunc = func(transport.Frame, error)

// order is a write to the guest, or the end of writing, until it is replied to.
type order struct {
	bulk  [][]byte
	end   bool
	reply replyFunc
}

// stream is the far end, beside the guest. One goroutine writes to the guest what
// was ordered, one reads from it, and one answers the reads of the near end with
// that; all end when it is closed.
type stream struct {
	from   holdfast.HostID
	c      io.ReadWriteCloser
	chunks chan []byte   // read from the guest; closed at the end
	used   chan []byte   // their memory, to be used again
	err    error         // why chunks is closed, if not io.EOF; set before
	over   chan struct{} // closed by close

	mu     sync.Mutex
	at     uint64         // position up to which orders have come
	orders chan order     // closed by close, as asked is
	asked  chan replyFunc // reads of the near end
	closed bool
}

func newStream(from holdfast.HostID, c io.ReadWriteCloser) *stream {
	st := &stream{from: from, c: c, over: make(chan struct{}),
		chunks: make(chan []byte), used: make(chan []byte, 2),
		orders: make(chan order, streamWindow+1), asked: make(chan replyFunc, streamWindow)}
	for range cap(st.used) {
		st.used <- nil
	}
	go st.read()
	go st.write()
	go st.answer()
	return st
}

// put takes an order that stands at a position. Frames can be lost together with
// a connection, and later ones come by the next: what does not follow on what
// came before ends the stream, and so does more than a window.
func (st *stream) put(at uint64, o order) {
	st.mu.Lock()
	err := st.follow(at, o)
	st.mu.Unlock()
	if err != nil {
		st.close()
		o.reply(transport.Frame{}, err)
	}
}

// follow adds an order to the queue. Under the lock.
func (st *stream) follow(at uint64, o order) error {
	switch {
	case st.closed:
		return errStreamOver()
	case at != st.at:
		return holdfast.Errorf(holdfast.Unavailable, "a part of the stream was lost with a connection: at %d, %d came", st.at, at)
	case len(st.orders) == cap(st.orders):
		return holdfast.Errorf(holdfast.Invalid, "more than %d writes of a stream at once", streamWindow)
	}
	for _, b := range o.bulk {
		st.at += uint64(len(b))
	}
	st.orders <- o
	return nil
}

// ask takes a read of the near end.
func (st *stream) ask(reply replyFunc) {
	st.mu.Lock()
	ok := !st.closed && len(st.asked) < cap(st.asked)
	if ok {
		st.asked <- reply
	}
	st.mu.Unlock()
	if !ok {
		reply(transport.Frame{}, errStreamOver())
	}
}

// write carries out the orders, one after the other. Nothing is written behind a
// write that failed.
func (st *stream) write() {
	var err error
	for o := range st.orders {
		for _, b := range o.bulk {
			if err == nil {
				_, err = st.c.Write(b)
			}
		}
		if hc, ok := st.c.(halfCloser); ok && o.end && err == nil {
			err = hc.CloseWrite()
		}
		if err != nil {
			o.reply(transport.Frame{}, holdfast.Errorf(holdfast.Closed, "guest connection: %w", err))
			continue
		}
		o.reply(transport.Frame{}, nil)
	}
}

func (st *stream) read() {
	defer close(st.chunks)
	for {
		var buf []byte
		select {
		case buf = <-st.used:
		case <-st.over:
			return
		}
		if buf == nil {
			buf = make([]byte, streamRead)
		}
		k, err := st.c.Read(buf[:streamRead])
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

// answer answers the near end's reads in order: with bytes, none at the end, or
// after a while a head that says that there are none yet.
func (st *stream) answer() {
	wait := time.NewTimer(streamQuiet)
	defer wait.Stop()
	for reply := range st.asked {
		wait.Reset(streamQuiet)
		select {
		case b, ok := <-st.chunks:
			if !ok {
				reply(transport.Frame{}, st.err)
				continue
			}
			reply(transport.Frame{Bulk: [][]byte{b}}, nil)
			st.used <- b // there is room: b came from there
		case <-wait.C:
			reply(transport.Frame{Head: []byte{notYet}}, nil)
		case <-st.over:
			reply(transport.Frame{}, errStreamOver())
		}
	}
}

// close ends the stream; what is not written yet is lost.
func (st *stream) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return
	}
	st.closed = true
	close(st.over)
	close(st.orders)
	close(st.asked)
	st.c.Close()
}
