package observer

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	askTimeout  = 2 * time.Second
	dialTimeout = 4 * time.Second // a host that stands still answers nothing
)

// link is a connection to the volume at some host, and the cache generation of its
// session.
type link struct {
	*nbd.Client
	host string
	gen  uint32
}

// connect connects to the volume at one of some hosts, the first that lets us in.
func (g *Group) connect(ctx context.Context, hosts []lab.Host) (*link, error) {
	err := error(holdfast.Errorf(holdfast.NotFound, "there is no host"))
	for _, h := range hosts {
		var c *nbd.Client
		if c, err = dial(ctx, h.Export(g.o.ID)); err != nil {
			continue
		}
		gen, gerr := g.generation(ctx)
		if gerr == nil {
			return &link{c, h.Name, gen}, nil
		}
		c.Sever()
		err = gerr
	}
	return nil, err
}

// dial gives up sooner than the client itself does.
func dial(ctx context.Context, path string) (*nbd.Client, error) {
	type answer struct {
		c   *nbd.Client
		err error
	}
	got := make(chan answer, 1)
	go func() {
		c, err := nbd.Dial("unix", path, "", nil)
		got <- answer{c, err}
	}()
	t := time.NewTimer(dialTimeout)
	defer t.Stop()
	select {
	case a := <-got:
		return a.c, a.err
	case <-ctx.Done():
	case <-t.C:
	}
	go func() {
		if a := <-got; a.err == nil {
			a.c.Sever()
		}
	}()
	return nil, holdfast.Errorf(holdfast.Unavailable, "%s does not answer", path)
}

// generation asks all hosts for the volume's cache generation, right after one has
// let us in: the one that orders the volume's writes has written it down by then,
// and those that know less are behind.
func (g *Group) generation(ctx context.Context) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	gens, errs := make([]uint32, len(g.api)), make([]error, len(g.api))
	var wg sync.WaitGroup
	for i, c := range g.api {
		wg.Go(func() {
			var v v1.Volume
			v, errs[i] = c.Volume(ctx, g.o.ID)
			gens[i] = v.Generation
		})
	}
	wg.Wait()
	most, known := uint32(0), false
	for i := range gens {
		if errs[i] == nil {
			most, known = max(most, gens[i]), true
		}
	}
	if !known {
		return 0, holdfast.Errorf(holdfast.Unavailable, "no host knows volume %s: %w", g.o.Name, errs[0])
	}
	return most, nil
}

// writer is the host that the records call the volume's writer, "" if none does.
func (g *Group) writer(ctx context.Context) string {
	for _, i := range g.order() {
		try, cancel := context.WithTimeout(ctx, askTimeout)
		v, err := g.api[i].Volume(try, g.o.ID)
		cancel()
		if err == nil {
			return v.Writer
		}
	}
	return ""
}

func clients(hosts []lab.Host) (out []*client.Client) {
	for _, h := range hosts {
		out = append(out, client.Socket(h.Socket()))
	}
	return out
}
