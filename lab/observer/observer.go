package observer

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/history"
)

const (
	retryEvery                  = 100 * time.Millisecond
	leastPatience, mostPatience = 2 * time.Second, 25 * time.Second
	longest                     = 4 // blocks in one request
)

// observer is one client.
type observer struct {
	g   *Group
	id  int
	rng *rand.Rand
	l   *link
}

func (c *observer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if c.l == nil && !c.connect(ctx) {
			c.pause(ctx, retryEvery)
			continue
		}
		if err := c.once(ctx); err != nil {
			c.hangUp()
		}
		c.pause(ctx, time.Duration(c.rng.Int64N(int64(2*c.g.o.Think)+1)))
	}
	if c.g.o.Shared {
		c.hangUp()
	}
}

func (c *observer) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *observer) connect(ctx context.Context) bool {
	var err error
	if !c.g.o.Shared {
		c.l, err = c.g.shared(ctx)
		return err == nil
	}
	if c.l, err = c.g.connect(ctx, c.g.doors(ctx)); err == nil {
		c.g.dials.Add(1)
	}
	return err == nil
}

// hangUp breaks the connection off, for all who use it.
func (c *observer) hangUp() {
	if c.l == nil {
		return
	}
	c.l.Sever()
	if !c.g.o.Shared {
		c.g.linking.Lock()
		if c.g.common == c.l {
			c.g.common = nil
		}
		c.g.linking.Unlock()
	}
	c.l = nil
}

// once does one operation.
func (c *observer) once(ctx context.Context) error {
	first := uint64(c.rng.IntN(c.g.o.Blocks))
	n := min(1+c.rng.IntN(longest), c.g.o.Blocks-int(first))
	patience := leastPatience + time.Duration(c.rng.Int64N(int64(mostPatience-leastPatience)))
	switch p := c.rng.IntN(100); {
	case p < 45:
		return c.write(ctx, patience, first, n, c.rng.IntN(10) == 0)
	case p < 88:
		return c.read(ctx, patience, first, n)
	case p < 95:
		return c.flush(ctx, patience)
	}
	return c.zero(ctx, patience, first, n)
}

func (c *observer) write(ctx context.Context, patience time.Duration, first uint64, n int, fua bool) error {
	data := make([]byte, n*holdfast.BlockSize)
	values := make([]uint64, n)
	for i := range n {
		values[i] = c.g.next.Add(1)
		fill(data[i*holdfast.BlockSize:(i+1)*holdfast.BlockSize], first+uint64(i), values[i])
	}
	return c.change(ctx, patience, first, values, &export.Request{Op: export.Write, Data: data, FUA: fua})
}

// zero trims blocks, or writes zeroes: they read as zeroes afterwards.
func (c *observer) zero(ctx context.Context, patience time.Duration, first uint64, n int) error {
	op := export.Trim
	if c.rng.IntN(2) == 0 {
		op = export.Zero
	}
	return c.change(ctx, patience, first, make([]uint64, n), &export.Request{Op: op})
}

// change submits a request that gives blocks these values.
func (c *observer) change(ctx context.Context, patience time.Duration, first uint64, values []uint64, r *export.Request) error {
	r.Off, r.Length = int64(first)*holdfast.BlockSize, int64(len(values))*holdfast.BlockSize
	at := c.g.now()
	ops := make([]int, len(values))
	for i, v := range values {
		ops[i] = c.g.rec.Begin(history.Op{Kind: history.Write, Client: c.id, Block: first + uint64(i), Value: v, FUA: r.FUA, Gen: c.l.gen, Call: at})
	}
	err := c.submit(ctx, patience, r)
	for _, op := range ops {
		c.ended(op, err, 0)
	}
	return err
}

func (c *observer) read(ctx context.Context, patience time.Duration, first uint64, n int) error {
	data := make([]byte, n*holdfast.BlockSize)
	at := c.g.now()
	ops := make([]int, n)
	for i := range n {
		ops[i] = c.g.rec.Begin(history.Op{Kind: history.Read, Client: c.id, Block: first + uint64(i), Gen: c.l.gen, Call: at})
	}
	err := c.submit(ctx, patience, &export.Request{Op: export.Read, Off: int64(first) * holdfast.BlockSize, Length: int64(len(data)), Data: data})
	for i, op := range ops {
		var value uint64
		bad := err
		if err == nil {
			if value, bad = parse(data[i*holdfast.BlockSize:(i+1)*holdfast.BlockSize], first+uint64(i)); bad != nil {
				c.g.fault(bad)
			}
		}
		c.ended(op, bad, value)
	}
	return err
}

func (c *observer) flush(ctx context.Context, patience time.Duration) error {
	op := c.g.rec.Begin(history.Op{Kind: history.Flush, Client: c.id, Gen: c.l.gen, Call: c.g.now()})
	err := c.submit(ctx, patience, &export.Request{Op: export.Flush})
	c.ended(op, err, 0)
	return err
}

func (c *observer) ended(op int, err error, value uint64) {
	if err != nil {
		c.g.rec.GiveUp(op, c.g.now())
		return
	}
	c.g.rec.End(op, c.g.now(), value)
}

// submit waits for a request for so long. Whoever is to end waits no longer.
func (c *observer) submit(ctx context.Context, patience time.Duration, r *export.Request) error {
	done := make(chan error, 1)
	r.Done = func(_ *export.Request, err error) { done <- err }
	c.l.Submit(r)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case err := <-done:
		if err == nil {
			c.g.done.Add(1)
		} else {
			c.g.fault(err)
		}
		return err
	case <-t.C:
	case <-ctx.Done():
	}
	return holdfast.Errorf(holdfast.Unavailable, "there was no answer within %v", patience)
}

// sweep reads every block.
func (c *observer) sweep(ctx context.Context) (err error) {
	if c.l, err = c.g.connect(ctx, c.g.doors(ctx)); err != nil {
		return err
	}
	defer c.hangUp()
	for at := 0; at < c.g.o.Blocks; at += longest {
		if err := c.read(ctx, mostPatience, uint64(at), min(longest, c.g.o.Blocks-at)); err != nil {
			return err
		}
	}
	return nil
}
