package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// BackupAsk says what of a volume is backed up.
type BackupAsk struct {
	Task     string // its name as a task, lower-case letters and digits; "": one is found
	Snapshot string
	Base     string // only what Snapshot does not hold as this one does; "": all that it holds
	Offset   int64  // bytes of the volume: where to begin
}

// BackupVolume gives a snapshot of a volume as a backup, which is not sealed and
// says itself where it ends (docs/format/backup.md).
func (c *Client) BackupVolume(ctx context.Context, volume string, a BackupAsk) (io.ReadCloser, error) {
	return c.stream(ctx, query(path("volumes", volume, "backup"), "snapshot", a.Snapshot, "base", a.Base, "offset", strconv.FormatInt(a.Offset, 10), "task", a.Task))
}

// BackupCluster gives the records of the control plane likewise.
func (c *Client) BackupCluster(ctx context.Context) (io.ReadCloser, error) {
	return c.stream(ctx, path("cluster", "backup"))
}

func (c *Client) stream(ctx context.Context, p string) (io.ReadCloser, error) {
	req, err := c.request(ctx, http.MethodGet, p, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, refusal(resp, resp.Body)
	}
	return &downloaded{ReadCloser: resp.Body, ctx: ctx, where: c.where}, nil
}

// NewRestore is a volume to be made of backups.
type NewRestore struct {
	Task     string // its name as a task; "": one is found
	Name     string
	Size     int64 // bytes; 0: as the first backup says
	Copies   int   // 0: default
	Pool     string
	Encrypt  string // "true", "false"; "": as the volume was
	Compress string // "": as the volume was
}

// RestoreVolume makes a volume of a chain of backups, the oldest first, none of
// them sealed. An error of r ends it, and leaves no volume.
func (c *Client) RestoreVolume(ctx context.Context, n NewRestore, r io.Reader) (v1.Volume, error) {
	var out v1.Volume
	var copies, size string
	if n.Copies > 0 {
		copies = strconv.Itoa(n.Copies)
	}
	if n.Size > 0 {
		size = strconv.FormatInt(n.Size, 10)
	}
	in := &failing{r: r}
	req, err := c.request(ctx, "POST", query(path("restores"), "name", n.Name, "size", size, "copies", copies, "pool", n.Pool, "encrypt", n.Encrypt, "compress", n.Compress, "task", n.Task), io.NopCloser(in))
	if err != nil {
		return out, err
	}
	req.ContentLength = -1
	err = c.send(req, &out)
	if cause := in.cause.Load(); err != nil && cause != nil {
		return out, *cause // what it failed of, not that it broke off
	}
	return out, err
}

// failing remembers what a stream failed of.
type failing struct {
	r     io.Reader
	cause atomic.Pointer[error]
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		if holdfast.KindOf(err) == holdfast.Other {
			err = holdfast.Errorf(holdfast.IO, "the backup cannot be read: %w", err)
		}
		f.cause.Store(&err)
	}
	return n, err
}
