package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// Pages shows the names of the cluster's pages and the authority to trust for them;
// nobody has to be logged in for that.
func (c *Client) Pages(ctx context.Context) (v1.Pages, error) {
	return fetch[v1.Pages](ctx, c, "GET", path("pages"), nil)
}

// SetPages gives the pages names.
func (c *Client) SetPages(ctx context.Context, s v1.PagesSpec) (v1.Pages, error) {
	return fetch[v1.Pages](ctx, c, "PUT", path("pages"), s)
}

// SetPagesSite gives the pages a certificate of the site's own.
func (c *Client) SetPagesSite(ctx context.Context, s v1.PagesSite) (v1.Pages, error) {
	return fetch[v1.Pages](ctx, c, "PUT", path("pages", "site"), s)
}

// RemovePagesSite has the pages show it no more.
func (c *Client) RemovePagesSite(ctx context.Context) error {
	return c.call(ctx, "DELETE", path("pages", "site"), nil, nil)
}

// Passkeys lists the passkeys of a user.
func (c *Client) Passkeys(ctx context.Context, user string) ([]v1.Passkey, error) {
	return fetch[[]v1.Passkey](ctx, c, "GET", path("users", user, "passkeys"), nil)
}

// RemovePasskey makes a passkey useless; sessions go on.
func (c *Client) RemovePasskey(ctx context.Context, user, id string) error {
	return c.call(ctx, "DELETE", path("users", user, "passkeys", id), nil, nil)
}
