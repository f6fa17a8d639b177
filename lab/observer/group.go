package observer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/history"
)

// Options are what a group is started with. The volume is new: all zeroes.
type Options struct {
	Name    string // of the volume
	Doors   []Door
	Records Records
	Blocks  int  // that are used, from the first on
	Clients int  // that work side by side
	Shared  bool // each has a connection of its own, at the host that writes; else all share one, anywhere
	Seed    uint64
	Think   time.Duration // of a client between two operations, on average
	Begun   time.Time     // zero of the history's clock
}

// Group is some clients of one volume.
type Group struct {
	o   Options
	rec history.Recorder

	stop  context.CancelFunc
	tasks sync.WaitGroup
	next  atomic.Uint64 // value

	done  atomic.Int64 // operations that were answered
	dials atomic.Int64

	mu      sync.Mutex
	rng     *rand.Rand
	common  *link // of those who share one
	linking sync.Mutex
	wrong   []string
	errs    map[string]int // operations that failed, by the kind of their errors
}

// Start starts a group.
func Start(o Options) *Group {
	g := &Group{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6f62736572766572)), errs: map[string]int{}}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	for i := range o.Clients {
		c := &observer{g: g, id: i + 1, rng: rand.New(rand.NewPCG(o.Seed, uint64(i)))}
		g.tasks.Go(func() { c.run(ctx) })
	}
	return g
}

// Done is how many operations were answered, and Dials how often somebody had to
// connect.
func (g *Group) Done() int64  { return g.done.Load() }
func (g *Group) Dials() int64 { return g.dials.Load() }

// Stop ends the clients and reads every block once more, for as long as that
// takes within ctx.
func (g *Group) Stop(ctx context.Context) error {
	g.stop()
	g.tasks.Wait()
	if g.common != nil {
		g.common.Sever()
		g.common = nil
	}
	c := &observer{g: g, rng: g.rng}
	for {
		err := c.sweep(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return holdfast.Errorf(holdfast.Unavailable, "volume %s could not be read in the end: %w", g.o.Name, err)
		case <-time.After(retryEvery):
		}
	}
}

// Result is what a group came to.
type Result struct {
	Volume  string         `json:"volume"`
	Shared  bool           `json:"shared"`
	Ops     int64          `json:"operations"`
	Blocks  int            `json:"blocks"`
	Reads   int            `json:"reads"`
	Writes  int            `json:"writes"`
	Unknown int            `json:"unknown"` // of the writes
	Dials   int64          `json:"connections"`
	Errors  map[string]int `json:"errors,omitempty"`
	Wrong   []string       `json:"wrong,omitempty"`
}

// Judge judges what a group that was stopped has seen.
func (g *Group) Judge() Result {
	r := Result{Volume: g.o.Name, Shared: g.o.Shared, Ops: g.Done(), Dials: g.Dials(), Errors: g.errs, Wrong: slices.Clone(g.wrong)}
	v, err := history.Check(g.rec.Ops())
	if err != nil {
		r.Wrong = append(r.Wrong, err.Error())
	}
	r.Blocks, r.Reads, r.Writes, r.Unknown = v.Blocks, v.Reads, v.Writes, v.Unknown
	for _, bad := range v.Violations {
		r.Wrong = append(r.Wrong, fmt.Sprintf("volume %s: %s", g.o.Name, bad.String()))
	}
	return r
}

// Ops is the history so far.
func (g *Group) Ops() []history.Op { return g.rec.Ops() }

func (g *Group) now() int64 { return int64(time.Since(g.o.Begun)) }

func (g *Group) fault(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if holdfast.IsKind(err, holdfast.Corrupt) && len(g.wrong) < 20 {
		g.wrong = append(g.wrong, fmt.Sprintf("volume %s: %v", g.o.Name, err))
	}
	g.errs[holdfast.KindOf(err).String()]++
}

// doors are those to try, in an order of chance: of a shared volume the writer's
// first, which alone lets several in.
func (g *Group) doors(ctx context.Context) (out []Door) {
	first := ""
	if g.o.Shared {
		first = g.o.Records.Writer(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range g.rng.Perm(len(g.o.Doors)) {
		if d := g.o.Doors[i]; d.Host == first {
			out = slices.Insert(out, 0, d)
		} else {
			out = append(out, d)
		}
	}
	return out
}

// shared returns the connection that all clients use.
func (g *Group) shared(ctx context.Context) (*link, error) {
	g.linking.Lock()
	defer g.linking.Unlock()
	if g.common != nil {
		return g.common, nil
	}
	l, err := g.connect(ctx, g.doors(ctx))
	if err == nil {
		g.dials.Add(1)
		g.common = l
	}
	return l, err
}
