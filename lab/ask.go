package lab

import (
	"context"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
)

// askTimeout bounds one host's answer: it may be dead, or stand still.
const askTimeout = 5 * time.Second

// Ask asks one host after the other until one answers without an error, and
// returns the last one's error if none does.
func Ask[T any](ctx context.Context, hosts []Host, f func(context.Context, *client.Client) (T, error)) (v T, err error) {
	err = holdfast.Errorf(holdfast.NotFound, "the lab has no host")
	for _, h := range hosts {
		if v, err = askOne(ctx, h, f); err == nil {
			break
		}
	}
	return v, err
}

func askOne[T any](ctx context.Context, h Host, f func(context.Context, *client.Client) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c := client.Socket(h.Socket())
	defer c.Close()
	return f(ctx, c)
}
