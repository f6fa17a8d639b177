package client

import (
	"context"
	"strconv"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// waitAtOnce is how long a host is asked to wait for the end of a task at a time.
const waitAtOnce = 30 * time.Second

// FetchImage has the host that is called get an image by URL, and returns the task as
// which it does.
func (c *Client) FetchImage(ctx context.Context, s v1.ImageFetch) (v1.Task, error) {
	return create[v1.Task](ctx, c, path("image-imports"), s)
}

// Tasks lists what takes long, and what did of late.
func (c *Client) Tasks(ctx context.Context) ([]v1.Task, error) {
	return fetch[[]v1.Task](ctx, c, "GET", path("tasks"), nil)
}

// Task shows one task, with its log.
func (c *Client) Task(ctx context.Context, id string) (v1.Task, error) {
	return fetch[v1.Task](ctx, c, "GET", path("tasks", id), nil)
}

// AwaitTask waits for the end of a task, whole seconds up to a minute, and shows it as
// it is then.
func (c *Client) AwaitTask(ctx context.Context, id string, most time.Duration) (v1.Task, error) {
	return fetch[v1.Task](ctx, c, "GET", query(path("tasks", id), "wait", strconv.Itoa(int(most/time.Second))), nil)
}

// WaitTask waits for the end of a task, until ctx ends. each, if it is not nil, is
// told how far it is, about every so often.
func (c *Client) WaitTask(ctx context.Context, id string, every time.Duration, each func(v1.Task)) (v1.Task, error) {
	if each == nil || every > waitAtOnce {
		every = waitAtOnce
	}
	for {
		t, err := c.AwaitTask(ctx, id, max(every, time.Second))
		if err != nil || t.Over() {
			return t, err
		}
		if each != nil {
			each(t)
		}
	}
}

// CancelTask has a task end before it gets there.
func (c *Client) CancelTask(ctx context.Context, id string) error {
	return c.call(ctx, "POST", path("tasks", id, "cancel"), nil, nil)
}

// Features lists what the API of the host that is called can do.
func (c *Client) Features(ctx context.Context) ([]v1.Feature, error) {
	return fetch[[]v1.Feature](ctx, c, "GET", path("features"), nil)
}
