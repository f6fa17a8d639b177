package client

import (
	"context"
	"io"
	"net/http"
	"strconv"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// UpgradeAsk says how the hosts are to get another program: by a file that they are
// sent, from their disks, where it was put, or as what they ran before.
type UpgradeAsk struct {
	Way  string   // "file", "disk" or "previous"
	File v1.Build // that would be sent
	Back bool     // older versions are wanted
}

// UpgradePlan says which host would get it after which, and what speaks against that
// now.
func (c *Client) UpgradePlan(ctx context.Context, a UpgradeAsk) (v1.Upgrade, error) {
	back := ""
	if a.Back {
		back = strconv.FormatBool(a.Back)
	}
	return fetch[v1.Upgrade](ctx, c, http.MethodGet, query(path("upgrade"), "way", a.Way, "sha256", a.File.SHA256, "version", a.File.Version, "arch", a.File.Arch, "back", back), nil)
}

// Program says which programs a host has.
func (c *Client) Program(ctx context.Context, host string) (v1.Program, error) {
	return fetch[v1.Program](ctx, c, http.MethodGet, path("hosts", host, "program"), nil)
}

// NewProgram is a program that a host is sent.
type NewProgram struct {
	SHA256 string
	Size   int64 // bytes; -1: until it ends
	Back   bool  // it may be older than the one that runs
}

// SendProgram sends a host a program, which it keeps beside its own.
func (c *Client) SendProgram(ctx context.Context, host string, n NewProgram, r io.Reader) (v1.Program, error) {
	var out v1.Program
	back := ""
	if n.Back {
		back = strconv.FormatBool(n.Back)
	}
	in := &failing{r: r}
	req, err := c.request(ctx, http.MethodPut, query(path("hosts", host, "program"), "sha256", n.SHA256, "back", back), io.NopCloser(in))
	if err != nil {
		return out, err
	}
	req.ContentLength = n.Size
	err = c.send(req, &out)
	if cause := in.cause.Load(); err != nil && cause != nil {
		return out, *cause // what it failed of, not that it broke off
	}
	return out, err
}

// StartProgram has a host run one of the programs that it has. The host answers first
// and begins anew then.
func (c *Client) StartProgram(ctx context.Context, host string, s v1.ProgramStart) (v1.Program, error) {
	return fetch[v1.Program](ctx, c, http.MethodPost, path("hosts", host, "program", "start"), s)
}
