package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// libnbdModel lets the client on libnbd work for a while, without a fault.
func libnbdModel(ctx context.Context, c *court) (string, error) {
	return c.modelled(ctx, "libnbd", false, func(v *volume, done <-chan error) error {
		d := 20 * time.Second
		if c.o.quick {
			d = 2 * time.Second
		}
		pause(ctx, d)
		return nil
	})
}

// libnbdKills kills the writer's rack under it, again and again.
func libnbdKills(ctx context.Context, c *court) (string, error) {
	return c.modelled(ctx, "libnbd-kills", false, func(v *volume, done <-chan error) error {
		for range c.someCycles() {
			w, err := v.writer(ctx)
			if err != nil {
				return err
			}
			if err := c.cut(ctx, []lab.Host{w}); err != nil || len(done) > 0 {
				return err
			}
		}
		return nil
	})
}

// libnbdPowerCuts takes the power of every rack at once. What was flushed is
// there, and of the rest nothing that nobody wrote.
func libnbdPowerCuts(ctx context.Context, c *court) (string, error) {
	return c.modelled(ctx, "libnbd-cuts", true, func(v *volume, done <-chan error) error {
		for range c.someCycles() {
			if err := c.cut(ctx, c.l.Hosts); err != nil || len(done) > 0 {
				return err
			}
		}
		return nil
	})
}

// cut kills some hosts at a moment left to chance, and starts them again.
func (c *court) cut(ctx context.Context, hosts []lab.Host) error {
	pause(ctx, 200e6+c.within(1800e6))
	if err := lab.Kill(hosts); err != nil {
		return err
	}
	pause(ctx, c.within(2500e6))
	for _, h := range hosts {
		if err := c.start(ctx, h); err != nil {
			return err
		}
	}
	return c.whole(ctx)
}

// modelled runs the client (lab/judges/libnbd) while something happens to the lab.
func (c *court) modelled(ctx context.Context, name string, lossy bool, happen func(*volume, <-chan error) error) (string, error) {
	if _, err := exec.LookPath(c.o.libnbd); err != nil {
		return "", skip{c.o.libnbd + " is not built here ('make judges' builds it)"}
	}
	v, err := c.volume(ctx, name, 16*mib, "")
	if err != nil {
		return "", err
	}
	stop := c.path(name + ".stop")
	args := []string{"-seed", fmt.Sprint(c.rng.Uint32()), "-size", fmt.Sprint(v.size), "-stop", stop, fmt.Sprintf("-lossy=%v", lossy)}
	for _, h := range c.l.Hosts {
		args = append(args, v.uri(h))
	}
	done := make(chan error, 1)
	long, cancel := context.WithCancel(ctx) // a client that does not end is ended
	defer cancel()
	var out string
	go func() {
		var err error
		out, err = toolFor(long, 24*time.Hour, "", "", c.o.libnbd, args...)
		done <- err
	}()
	begin := time.Now()
	err = happen(v, done)
	if werr := os.WriteFile(stop, nil, 0o600); werr != nil {
		return "", errors.Join(err, werr)
	}
	select {
	case derr := <-done:
		err = errors.Join(err, derr)
	case <-time.After(2 * patience):
		err = errors.Join(err, errors.New("the client did not end"))
	}
	if err != nil {
		return "", fmt.Errorf("%w (after %.0f s)", err, time.Since(begin).Seconds())
	}
	if out = strings.TrimSpace(out); out == "" {
		return "", errors.New("the client did not say what it did")
	}
	return out, v.delete(ctx)
}
