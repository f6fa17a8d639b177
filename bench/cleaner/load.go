package main

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

const depth = 32

// load is what is done to the volume.
type load struct {
	disk   export.Disk
	blocks uint64
}

// client is one writer that waits for each of its requests.
type client struct {
	disk export.Disk
	req  export.Request
	done chan error
	rng  *rand.Rand
}

func (l *load) client(n uint64, bytes int) *client {
	c := &client{disk: l.disk, done: make(chan error, 1), rng: rand.New(rand.NewPCG(n, uint64(time.Now().UnixNano())))}
	c.req.Data = make([]byte, bytes)
	for i := range c.req.Data {
		c.req.Data[i] = byte(c.rng.Uint32())
	}
	c.req.Done = func(_ *export.Request, err error) { c.done <- err }
	return c
}

func (c *client) write(block uint64, n int) error {
	c.req.Op, c.req.Off, c.req.Length, c.req.More = export.Write, int64(block)*holdfast.BlockSize, int64(n)*holdfast.BlockSize, false
	all := c.req.Data
	c.req.Data = all[:c.req.Length]
	c.disk.Submit(&c.req)
	err := <-c.done
	c.req.Data = all
	return err
}

func (c *client) flush() error {
	c.req.Op, c.req.Off, c.req.Length, c.req.More = export.Flush, 0, 0, false
	c.disk.Submit(&c.req)
	return <-c.done
}

// fill writes every block once, in order.
func (l *load) fill() error {
	const run = 256
	c := l.client(0, run*holdfast.BlockSize)
	for b := uint64(0); b < l.blocks; b += run {
		if err := c.write(b, int(min(run, l.blocks-b))); err != nil {
			return err
		}
	}
	return c.flush()
}

// overwrite writes single blocks at random at depth 32 for some seconds and
// returns MiB/s of every second, by what counter says, if it is given.
func (l *load) overwrite(seconds float64, counter func() int64) (perSecond []float64, err error) {
	var stop atomic.Bool
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for i := range depth {
		c := l.client(uint64(i), holdfast.BlockSize)
		all.Go(func() {
			for !stop.Load() {
				if err := c.write(c.rng.Uint64N(l.blocks), 1); err != nil {
					failed.Store(&err)
					stop.Store(true)
				}
			}
		})
	}
	var was int64
	if counter != nil {
		was = counter()
	}
	begin := time.Now()
	for last := begin; since(begin) < seconds && !stop.Load(); {
		time.Sleep(min(time.Second, time.Until(begin.Add(time.Duration(seconds*float64(time.Second))))))
		if counter != nil {
			n, took := counter(), since(last)
			perSecond = append(perSecond, float64(n-was)/(1<<20)/took)
			was, last = n, time.Now()
		}
	}
	stop.Store(true)
	all.Wait()
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	return perSecond, nil
}

// latency is of write+flush pairs, in milliseconds.
type latency struct {
	Count  int     `json:"count"`
	Median float64 `json:"medianMs"`
	P99    float64 `json:"p99Ms"`
	Max    float64 `json:"maxMs"`
}

// pairs lets one client write and flush, while others overwrite at random at a
// rate that the cleaner has to follow, in blocks per second.
func (l *load) pairs(seconds float64, beside int) (*latency, error) {
	if seconds == 0 {
		return nil, nil
	}
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() { failed <- l.paced(beside, stop) }()
	var took []float64
	c := l.client(depth, holdfast.BlockSize)
	var err error
	for begin := time.Now(); since(begin) < seconds && err == nil; {
		one := time.Now()
		if err = c.write(c.rng.Uint64N(l.blocks), 1); err == nil {
			err = c.flush()
		}
		took = append(took, since(one)*1000)
	}
	close(stop)
	if other := <-failed; err == nil {
		err = other
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(took)
	n := len(took)
	return &latency{Count: n, Median: took[n/2], P99: took[n*99/100], Max: took[n-1]}, nil
}

// paced overwrites at random, rate blocks per second in bursts of a hundredth
// of a second, until stop is closed.
func (l *load) paced(rate int, stop chan struct{}) error {
	if rate == 0 {
		<-stop
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	clients := make([]*client, depth)
	for i := range clients {
		clients[i] = l.client(uint64(i), holdfast.BlockSize)
	}
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		var all sync.WaitGroup
		errs := make([]error, depth)
		for i, c := range clients {
			all.Go(func() {
				for k := i; k < rate/100 && errs[i] == nil; k += depth {
					errs[i] = c.write(c.rng.Uint64N(l.blocks), 1)
				}
			})
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
	}
}
