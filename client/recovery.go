package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// RecoveryPlan says what a recovery of the control plane on the host that is
// called would do.
func (c *Client) RecoveryPlan(ctx context.Context, s v1.RecoverySpec) (v1.Recovery, error) {
	return fetch[v1.Recovery](ctx, c, "POST", path("cluster", "recovery", "plan"), s)
}

// Recover begins it. The host then restarts its own process's work; Recovery
// tells what became of it.
func (c *Client) Recover(ctx context.Context, s v1.RecoverySpec) (v1.Recovery, error) {
	return fetch[v1.Recovery](ctx, c, "POST", path("cluster", "recovery"), s)
}

// Recovery tells of the last recovery on the host that is called.
func (c *Client) Recovery(ctx context.Context) (v1.Recovery, error) {
	return fetch[v1.Recovery](ctx, c, "GET", path("cluster", "recovery"), nil)
}
