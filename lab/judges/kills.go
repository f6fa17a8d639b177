package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// forwarding returns a host that carries initiators of a volume to its writer.
func (v *volume) forwarding(ctx context.Context) (lab.Host, error) {
	if err := v.served(ctx, v.c.other()); err != nil {
		return lab.Host{}, err
	}
	w, err := v.writer(ctx)
	if err != nil {
		return lab.Host{}, err
	}
	return v.c.other(w.Name), nil
}

// killWriter kills the rack of a volume's writer, waits for what is using the
// volume at some host to end, starts the rack again and waits until all is
// well. It says whether the use was under way at the kill. If the user's own
// host was the writer, it is started first: there is no other way for it.
func (v *volume) killWriter(ctx context.Context, at lab.Host, done <-chan error) (during bool, err error) {
	w, err := v.writer(ctx)
	if err != nil {
		return false, err
	}
	var used error
	ended := false
	select {
	case used = <-done:
		ended = true
	default:
	}
	if err := lab.Kill([]lab.Host{w}); err != nil {
		return false, err
	}
	if at.Name == w.Name {
		err = v.c.start(ctx, w)
	}
	if !ended {
		select {
		case used = <-done:
		case <-time.After(2 * patience):
			used = fmt.Errorf("it did not end within %v after rack %s was killed", 2*patience, w.Rack)
		}
	}
	err = errors.Join(used, err, v.c.start(ctx, w))
	return !ended, errors.Join(err, v.c.whole(ctx))
}
