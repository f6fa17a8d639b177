package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// LoginWays says how to log in; nobody has to be logged in for that.
func (c *Client) LoginWays(ctx context.Context) (v1.LoginWays, error) {
	return fetch[v1.LoginWays](ctx, c, "GET", path("login"), nil)
}

// OIDC shows how people log in by OpenID Connect. Kind NotFound: they do not.
func (c *Client) OIDC(ctx context.Context) (v1.OIDC, error) {
	return fetch[v1.OIDC](ctx, c, "GET", path("oidc"), nil)
}

// SetOIDC sets log-in by OpenID Connect up, or changes it.
func (c *Client) SetOIDC(ctx context.Context, s v1.OIDCSpec) (v1.OIDC, error) {
	return fetch[v1.OIDC](ctx, c, "PUT", path("oidc"), s)
}

// DeleteOIDC ends log-in by OpenID Connect.
func (c *Client) DeleteOIDC(ctx context.Context) error {
	return c.call(ctx, "DELETE", path("oidc"), nil, nil)
}
