package nbd

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Client is one connection to a volume, as an export.Disk. It is for the lab,
// the drill and tests: small before fast. Any number of goroutines may use it.
type Client struct {
	nc       net.Conn
	size     int64
	flags    uint16
	status   bool
	received chan struct{} // closed when the receiver has ended

	writing sync.Mutex // one request at a time on the wire
	mu      sync.Mutex
	next    uint64
	flying  map[uint64]*call
	dead    error
}

// call is a request that awaits its reply.
type call struct {
	req     *export.Request // nil for a block status
	off     int64
	err     error
	got     int64 // bytes of a read received
	extents []export.Extent
	done    chan struct{} // of a block status
}

var _ export.Disk = (*Client)(nil)

// dialTimeout bounds connecting and, apart from the opening of the volume,
// each step of the handshake.
const dialTimeout = 20 * time.Second

// Dial connects to a volume: network is "unix" or "tcp", and name may be empty
// on a volume's own socket. With cfg it starts TLS. Errors: Unavailable if
// there is no server, the server's refusal as Busy, NotFound or Denied,
// Invalid if the server does not speak what is needed.
func Dial(network, addr, name string, cfg *tls.Config) (*Client, error) {
	nc, err := net.DialTimeout(network, addr, dialTimeout)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "reach nbd at %s: %w", addr, err)
	}
	h := &hello{nc: nc, br: bufio.NewReaderSize(nc, 64<<10)}
	nc.SetDeadline(time.Now().Add(dialTimeout))
	c, err := h.run(name, cfg)
	if err != nil {
		nc.Close()
		return nil, err
	}
	c.nc.SetDeadline(time.Time{})
	go c.receive(h.br)
	return c, nil
}

// Size implements export.Disk: what the server said when it opened.
func (c *Client) Size() int64 { return c.size }

// ReadOnly reports whether the server refuses writes.
func (c *Client) ReadOnly() bool { return c.flags&tfReadOnly != 0 }

// Submit implements export.Disk.
func (c *Client) Submit(r *export.Request) {
	cmd := request{off: uint64(r.Off), length: uint64(r.Length)}
	var payload []byte
	switch r.Op {
	case export.Read:
		cmd.cmd = cmdRead
	case export.Write:
		cmd.cmd, payload = cmdWrite, r.Data
	case export.Flush:
		cmd.cmd, cmd.off, cmd.length = cmdFlush, 0, 0
	case export.Trim:
		cmd.cmd = cmdTrim
	case export.Zero:
		cmd.cmd = cmdWriteZeroes
	}
	if r.FUA {
		cmd.flags |= cfFUA
	}
	cl := &call{req: r, off: r.Off}
	if r.Op != export.Flush && (r.Length < 0 || r.Length > 1<<32-1) {
		r.Done(r, holdfast.Errorf(holdfast.Invalid, "%d bytes in one request", r.Length))
		return
	}
	if err := c.send(cmd, payload, cl); err != nil {
		cl.finish(err)
	}
}

// send puts a request on the wire. An error means that cl was not registered.
func (c *Client) send(cmd request, payload []byte, cl *call) error {
	c.mu.Lock()
	if c.dead != nil {
		defer c.mu.Unlock()
		return c.dead
	}
	c.next++
	cmd.cookie = c.next
	c.flying[cmd.cookie] = cl
	c.mu.Unlock()

	c.writing.Lock()
	defer c.writing.Unlock()
	out := net.Buffers{appendRequest(nil, cmd)}
	if len(payload) > 0 {
		out = append(out, payload)
	}
	if _, err := out.WriteTo(c.nc); err != nil {
		c.nc.Close() // the receiver fails whatever is flying, cl included
	}
	return nil
}

func (cl *call) finish(err error) {
	if cl.req == nil {
		cl.err = err
		close(cl.done)
		return
	}
	cl.req.Done(cl.req, err)
}

// Extents implements export.Disk; without block status the whole range is
// one extent of data.
func (c *Client) Extents(off, n int64, most int) ([]export.Extent, error) {
	if !c.status || n > 1<<32-1 {
		return []export.Extent{{Length: n}}, nil
	}
	var out []export.Extent
	for end := off + n; off < end; {
		cl := &call{off: off, done: make(chan struct{})}
		cmd := request{cmd: cmdBlockStatus, off: uint64(off), length: uint64(end - off)}
		if err := c.send(cmd, nil, cl); err != nil {
			return nil, err
		}
		if <-cl.done; cl.err != nil {
			return nil, cl.err
		}
		for _, x := range cl.extents {
			x.Length = min(x.Length, end-off)
			if k := len(out); k > 0 && out[k-1].Hole == x.Hole {
				out[k-1].Length += x.Length
			} else if len(out) == most {
				return out, nil
			} else {
				out = append(out, x)
			}
			off += x.Length
		}
	}
	return out, nil
}

// Close implements export.Disk: it waits for what was submitted, says goodbye
// and disconnects.
func (c *Client) Close() {
	c.mu.Lock()
	closed := holdfast.Errorf(holdfast.Closed, "the nbd connection is closed")
	if c.dead == nil {
		c.dead = closed
	}
	c.mu.Unlock()
	c.writing.Lock()
	c.nc.Write(appendRequest(nil, request{cmd: cmdDisc}))
	c.writing.Unlock()
	<-c.received // the server answers everything, then closes
	c.nc.Close()
}

// Sever breaks the connection off without a word, as if the client had crashed.
// What was submitted fails, and whether it happened is not known.
func (c *Client) Sever() {
	c.nc.Close()
	<-c.received
}

// do is one request, waited for.
func (c *Client) do(r export.Request) error {
	done := make(chan error, 1)
	r.Done = func(_ *export.Request, err error) { done <- err }
	c.Submit(&r)
	return <-done
}

// ReadAt implements io.ReaderAt.
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	n := max(0, min(int64(len(p)), c.size-off))
	for at := int64(0); at < n; at += holdfast.MaxIO {
		part := p[at:min(n, at+holdfast.MaxIO)]
		if err := c.do(export.Request{Op: export.Read, Off: off + at, Length: int64(len(part)), Data: part}); err != nil {
			return int(at), err
		}
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// WriteAt implements io.WriterAt; Flush makes it durable.
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	for at := 0; at < len(p); at += holdfast.MaxIO {
		part := p[at:min(len(p), at+holdfast.MaxIO)]
		if err := c.do(export.Request{Op: export.Write, Off: off + int64(at), Length: int64(len(part)), Data: part}); err != nil {
			return at, err
		}
	}
	return len(p), nil
}

// Flush makes every write that has returned durable.
func (c *Client) Flush() error { return c.do(export.Request{Op: export.Flush}) }

// Trim and Zero discard and zero n bytes at off, n below 4 GiB.
func (c *Client) Trim(off, n int64) error {
	return c.do(export.Request{Op: export.Trim, Off: off, Length: n})
}

// Zero makes n bytes at off read as zero.
func (c *Client) Zero(off, n int64) error {
	return c.do(export.Request{Op: export.Zero, Off: off, Length: n})
}
