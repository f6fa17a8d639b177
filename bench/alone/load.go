package alone

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Depth is how many writes at random are under way.
const Depth = 32

// Load is what is done to a volume.
type Load struct {
	Disk   export.Disk
	Blocks uint64
}

// client is one writer that waits for each of its requests.
type client struct {
	disk export.Disk
	req  export.Request
	done chan error
	rng  *rand.Rand
}

func (l *Load) client(n uint64, bytes int) *client {
	c := &client{disk: l.Disk, done: make(chan error, 1), rng: rand.New(rand.NewPCG(n, uint64(time.Now().UnixNano())))}
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

// Fill writes every block once, in order.
func (l *Load) Fill() error {
	const run = 256
	c := l.client(0, run*holdfast.BlockSize)
	for b := uint64(0); b < l.Blocks; b += run {
		if err := c.write(b, int(min(run, l.Blocks-b))); err != nil {
			return err
		}
	}
	return c.flush()
}

// Overwrite writes single blocks at random at Depth 32 for some seconds and
// returns MiB/s of every second, by what counter says, if it is given.
func (l *Load) Overwrite(seconds float64, counter func() int64) (perSecond []float64, err error) {
	var stop atomic.Bool
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for i := range Depth {
		c := l.client(uint64(i), holdfast.BlockSize)
		all.Go(func() {
			for !stop.Load() {
				if err := c.write(c.rng.Uint64N(l.Blocks), 1); err != nil {
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

// Latency is of write+flush pairs, in milliseconds.
type Latency struct {
	Count  int     `json:"count"`
	Median float64 `json:"medianMs"`
	P99    float64 `json:"p99Ms"`
	Max    float64 `json:"maxMs"`
}

// Pairs lets one client write and flush, while others overwrite at random at a
// rate that the cleaner has to follow, in blocks per second.
func (l *Load) Pairs(seconds float64, beside int) (*Latency, error) {
	if seconds == 0 {
		return nil, nil
	}
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() { failed <- l.paced(beside, stop) }()
	begin := time.Now()
	out, err := l.PairsWhile(func() bool { return since(begin) < seconds })
	close(stop)
	if other := <-failed; err == nil {
		err = other
	}
	return out, err
}

// summary orders what pairs took; nil: there were none.
func summary(took []float64) *Latency {
	slices.Sort(took)
	n := len(took)
	if n == 0 {
		return nil
	}
	return &Latency{Count: n, Median: took[n/2], P99: took[n*99/100], Max: took[n-1]}
}

// PairsWhile lets one client write and flush for as long as more says so, which
// is asked after every pair.
func (l *Load) PairsWhile(more func() bool) (*Latency, error) {
	var took []float64
	c := l.client(Depth, holdfast.BlockSize)
	for more() {
		one := time.Now()
		if err := c.write(c.rng.Uint64N(l.Blocks), 1); err != nil {
			return nil, err
		}
		if err := c.flush(); err != nil {
			return nil, err
		}
		took = append(took, since(one)*1000)
	}
	return summary(took), nil
}

// paced overwrites at random, rate blocks per second in bursts of a hundredth
// of a second, until stop is closed.
func (l *Load) paced(rate int, stop chan struct{}) error {
	if rate == 0 {
		<-stop
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	clients := make([]*client, Depth)
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
		errs := make([]error, Depth)
		for i, c := range clients {
			all.Go(func() {
				for k := i; k < rate/100 && errs[i] == nil; k += Depth {
					errs[i] = c.write(c.rng.Uint64N(l.Blocks), 1)
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

// since is seconds since a moment.
func since(t time.Time) float64 { return time.Since(t).Seconds() }
