//go:build libnbd

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/lab/judges/expect"
)

// patience bounds the wait for a host that lets the client in.
const patience = 2 * time.Minute

// client works at one of several hosts and checks all that it reads.
type client struct {
	uris    []string
	size    int64
	lossy   bool
	stop    func() bool // asked before every step
	rnd     *rand.Rand
	conn    *conn // nil between two
	blocks  *expect.Blocks
	version uint64 // the last one that was given out
	did     counts
	broken  int // connections in a row that ended during refusals
}

// counts is what was done.
type counts struct{ writes, zeroes, reads, flushes, statuses, refused, reconnects, unanswered int }

func (n counts) String() string {
	var words []string
	for _, w := range []struct {
		n    int
		what string
	}{{n.writes, "writes"}, {n.zeroes, "zeroes"}, {n.reads, "reads"}, {n.flushes, "flushes"}, {n.statuses, "statuses"},
		{n.refused, "refused"}, {n.reconnects, "reconnects"}, {n.unanswered, "unanswered"}} {
		if w.n > 0 {
			words = append(words, fmt.Sprint(w.n, " ", w.what))
		}
	}
	return strings.Join(words, ", ")
}

func newClient(uris []string, size int64, lossy bool, seed uint64) *client {
	return &client{uris: uris, size: size, lossy: lossy, rnd: rand.New(rand.NewPCG(seed, 4)),
		blocks: expect.New(int(size / expect.BlockSize))}
}

// work works until it is stopped or something is wrong. A connection may break
// at any time, and only then may a request fail.
func (c *client) work() error {
	if len(c.uris) == 0 || c.blocks.Len() <= 64 {
		return errors.New("a client needs the URIs of a volume of more than 64 blocks")
	}
	defer c.drop()
	for {
		done, err := c.step()
		var f *failure
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			continue
		case !errors.As(err, &f):
			return err
		case c.conn != nil && !c.conn.gone():
			return fmt.Errorf("a request was refused: %w", err)
		}
		c.drop()
		c.did.reconnects++
	}
}

func (c *client) drop() {
	if c.conn != nil {
		c.conn.close()
		c.conn = nil
	}
}

// step does one thing; true if it was the last.
func (c *client) step() (bool, error) {
	if c.conn == nil {
		return false, c.enter()
	}
	defer c.forget()
	if c.stop() {
		return true, c.leave()
	}
	switch k := c.rnd.Float64(); {
	case k < 0.80:
		return false, c.batch()
	case k < 0.93:
		return false, c.flush()
	default:
		return false, c.status()
	}
}

// forget frees what the step used; a connection that broke goes with all.
func (c *client) forget() {
	if !c.conn.gone() {
		c.conn.forget()
	}
}

// enter connects and looks at everything.
func (c *client) enter() error {
	if err := c.connect(); err != nil {
		return err
	}
	if c.lossy {
		c.blocks.PowerLost()
	}
	if err := c.everything(); err != nil {
		return err
	}
	return c.refusals()
}

func (c *client) connect() error {
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c.conn, err = dial(c.uris[c.rnd.IntN(len(c.uris))]); err != nil {
			continue
		}
		size, err := c.conn.size()
		if err == nil && size != c.size {
			err = fmt.Errorf("the volume has %d bytes, not %d", size, c.size)
		}
		return err
	}
	return fmt.Errorf("no host lets this client in: %s", err)
}

// leave flushes, looks at everything and takes leave.
func (c *client) leave() error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.everything(); err != nil {
		return err
	}
	return c.conn.leave()
}

// everything reads all blocks.
func (c *client) everything() error {
	data := c.conn.memory(256 * expect.BlockSize)
	for b := 0; b < c.blocks.Len(); b += 256 {
		d := data[:min(256, c.blocks.Len()-b)*expect.BlockSize]
		if err := c.conn.wait(c.conn.read(d, int64(b)*expect.BlockSize)); err != nil {
			return err
		}
		if err := c.blocks.Read(b, d); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) flush() error {
	if err := c.conn.wait(c.conn.flush()); err != nil {
		return err
	}
	c.did.flushes++
	c.blocks.Flushed()
	return nil
}

// status asks about some blocks: what is said to be zeroes must be.
func (c *client) status() error {
	const n = 64
	b := c.rnd.IntN(c.blocks.Len() - n)
	at := int64(b) * expect.BlockSize
	runs, err := c.conn.status(n*expect.BlockSize, at)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.flags&stateZero != 0 { // a block that is zero in part is zero: no version has a sector of zeroes
			first, end := at/expect.BlockSize, (at+r.bytes+expect.BlockSize-1)/expect.BlockSize
			if err := c.blocks.Zero(int(first), min(int(end), c.blocks.Len())-int(first)); err != nil {
				return err
			}
		}
		at += r.bytes
	}
	c.did.statuses++
	return nil
}
