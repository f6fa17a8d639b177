package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// AlertReceivers lists who is told what is wrong.
func (c *Client) AlertReceivers(ctx context.Context) ([]v1.AlertReceiver, error) {
	return fetch[[]v1.AlertReceiver](ctx, c, "GET", path("alert-receivers"), nil)
}

// AlertReceiver shows one of them.
func (c *Client) AlertReceiver(ctx context.Context, name string) (v1.AlertReceiver, error) {
	return fetch[v1.AlertReceiver](ctx, c, "GET", path("alert-receivers", name), nil)
}

// CreateAlertReceiver has somebody told what is wrong.
func (c *Client) CreateAlertReceiver(ctx context.Context, s v1.AlertReceiverSpec) (v1.AlertReceiver, error) {
	return fetch[v1.AlertReceiver](ctx, c, "POST", path("alert-receivers"), s)
}

// SetAlertReceiver changes a receiver.
func (c *Client) SetAlertReceiver(ctx context.Context, name string, s v1.AlertReceiverSet) (v1.AlertReceiver, error) {
	return fetch[v1.AlertReceiver](ctx, c, "PATCH", path("alert-receivers", name), s)
}

// DeleteAlertReceiver has a receiver told nothing more.
func (c *Client) DeleteAlertReceiver(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", path("alert-receivers", name), nil, nil)
}

// TestAlertReceiver sends a receiver a test message.
func (c *Client) TestAlertReceiver(ctx context.Context, name string) (v1.AlertTest, error) {
	return fetch[v1.AlertTest](ctx, c, "POST", path("alert-receivers", name, "test"), nil)
}
