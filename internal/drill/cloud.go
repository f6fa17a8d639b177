package drill

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

const askTimeout = 2 * time.Second // for one host, before another one is asked

// cloud asks whichever host of the lab answers. It may be used from any
// goroutine.
type cloud struct {
	hosts   []lab.Host
	clients []*client.Client

	mu   sync.Mutex
	dead []string // racks and hosts that are not asked
	last int      // host that answered last
}

func newCloud(l *lab.Lab) *cloud {
	c := &cloud{hosts: l.Hosts}
	for _, h := range l.Hosts {
		c.clients = append(c.clients, client.Socket(h.Socket()))
	}
	return c
}

func (c *cloud) close() {
	for _, k := range c.clients {
		k.Close()
	}
}

// without asks no host of a rack, or none of these racks and hosts, from now on;
// all every one again.
func (c *cloud) without(places ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = places
}

func (c *cloud) all() { c.without() }

// order returns the hosts to ask, the one that answered last first.
func (c *cloud) order() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []int
	for i := range c.hosts {
		n := (c.last + i) % len(c.hosts)
		if !slices.Contains(c.dead, c.hosts[n].Rack) && !slices.Contains(c.dead, c.hosts[n].Name) {
			out = append(out, n)
		}
	}
	return out
}

// ask calls hosts in turn until one answers, be it with a refusal.
func ask[T any](ctx context.Context, c *cloud, limit time.Duration, f func(context.Context, *client.Client) (T, error)) (T, error) {
	var zero T
	var last error
	for _, i := range c.order() {
		try, cancel := context.WithTimeout(ctx, limit)
		v, err := f(try, c.clients[i])
		cancel()
		if err == nil {
			c.mu.Lock()
			c.last = i
			c.mu.Unlock()
			return v, nil
		}
		if ctx.Err() != nil {
			return zero, ctx.Err()
		}
		last = err
		if !holdfast.IsKind(err, holdfast.Unavailable) && !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	return zero, last
}

func (c *cloud) status(ctx context.Context) (v1.Status, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) (v1.Status, error) { return k.Status(ctx) })
}

func (c *cloud) vm(ctx context.Context, id string) (v1.VM, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) (v1.VM, error) { return k.VM(ctx, id) })
}

func (c *cloud) vms(ctx context.Context) ([]v1.VM, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.VM, error) { return k.VMs(ctx) })
}

func (c *cloud) volume(ctx context.Context, id string) (v1.Volume, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) (v1.Volume, error) { return k.Volume(ctx, id) })
}

// volumes are all there are, images included.
func (c *cloud) volumes(ctx context.Context) ([]v1.Volume, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.Volume, error) {
		all, err := k.Volumes(ctx)
		if err != nil {
			return nil, err
		}
		images, err := k.Images(ctx)
		return append(all, images...), err
	})
}

func (c *cloud) activity(ctx context.Context, id string) (v1.Activity, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) (v1.Activity, error) { return k.Activity(ctx, id) })
}

func (c *cloud) incidents(ctx context.Context) ([]v1.Incident, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.Incident, error) { return k.Incidents(ctx) })
}

func (c *cloud) createVM(ctx context.Context, s v1.VMSpec) (v1.VM, error) {
	return ask(ctx, c, time.Minute, func(ctx context.Context, k *client.Client) (v1.VM, error) { return k.CreateVM(ctx, s) })
}

func (c *cloud) resetVM(ctx context.Context, id string) error {
	_, err := ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) (v1.VM, error) { return k.ResetVM(ctx, id) })
	return err
}

// console attaches to a VM from any host; it lasts as long as ctx.
func (c *cloud) console(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	var last error
	for _, i := range c.order() {
		con, err := c.clients[i].Console(ctx, id, false)
		if err == nil {
			return con, nil
		}
		last = err
	}
	return nil, last
}

// outside returns a host that is not in a rack.
func (c *cloud) outside(rack string) lab.Host {
	for _, h := range c.hosts {
		if h.Rack != rack {
			return h
		}
	}
	return c.hosts[0]
}

// have makes sure that there is an image, importing it if not.
func (c *cloud) have(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) error {
	return c.haveCopies(ctx, client.NewImage{Name: name, Size: size}, open)
}

// haveCopies is have for an image that is told in full.
func (c *cloud) haveCopies(ctx context.Context, n client.NewImage, open func() (io.ReadCloser, error)) error {
	name := n.Name
	img, err := ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) (v1.Volume, error) { return k.Image(ctx, name) })
	if err == nil {
		if img.State == "importing" {
			return holdfast.Errorf(holdfast.Busy, "image %s is being imported; try again when 'holdfast image list' says ok", name)
		}
		return nil
	}
	if !holdfast.IsKind(err, holdfast.NotFound) {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = c.clients[c.order()[0]].ImportImage(ctx, n, r)
	return err
}

// remove deletes a VM of an earlier drill and waits until it is gone.
func (c *cloud) remove(ctx context.Context, name string) error {
	return c.until(ctx, time.Minute, "the VM of the last drill to be gone", func(ctx context.Context) (bool, string, error) {
		_, err := c.vm(ctx, name)
		if holdfast.IsKind(err, holdfast.NotFound) {
			_, err = c.volume(ctx, name)
			return holdfast.IsKind(err, holdfast.NotFound), "its disk is still there", nil
		}
		if err != nil {
			return false, "", err
		}
		_, err = ask(ctx, c, 10*time.Second, func(ctx context.Context, k *client.Client) (struct{}, error) {
			return struct{}{}, k.DeleteVM(ctx, name, v1.VMRemoval{Force: true})
		})
		return false, "", err
	})
}

// stop is an error that ends until at once.
type stop struct{ error }

// until asks again and again until f says so. What f said last is the reason
// if it takes too long; errors are asked again, for in a drill they pass.
func (c *cloud) until(ctx context.Context, limit time.Duration, what string, f func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	said := "nothing"
	for {
		ok, say, err := f(ctx)
		var end stop
		switch {
		case errors.As(err, &end):
			return end.error
		case err != nil && ctx.Err() == nil:
			said = err.Error()
		case ok:
			return nil
		case say != "":
			said = say
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return holdfast.Errorf(holdfast.Unavailable, "waited %v for %s, in vain; last heard: %s", limit, what, said)
		case <-time.After(pollEvery):
		}
	}
}
