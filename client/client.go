// Package client calls the REST API of a Holdfast host (api/v1), over its unix
// socket or over HTTPS with a client certificate. Errors that the host answers
// are of the same holdfast kind and text as on the host; a host that cannot be
// reached is kind Unavailable. A Client may be used from any goroutine.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

const (
	maxAnswer   = 64 << 20 // bytes of an answer that is believed
	dialTimeout = 5 * time.Second
)

// Client calls one host.
type Client struct {
	http  *http.Client
	dial  func(ctx context.Context) (net.Conn, error)
	base  string // "http://holdfast" or "https://host:port"
	where string // for messages

	header http.Header // of every request: who calls, where no certificate says it
}

// Socket returns a client of the host whose API socket is at path.
func Socket(path string) *Client {
	d := net.Dialer{Timeout: dialTimeout}
	return build("http://holdfast", "socket "+path, nil, func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "unix", path)
	})
}

// HTTPS returns a client of the host at addr (host:port). conf comes from
// TLSConfig.
func HTTPS(addr string, conf *tls.Config) *Client {
	d := net.Dialer{Timeout: dialTimeout}
	return build("https://"+addr, addr, conf, func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	})
}

func build(base, where string, conf *tls.Config, dial func(context.Context) (net.Conn, error)) *Client {
	c := &Client{base: base, where: where}
	c.dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil || conf == nil {
			return conn, err
		}
		t := tls.Client(conn, conf)
		hs, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if err := t.HandshakeContext(hs); err != nil {
			conn.Close()
			return nil, err
		}
		return t, nil
	}
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := c.dial(ctx)
		if err != nil {
			err = notSent{err}
		}
		return conn, err
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: connect, DialTLSContext: connect,
		MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}}
	return c
}

// Through has all calls but consoles go through what wrap makes of what carries them,
// for example to trace them. It is called before the first call.
func (c *Client) Through(wrap func(http.RoundTripper) http.RoundTripper) {
	c.http.Transport = wrap(c.http.Transport)
}

// Where names the host that is called, for messages.
func (c *Client) Where() string { return c.where }

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call does one request. in and out may be nil; in may be an io.Reader, which
// is sent as it is.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	req, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	return c.send(req, out)
}

type dryKey struct{}

// DryRun has calls with the context tried only: they are checked and answered as they
// would be, and nothing is changed. Kind Invalid: the host cannot try that call.
func DryRun(ctx context.Context) context.Context { return context.WithValue(ctx, dryKey{}, true) }

func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	if method != http.MethodGet && ctx.Value(dryKey{}) != nil {
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		path += join + "dryRun=true"
	}
	var body io.Reader
	kind := "application/octet-stream"
	switch v := in.(type) {
	case nil:
	case io.Reader:
		body = v
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "request: %w", err)
		}
		body, kind = bytes.NewReader(b), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "request: %w", err)
	}
	for name, v := range c.header {
		req.Header[name] = v
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	if tag, ok := ctx.Value(matchKey{}).(string); ok && method != http.MethodGet {
		req.Header.Set("If-Match", tag)
	}
	return req, nil
}

func (c *Client) send(req *http.Request, out any) error {
	_, err := c.sendFor(req, out)
	return err
}

// sendFor is send, for the cookies that come with the answer.
func (c *Client) sendFor(req *http.Request, out any) ([]*http.Cookie, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		why := c.unreachable(req.Context(), err)
		switch {
		case req.Context().Err() != nil:
			return nil, why
		case errors.As(err, &notSent{}):
			return nil, notSent{why}
		}
		return nil, lost{why}
	}
	defer resp.Body.Close()
	if tag, ok := req.Context().Value(tagKey{}).(*string); ok && req.Method == http.MethodGet {
		*tag = resp.Header.Get("ETag")
	}
	body := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode >= 300 {
		return nil, refusal(resp, body)
	}
	if out == nil {
		_, _ = io.Copy(io.Discard, body)
		return nil, nil
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return nil, lost{holdfast.Errorf(holdfast.Unavailable, "the answer of %s broke off: %w", c.where, err)}
	}
	return resp.Cookies(), nil
}

// unreachable explains why no answer came.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var known *holdfast.Error
	if errors.As(err, &known) {
		return known
	}
	return holdfast.Errorf(holdfast.Unavailable, "cannot reach the host at %s: %w; is 'holdfast serve' running there?", c.where, err)
}

// refusal reads the problem that a host answered.
func refusal(resp *http.Response, body io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(body, 1<<20))
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p v1.Problem
	if err == nil && kind == "application/problem+json" && json.Unmarshal(b, &p) == nil && p.Type != "" {
		err = p.Err()
		switch {
		case holdfast.IsKind(err, holdfast.Busy) && resp.Header.Get("Retry-After") != "":
			return underWay{err}
		case len(p.Errors) > 0 && p.Errors[0].Where == "header."+keyHeader:
			return keyless{err}
		case p.Status == http.StatusPreconditionFailed:
			return changed{err}
		}
		return err
	}
	return holdfast.Errorf(holdfast.Other, "the host answered %s, which is not an answer of Holdfast: %.200q", resp.Status, b)
}

// path joins segments, each escaped.
func path(segments ...string) string {
	out := "/v1"
	for _, s := range segments {
		out += "/" + url.PathEscape(s)
	}
	return out
}

func fetch[T any](ctx context.Context, c *Client, method, p string, in any) (T, error) {
	var out T
	err := c.call(ctx, method, p, in, &out)
	return out, err
}

func query(p string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return p
	}
	return fmt.Sprintf("%s?%s", p, q.Encode())
}
