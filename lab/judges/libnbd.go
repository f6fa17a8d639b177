package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

//go:embed model.py
var modelProgram string

// python is Debian's own, for which it packages libnbd.
const python = "/usr/bin/python3"

// libnbdModel lets a program on libnbd work for a while, without a fault.
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

// modelled runs the program while something happens to the lab.
func (c *court) modelled(ctx context.Context, name string, lossy bool, happen func(*volume, <-chan error) error) (string, error) {
	v, err := c.volume(ctx, name, 16*mib, "")
	if err != nil {
		return "", err
	}
	stop, program := c.path(name+".stop"), c.path("model.py")
	if err := os.WriteFile(program, []byte(modelProgram), 0o600); err != nil {
		return "", err
	}
	args := []string{program, fmt.Sprint(c.rng.Uint32()), fmt.Sprint(v.size), "0", stop}
	if lossy {
		args[3] = "1"
	}
	for _, h := range c.l.Hosts {
		args = append(args, v.uri(h))
	}
	done := make(chan error, 1)
	var out string
	go func() {
		var err error
		long, cancel := context.WithCancel(ctx)
		defer cancel()
		out, err = toolFor(long, 24*time.Hour, "", "", python, args...)
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
	var said struct{ Did map[string]int }
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		return "", fmt.Errorf("the client printed %q: %w", out, err)
	}
	var words []string
	for _, k := range []string{"writes", "zeroes", "reads", "flushes", "statuses", "refused", "reconnects", "unanswered"} {
		if said.Did[k] > 0 {
			words = append(words, fmt.Sprintf("%d %s", said.Did[k], k))
		}
	}
	return strings.Join(words, ", "), v.delete(ctx)
}
