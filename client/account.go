package client

import (
	"context"
	"net/http"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// sessionCookie is the name of the cookie that a session is.
const sessionCookie = "holdfast_session"

// Login logs in and returns the session's secret, for Credential.
func (c *Client) Login(ctx context.Context, l v1.Login) (v1.Session, string, error) {
	return c.enter(ctx, path("login"), l)
}

// Setup makes the first cluster admin, and logs in.
func (c *Client) Setup(ctx context.Context, s v1.Setup) (v1.Session, string, error) {
	return c.enter(ctx, path("setup"), s)
}

func (c *Client) enter(ctx context.Context, p string, in any) (out v1.Session, secret string, err error) {
	req, err := c.request(ctx, "POST", p, in)
	if err != nil {
		return out, "", err
	}
	cookies, err := c.sendFor(req, &out)
	for _, k := range cookies {
		if k.Name == sessionCookie {
			return out, k.Value, err
		}
	}
	if err == nil {
		err = holdfast.Errorf(holdfast.Other, "the host at %s let nobody in", c.where)
	}
	return out, "", err
}

// Session asks who the caller is.
func (c *Client) Session(ctx context.Context) (v1.Session, error) {
	return fetch[v1.Session](ctx, c, "GET", path("session"), nil)
}

// Logout ends the caller's session.
func (c *Client) Logout(ctx context.Context) error {
	return c.call(ctx, "POST", path("logout"), nil, nil)
}

// SetupLink makes the link that makes the first cluster admin.
func (c *Client) SetupLink(ctx context.Context) (v1.SetupLink, error) {
	return fetch[v1.SetupLink](ctx, c, "POST", path("setup-link"), nil)
}

// Users lists the users.
func (c *Client) Users(ctx context.Context) ([]v1.User, error) {
	return fetch[[]v1.User](ctx, c, "GET", path("users"), nil)
}

// User shows one.
func (c *Client) User(ctx context.Context, user string) (v1.User, error) {
	return fetch[v1.User](ctx, c, "GET", path("users", user), nil)
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, s v1.UserSpec) (v1.User, error) {
	return create[v1.User](ctx, c, path("users"), s)
}

// SetUser changes a user.
func (c *Client) SetUser(ctx context.Context, user string, s v1.UserChange) (v1.User, error) {
	return fetch[v1.User](ctx, c, "PATCH", path("users", user), s)
}

// SetPassword gives a user another password.
func (c *Client) SetPassword(ctx context.Context, user string, s v1.PasswordSpec) error {
	return c.call(ctx, "POST", path("users", user, "password"), s, nil)
}

// DeleteUser deletes a user.
func (c *Client) DeleteUser(ctx context.Context, user string) error {
	return c.call(ctx, "DELETE", path("users", user), nil, nil)
}

// Tokens lists tokens.
func (c *Client) Tokens(ctx context.Context) ([]v1.Token, error) {
	return fetch[[]v1.Token](ctx, c, "GET", path("tokens"), nil)
}

// CreateToken makes a token.
func (c *Client) CreateToken(ctx context.Context, s v1.TokenSpec) (v1.Token, error) {
	return fetch[v1.Token](ctx, c, "POST", path("tokens"), s)
}

// RevokeToken makes a token useless.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", path("tokens", id), nil, nil)
}

// Sessions lists sessions.
func (c *Client) Sessions(ctx context.Context) ([]v1.SessionInfo, error) {
	return fetch[[]v1.SessionInfo](ctx, c, "GET", path("sessions"), nil)
}

// RevokeSession ends a session.
func (c *Client) RevokeSession(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", path("sessions", id), nil, nil)
}

// Audit reads a page of who did what, from an entry on; below 0: the last ones.
func (c *Client) Audit(ctx context.Context, from int64, limit int) (v1.AuditPage, error) {
	return fetch[v1.AuditPage](ctx, c, "GET", query(path("audit"), "from", strconv.FormatInt(from, 10), "limit", strconv.Itoa(limit)), nil)
}

// Projects lists the projects.
func (c *Client) Projects(ctx context.Context) ([]v1.Project, error) {
	return fetch[[]v1.Project](ctx, c, "GET", path("projects"), nil)
}

// Project shows one.
func (c *Client) Project(ctx context.Context, project string) (v1.Project, error) {
	return fetch[v1.Project](ctx, c, "GET", path("projects", project), nil)
}

// CreateProject makes a project.
func (c *Client) CreateProject(ctx context.Context, s v1.ProjectSpec) (v1.Project, error) {
	return create[v1.Project](ctx, c, path("projects"), s)
}

// SetProject changes a project's quota.
func (c *Client) SetProject(ctx context.Context, project string, s v1.ProjectChange) (v1.Project, error) {
	return fetch[v1.Project](ctx, c, "PATCH", path("projects", project), s)
}

// DeleteProject deletes a project that has nothing.
func (c *Client) DeleteProject(ctx context.Context, project string) error {
	return c.call(ctx, "DELETE", path("projects", project), nil, nil)
}

// Assign gives a VM or a volume to a project.
func (c *Client) Assign(ctx context.Context, project string, s v1.ProjectAssign) error {
	return c.call(ctx, "POST", path("projects", project, "assign"), s, nil)
}

// As returns the client with a token or a session's secret in each request;
// both empty: the certificate alone says who calls.
func (c *Client) As(token, session string) *Client {
	c.header = http.Header{}
	switch {
	case token != "":
		c.header.Set("Authorization", "Bearer "+token)
	case session != "":
		c.header.Set("Cookie", (&http.Cookie{Name: sessionCookie, Value: session}).String())
		c.header.Set("X-Holdfast-Request", "1")
	}
	return c
}
