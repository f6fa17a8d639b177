//go:build libnbd

package main

import (
	"fmt"

	"github.com/holdfast-cloud/holdfast/lab/judges/expect"
)

// request is one that is under way.
type request struct {
	cookie   cookie
	first, n int // blocks
	version  uint64
	fua      bool
	data     []byte // of a read, else nil
	count    *int   // where it is counted once it is answered
}

// place is some blocks.
type place struct{ first, n int }

// places returns up to 16 places that are not each other's.
func (c *client) places() (out []place) {
	taken := map[int]bool{}
	for range 1 + c.rnd.IntN(16) {
		n := []int{1, 1, 1, 2, 4, 16, 40}[c.rnd.IntN(7)]
		span := c.blocks.Len()
		if c.rnd.IntN(2) == 0 {
			span /= 8
		}
		p, free := place{c.rnd.IntN(max(1, span-n)), n}, true
		for i := range n {
			free = free && !taken[p.first+i]
		}
		if !free {
			continue
		}
		for i := range n {
			taken[p.first+i] = true
		}
		out = append(out, p)
	}
	return out
}

// batch sends some requests at once and waits for their answers.
func (c *client) batch() error {
	var flying []request
	for _, p := range c.places() {
		r, err := c.send(p)
		if err != nil {
			c.did.unanswered += len(flying) + 1
			return err
		}
		flying = append(flying, r)
	}
	return c.settle(flying)
}

// send sends one request, of a kind left to chance.
func (c *client) send(p place) (r request, err error) {
	c.version++
	r = request{first: p.first, n: p.n, version: c.version, fua: c.rnd.Float64() < 0.1}
	n, at := int64(p.n)*expect.BlockSize, int64(p.first)*expect.BlockSize
	var flags uint32
	if r.fua {
		flags = flagFUA
	}
	kind := c.rnd.Float64()
	if kind >= 0.6 {
		r.data, r.count = c.conn.memory(int(n)), &c.did.reads
		r.cookie, err = c.conn.read(r.data, at)
		return r, err
	}
	if r.count = &c.did.writes; kind >= 0.45 {
		r.version, r.count = expect.Zeroes, &c.did.zeroes
	}
	c.blocks.Sent(r.first, r.n, r.version)
	switch {
	case kind < 0.45:
		data := c.conn.memory(int(n))
		expect.Fill(data, r.first, r.version)
		r.cookie, err = c.conn.write(data, at, flags)
	case kind < 0.53:
		if c.rnd.IntN(2) == 0 {
			flags |= flagNoHole
		}
		r.cookie, err = c.conn.zero(n, at, flags)
	default:
		r.cookie, err = c.conn.trim(n, at, flags)
	}
	return r, err
}

// settle waits for the answers. What was answered before the connection broke
// was answered.
func (c *client) settle(flying []request) error {
	for {
		var left []request
		var failed error
		for _, r := range flying {
			ok, err := c.conn.answered(r.cookie)
			switch {
			case err != nil:
				c.did.unanswered++
				failed = err
			case !ok:
				left = append(left, r)
			default:
				if err := c.answered(r); err != nil {
					return err
				}
			}
		}
		if failed == nil && len(left) == 0 {
			return nil
		}
		if failed == nil && c.conn.gone() {
			failed = &failure{text: "the connection is gone"}
		}
		if failed != nil {
			c.did.unanswered += len(left)
			return failed
		}
		if err := c.conn.poll(); err != nil && !c.conn.gone() {
			return err
		}
		flying = left
	}
}

func (c *client) answered(r request) error {
	*r.count++
	if r.data != nil {
		return c.blocks.Read(r.first, r.data)
	}
	c.blocks.Answered(r.first, r.n, r.version, r.fua)
	return nil
}

// refusals sends what lies beyond the end: it is refused, and the connection
// lives on. One that ended may have been killed just then, three in a row not.
func (c *client) refusals() error {
	if err := c.conn.unchecked(); err != nil {
		return err
	}
	const block = expect.BlockSize
	data := c.conn.memory(block)
	clear(data)
	for _, send := range []func() (cookie, error){
		func() (cookie, error) { return c.conn.read(data, c.size) },
		func() (cookie, error) { return c.conn.write(data, c.size-512, 0) },
		func() (cookie, error) { return c.conn.zero(block, c.size, 0) },
		func() (cookie, error) { return c.conn.trim(block, c.size, 0) },
		func() (cookie, error) { return c.conn.read(data[:512], 1<<62) },
	} {
		err := c.conn.wait(send())
		if err == nil {
			return fmt.Errorf("a request beyond the end was answered")
		}
		if c.conn.gone() {
			if c.broken++; c.broken == 3 {
				return fmt.Errorf("a request beyond the end ended the connection, three times: %s", err)
			}
			return err
		}
		if f, ok := err.(*failure); !ok || f.errno == 0 {
			return fmt.Errorf("a request beyond the end was not refused by the server: %s", err)
		}
		c.did.refused++
	}
	c.broken = 0
	return nil
}
