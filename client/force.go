package client

import (
	"context"
	"net/url"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// ForcePlan tells what opening a volume from a stale copy would mean; from names
// the host whose copy it would be, none: that which holds most.
func (c *Client) ForcePlan(ctx context.Context, volume, from string) (v1.Force, error) {
	p := path("volumes", volume, "force-open")
	if from != "" {
		p += "?" + url.Values{"from": {from}}.Encode()
	}
	return fetch[v1.Force](ctx, c, "GET", p, nil)
}

// ForceOpen opens a volume from a stale copy.
func (c *Client) ForceOpen(ctx context.Context, volume string, s v1.ForceSpec) (v1.Volume, error) {
	return fetch[v1.Volume](ctx, c, "POST", path("volumes", volume, "force-open"), s)
}

// AcknowledgeForce has it no longer told that a volume was forced open.
func (c *Client) AcknowledgeForce(ctx context.Context, volume string) (v1.Volume, error) {
	return fetch[v1.Volume](ctx, c, "POST", path("volumes", volume, "force-open", "acknowledge"), nil)
}
