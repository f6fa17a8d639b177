package observer

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// Door is where a host offers the volume.
type Door struct {
	Host   string // name
	Socket string // path
}

// Records is what the cluster says of the volume.
type Records interface {
	// Generation is the volume's cache generation, asked for right after somebody
	// was let in.
	Generation(ctx context.Context) (uint32, error)
	// Writer names the host that writes it, "" if nobody knows.
	Writer(ctx context.Context) string
}

const askTimeout = 2 * time.Second

// Doors are where the hosts of a lab offer a volume.
func Doors(hosts []lab.Host, id string) (out []Door) {
	for _, h := range hosts {
		out = append(out, Door{h.Name, h.Export(id)})
	}
	return out
}

// cluster asks the hosts of a lab.
type cluster struct {
	id  string
	api []*client.Client
}

// Cluster is what the hosts of a lab say of a volume.
func Cluster(hosts []lab.Host, id string) Records {
	c := &cluster{id: id}
	for _, h := range hosts {
		c.api = append(c.api, client.Socket(h.Socket()))
	}
	return c
}

// Generation asks all hosts: the one that orders the volume's writes has written it
// down by the time that it lets somebody in, and those that know less are behind.
func (c *cluster) Generation(ctx context.Context) (uint32, error) {
	most, known := uint32(0), false
	volumes, errs := c.all(ctx)
	for i, v := range volumes {
		if errs[i] == nil {
			most, known = max(most, v.Generation), true
		}
	}
	if !known {
		return 0, holdfast.Errorf(holdfast.Unavailable, "no host knows volume %s: %w", c.id, errs[0])
	}
	return most, nil
}

// Writer is what the host says that knows of the latest epoch.
func (c *cluster) Writer(ctx context.Context) (name string) {
	latest := uint32(0)
	volumes, errs := c.all(ctx)
	for i, v := range volumes {
		if errs[i] == nil && v.Epoch >= latest {
			name, latest = v.Writer, v.Epoch
		}
	}
	return name
}

func (c *cluster) all(ctx context.Context) ([]v1.Volume, []error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	volumes, errs := make([]v1.Volume, len(c.api)), make([]error, len(c.api))
	var wg sync.WaitGroup
	for i, k := range c.api {
		wg.Go(func() {
			volumes[i], errs[i] = k.Volume(ctx, c.id)
			k.Close() // nobody may need it for long
		})
	}
	wg.Wait()
	return volumes, errs
}
