package observer

import (
	"context"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
)

const dialTimeout = 4 * time.Second // a host that stands still answers nothing

// link is a connection to the volume at some host, and the cache generation of its
// session.
type link struct {
	*nbd.Client
	gen uint32
}

// connect connects to the volume at one of some doors, the first that lets us in.
func (g *Group) connect(ctx context.Context, doors []Door) (*link, error) {
	err := error(holdfast.Errorf(holdfast.NotFound, "there is no host"))
	for _, d := range doors {
		var c *nbd.Client
		if c, err = dial(ctx, d.Socket); err != nil {
			continue
		}
		gen, gerr := g.o.Records.Generation(ctx)
		if gerr == nil {
			return &link{c, gen}, nil
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
