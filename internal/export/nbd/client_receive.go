package nbd

import (
	"bufio"
	"io"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// receive takes replies until the connection ends, then fails what is left.
func (c *Client) receive(br *bufio.Reader) {
	defer close(c.received)
	var err error
	for err == nil {
		err = c.receiveOne(br)
	}
	c.nc.Close()
	c.mu.Lock()
	if c.dead == nil {
		c.dead = holdfast.Errorf(holdfast.Closed, "the nbd connection ended: %w", err)
	}
	dead, left := c.dead, c.flying
	c.flying = nil
	c.mu.Unlock()
	for _, cl := range left {
		cl.finish(dead)
	}
}

func (c *Client) receiveOne(br *bufio.Reader) error {
	var b [chunkSize]byte
	if _, err := io.ReadFull(br, b[:simpleSize]); err != nil {
		return err
	}
	switch be.Uint32(b[:]) {
	case magicSimple:
		cookie := be.Uint64(b[8:])
		cl := c.take(cookie, false)
		if cl == nil || cl.req != nil && cl.req.Op == export.Read {
			return errReply("a simple reply to no such request") // a read flies on, and fails with the connection
		}
		c.take(cookie, true)
		cl.finish(replyError(errno(be.Uint32(b[4:])), ""))
		return nil
	case magicStructured:
		if _, err := io.ReadFull(br, b[simpleSize:]); err != nil {
			return err
		}
		return c.chunk(br, be.Uint16(b[4:]), be.Uint16(b[6:]), be.Uint64(b[8:]), int(be.Uint32(b[16:])))
	}
	return errReply("no reply starts so")
}

func errReply(why string) error {
	return holdfast.Errorf(holdfast.Invalid, "the nbd server broke the protocol: %s", why)
}

func replyError(e errno, why string) error {
	if e == ok {
		return nil
	}
	return holdfast.Errorf(e.kindOf(), "nbd error %d: %s", e, why)
}

// take returns the call of a cookie, and forgets it if this is its last reply.
func (c *Client) take(cookie uint64, last bool) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.flying[cookie]
	if last {
		delete(c.flying, cookie)
	}
	return cl
}

// chunk reads one chunk of a structured reply.
func (c *Client) chunk(br *bufio.Reader, flags, typ uint16, cookie uint64, n int) error {
	last := flags&chunkDone != 0
	cl := c.take(cookie, false)
	if cl == nil {
		return errReply("a chunk for no request")
	}
	if err := cl.chunk(br, typ, n); err != nil {
		return err // cl is still flying and fails with the connection
	}
	if last {
		c.take(cookie, true)
		if r := cl.req; r != nil && r.Op == export.Read && cl.err == nil && cl.got != r.Length {
			cl.err = errReply("a read came back short")
		}
		cl.finish(cl.err)
	}
	return nil
}

func (cl *call) chunk(br *bufio.Reader, typ uint16, n int) error {
	switch typ {
	case chunkNone:
		_, err := br.Discard(n)
		return err
	case chunkData, chunkHole:
		return cl.content(br, typ, n)
	case chunkBlockStatus:
		return cl.descriptors(br, n)
	case chunkError, chunkErrorOffset:
		return cl.failure(br, n)
	}
	return errReply("a chunk of unknown type")
}

// content fills the part of a read that a chunk describes.
func (cl *call) content(br *bufio.Reader, typ uint16, n int) error {
	var b [12]byte
	head := b[:8]
	if typ == chunkHole {
		head = b[:]
	}
	if cl.req == nil || cl.req.Op != export.Read || n < len(head) {
		return errReply("content that was not asked for")
	}
	if _, err := io.ReadFull(br, head); err != nil {
		return err
	}
	size := int64(n - 8)
	if typ == chunkHole {
		size = int64(be.Uint32(b[8:]))
	}
	at := be.Uint64(b[:]) - uint64(cl.off)
	if room := uint64(len(cl.req.Data)); at > room || uint64(size) > room-at {
		return errReply("content outside the range asked for")
	}
	part := cl.req.Data[at : at+uint64(size)]
	cl.got += size
	if typ == chunkHole {
		clear(part)
		return nil
	}
	_, err := io.ReadFull(br, part)
	return err
}

func (cl *call) descriptors(br *bufio.Reader, n int) error {
	if cl.req != nil || n < 12 || n%8 != 4 || n > 4+8<<20 {
		return errReply("a block status that was not asked for")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(br, b); err != nil {
		return err
	}
	for b = b[4:]; len(b) > 0; b = b[8:] {
		x := export.Extent{Length: int64(be.Uint32(b)), Hole: be.Uint32(b[4:])&stateHole != 0}
		if x.Length == 0 {
			return errReply("an empty extent")
		}
		cl.extents = append(cl.extents, x)
	}
	return nil
}

func (cl *call) failure(br *bufio.Reader, n int) error {
	if n < 6 || n > 6+maxString+8 {
		return errReply("an error chunk of a wrong length")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(br, b); err != nil {
		return err
	}
	text := b[6:]
	text = text[:min(len(text), int(be.Uint16(b[4:])))]
	if cl.err == nil {
		cl.err = replyError(errno(be.Uint32(b)), string(text))
	}
	return nil
}
