package client

import (
	"context"
	"io"
	"net/http"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// Diagnose asks the hosts' processes what they are doing; local: only the host that
// is called.
func (c *Client) Diagnose(ctx context.Context, local bool) (v1.Diagnoses, error) {
	return fetch[v1.Diagnoses](ctx, c, "GET", path("debug")+here(local), nil)
}

// metricsMost bounds what Metrics returns, in bytes.
const metricsMost = 16 << 20

// Metrics returns what the host that is called measures, in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	req, err := c.request(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, resp.Body)
	}
	return io.ReadAll(io.LimitReader(resp.Body, metricsMost))
}
