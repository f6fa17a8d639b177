package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// court is the lab that is judged, and a place for files.
type court struct {
	o      options
	l      *lab.Lab
	binary string
	dir    string
	tmp    bool // dir was made for this
	rng    *rand.Rand
}

// portNBD is where the lab's hosts serve NBD over TLS (IANA's port for it).
const portNBD = 10809

func (c *court) getenv(key string) string {
	if key == "XDG_STATE_HOME" || key == "HOME" {
		return c.dir
	}
	return os.Getenv(key)
}

// open brings the lab up: three racks of one host that also serve NBD by TLS.
func open(ctx context.Context, o options) (_ *court, err error) {
	c := &court{o: o, dir: o.dir, rng: rand.New(rand.NewPCG(o.seed, 0))}
	if c.binary, err = filepath.Abs(o.binary); err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.binary); err != nil {
		return nil, fmt.Errorf("%w; 'make build' builds it", err)
	}
	if c.dir == "" {
		c.tmp = true
		if c.dir, err = os.MkdirTemp("/tmp", "hfj"); err != nil {
			return nil, err
		}
	} else if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close(false))
		}
	}()
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	if err := lab.Kill(c.l.Hosts); err != nil {
		return nil, err
	}
	for _, h := range c.l.Hosts {
		b, err := os.ReadFile(h.Config())
		if err != nil {
			return nil, err
		}
		b = fmt.Appendf(b, "nbd_tcp: %s:%d\n", h.Addr, portNBD)
		if err := os.WriteFile(h.Config(), b, 0o600); err != nil {
			return nil, err
		}
	}
	if err := c.up(ctx); err != nil {
		return nil, err
	}
	return c, c.credential()
}

func (c *court) up(ctx context.Context) (err error) {
	var progress bytes.Buffer
	c.l, err = lab.Up(ctx, lab.Options{Dir: c.path("l"), Racks: 3, PerRack: 1, DiskSize: lab.DefaultDiskSize,
		Binary: c.binary, Progress: &progress, Getenv: c.getenv})
	if err != nil {
		if l, oerr := lab.Open(c.path("l")); oerr == nil {
			c.l = l // to be ended
		}
		return fmt.Errorf("%w\n%s", err, progress.String())
	}
	return nil
}

// credential lays the admin's certificate out as libnbd and GnuTLS want it.
func (c *court) credential() error {
	if err := os.MkdirAll(c.path("tls"), 0o700); err != nil {
		return err
	}
	for from, to := range map[string]string{client.CAFile: "ca-cert.pem", client.CertFile: "client-cert.pem", client.KeyFile: "client-key.pem"} {
		b, err := os.ReadFile(filepath.Join(c.l.Credential(), from))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.path("tls"), to), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *court) path(name string) string { return filepath.Join(c.dir, name) }

// close ends the lab and removes what was made.
func (c *court) close(keep bool) error {
	var err error
	if c.l != nil {
		err = c.l.Down(!keep, c.getenv)
	}
	if keep {
		fmt.Fprintln(os.Stderr, "judges: the files of the lab are left in", c.dir)
		return err
	}
	if c.tmp {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

// ask asks any host that answers.
func ask[T any](ctx context.Context, c *court, f func(context.Context, *client.Client) (T, error)) (T, error) {
	return lab.Ask(ctx, c.l.Hosts, f)
}

// until waits for something to become true; f's words say what is missing.
func until(ctx context.Context, what string, f func() (bool, string)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, said := f()
		if ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s, in vain; last heard: %s", patience, what, said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// whole waits until every host is there and every volume has its copies.
func (c *court) whole(ctx context.Context) error {
	return until(ctx, "the lab to be whole", func() (bool, string) {
		st, err := ask(ctx, c, func(ctx context.Context, cl *client.Client) (v1.Status, error) { return cl.Status(ctx) })
		if err != nil || st.Counts.HostsAlive != len(c.l.Hosts) {
			return false, fmt.Sprint(st.Sentence, " ", err)
		}
		vs, err := ask(ctx, c, func(ctx context.Context, cl *client.Client) ([]v1.Volume, error) { return cl.Volumes(ctx) })
		for _, v := range vs {
			if v.State != "ok" {
				return false, "volume " + v.Name + " is " + v.State
			}
		}
		return err == nil, fmt.Sprint(err)
	})
}

// ready starts what the judge before left dead, and waits until all is whole.
func (c *court) ready(ctx context.Context) error {
	for _, h := range c.l.Hosts {
		if err := c.start(ctx, h); err != nil {
			return err
		}
	}
	return c.whole(ctx)
}

func (c *court) host(name string) (lab.Host, bool) {
	for _, h := range c.l.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return lab.Host{}, false
}

// other returns a host that is none of the given ones.
func (c *court) other(not ...string) lab.Host {
	left := slices.DeleteFunc(slices.Clone(c.l.Hosts), func(h lab.Host) bool { return slices.Contains(not, h.Name) })
	return left[c.rng.IntN(len(left))]
}

// start starts the rack of a host again.
func (c *court) start(ctx context.Context, h lab.Host) error { return c.l.Start(ctx, c.binary, h.Rack) }

// within returns a random time below d: the moment of a kill is left to chance.
func (c *court) within(d time.Duration) time.Duration { return time.Duration(c.rng.Int64N(int64(d))) }

// pause waits, unless it all ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// lines counts the lines of a text.
func lines(s string) int { return strings.Count(s, "\n") }
