package client

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/holdfast-cloud/holdfast"
)

// CopyOut says how a volume or an image is exported.
type CopyOut struct {
	Snapshot string // of a volume; "": as it is now
	Raw      bool   // not QCOW2, which holds only what is stored and can be read front to back
}

// ExportVolume gives a volume as a file, and the file's length. What breaks off
// fails with kind Unavailable.
func (c *Client) ExportVolume(ctx context.Context, volume string, o CopyOut) (io.ReadCloser, int64, error) {
	return c.download(ctx, query(path("volumes", volume, "export"), "format", o.format(), "snapshot", o.Snapshot))
}

// ExportImage is ExportVolume of an image.
func (c *Client) ExportImage(ctx context.Context, image string, o CopyOut) (io.ReadCloser, int64, error) {
	return c.download(ctx, query(path("images", image, "export"), "format", o.format()))
}

func (o CopyOut) format() string {
	if o.Raw {
		return "raw"
	}
	return "qcow2"
}

// download begins to receive a file of a known length.
func (c *Client) download(ctx context.Context, p string) (io.ReadCloser, int64, error) {
	req, err := c.request(ctx, http.MethodGet, p, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, 0, refusal(resp, resp.Body)
	}
	if resp.ContentLength < 0 {
		resp.Body.Close()
		return nil, 0, holdfast.Errorf(holdfast.Other, "the host at %s does not say how long its answer is", c.where)
	}
	return &downloaded{ReadCloser: resp.Body, ctx: ctx, where: c.where}, resp.ContentLength, nil
}

// downloaded gives what breaks off its name.
type downloaded struct {
	io.ReadCloser
	ctx   context.Context
	where string
}

func (d *downloaded) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	switch {
	case err == nil || err == io.EOF:
	case d.ctx.Err() != nil:
		err = d.ctx.Err()
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = holdfast.Errorf(holdfast.Unavailable, "the host at %s broke off; its log says why: try again", d.where)
	default:
		err = holdfast.Errorf(holdfast.Unavailable, "the answer of the host at %s broke off: %w", d.where, err)
	}
	return n, err
}
