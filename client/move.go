package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// MovePlan says what moving the control plane into the external etcd that the hosts'
// configurations name would do.
func (c *Client) MovePlan(ctx context.Context) (v1.KVMove, error) {
	return fetch[v1.KVMove](ctx, c, "POST", path("cluster", "move-kv", "plan"), nil)
}

// MoveKV moves it. The hosts' processes then begin anew.
func (c *Client) MoveKV(ctx context.Context, s v1.KVMoveSpec) (v1.KVMove, error) {
	return fetch[v1.KVMove](ctx, c, "POST", path("cluster", "move-kv"), s)
}

// CancelMove gives a move up that has begun and not arrived.
func (c *Client) CancelMove(ctx context.Context) error {
	return c.call(ctx, "DELETE", path("cluster", "move-kv"), nil, nil)
}

// KVReady asks the host that is called whether it could follow such a move.
func (c *Client) KVReady(ctx context.Context) (v1.KVReady, error) {
	return fetch[v1.KVReady](ctx, c, "GET", path("cluster", "move-kv"), nil)
}
