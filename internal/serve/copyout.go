package serve

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// CopyOut implements httpapi.Volumes.
func (h *Host) CopyOut(ctx context.Context, id holdfast.VolumeID, c httpapi.CopyOut) (out io.ReadCloser, n int64, err error) {
	m, err := h.member()
	if err != nil {
		return nil, 0, err
	}
	err = h.onWriter(m, id, func() error {
		out, n, err = h.copyOut(ctx, m, id, c)
		return err
	}, func(peer *client.Client) error {
		ask := client.CopyOut{Raw: c.Raw}
		if !c.Snapshot.IsZero() {
			ask.Snapshot = c.Snapshot.String()
		}
		if m.node.Cluster.State().Volumes[id].Val.Image {
			out, n, err = peer.ExportImage(ctx, id.String(), ask)
		} else {
			out, n, err = peer.ExportVolume(ctx, id.String(), ask)
		}
		return err
	})
	return out, n, err
}

// copyOut lays a volume out that is written here. Of one that may change a
// snapshot is made, and deleted at the end.
func (h *Host) copyOut(ctx context.Context, m *member, id holdfast.VolumeID, c httpapi.CopyOut) (io.ReadCloser, int64, error) {
	v, err := m.node.Volumes.Open(id)
	if err != nil {
		return nil, 0, err
	}
	disk, err := v.Session(true) // so that it stays open here
	if err != nil {
		return nil, 0, err
	}
	o := &copyingOut{ctx: ctx, v: v, root: c.Snapshot, disk: disk, ended: func() {}}
	if rec := v.Record(); c.Snapshot.IsZero() && !(rec.Image && rec.Sealed) {
		snap, err := m.node.Make.Snapshot(id, exportName(time.Now()))
		if err != nil {
			disk.Close()
			return nil, 0, err
		}
		o.root = snap.ID
		o.ended = func() {
			if err := m.node.Make.DeleteSnapshot(id, snap.ID); err != nil {
				h.log.Warn("the snapshot of an export could not be deleted; delete it with 'holdfast volume unsnapshot'", "volume", rec.Name, "snapshot", snap.Name, "error", err)
			}
		}
	}
	n, err := o.begin(c.Raw)
	if err != nil {
		o.Close()
		return nil, 0, err
	}
	return o, n, nil
}

// exportName is that of a snapshot that is made for an export.
func exportName(now time.Time) string {
	now = now.UTC()
	return fmt.Sprintf("export-%s-%06d", now.Format("20060102-150405"), now.Nanosecond()/1000)
}

// copyingOut is a volume on its way out, as a file.
type copyingOut struct {
	ctx     context.Context
	v       *volume.Volume
	root    holdfast.SnapshotID // zero: the head, which does not change
	size    int64               // of the disk, bytes
	disk    export.Disk
	m       *qcow2.Map
	raw     bool
	file    io.Reader // for Read; made when it is asked for
	pipe    *io.PipeReader
	written chan struct{} // closed when nothing is read of the volume any more
	ended   func()
}

// begin finds out what the volume holds.
func (o *copyingOut) begin(raw bool) (length int64, err error) {
	if o.m, err = o.holds(); err != nil {
		return 0, err
	}
	if o.raw = raw; raw {
		return o.m.Size(), nil
	}
	return o.m.FileSize(), nil
}

// WriteTo implements io.WriterTo, for io.Copy: without a pipe between what reads
// the volume and what sends.
func (o *copyingOut) WriteTo(w io.Writer) (int64, error) {
	c := &counted{w: w}
	if o.raw || o.file != nil {
		_, err := io.Copy(c, struct{ io.Reader }{o})
		return c.n, err
	}
	err := o.m.Write(c, o)
	return c.n, err
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Read implements io.Reader.
func (o *copyingOut) Read(b []byte) (int, error) {
	if o.file == nil {
		if err := o.layOut(); err != nil {
			return 0, err
		}
	}
	return o.file.Read(b)
}

// layOut begins to write the file into a pipe.
func (o *copyingOut) layOut() error {
	r, w := io.Pipe()
	o.pipe, o.written = r, make(chan struct{})
	go func() {
		defer close(o.written)
		w.CloseWithError(o.m.Write(w, o))
	}()
	if !o.raw {
		o.file = r
		return nil
	}
	s, err := qcow2.NewStream(r) // the same with its holes filled
	if err != nil {
		return err
	}
	o.file = s
	return nil
}

// holds makes the map of what is stored.
func (o *copyingOut) holds() (m *qcow2.Map, err error) {
	for at := uint64(0); ; {
		if err := o.ctx.Err(); err != nil {
			return nil, err
		}
		d, err := o.v.Diff(replica.RootRef{Nothing: true}, replica.RootRef{Snapshot: o.root}, at, replica.MaxExtents)
		if err != nil {
			return nil, err
		}
		if m == nil {
			o.size = int64(d.Size) * holdfast.BlockSize
			if m, err = qcow2.NewMap(o.size); err != nil {
				return nil, err
			}
		}
		for _, e := range d.Extents {
			if !e.Hole {
				m.Add(int64(e.Addr)*holdfast.BlockSize, int64(e.Blocks)*holdfast.BlockSize)
			}
		}
		if d.Next >= d.Size {
			return m, nil
		}
		at = d.Next
	}
}

// ReadAt implements io.ReaderAt for whole blocks within the disk; less at its
// end.
func (o *copyingOut) ReadAt(p []byte, off int64) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	n := min(int64(len(p)), o.size-off)
	if n <= 0 {
		return 0, io.EOF
	}
	if o.root.IsZero() {
		err := do(o.disk, export.Request{Op: export.Read, Off: off, Length: n, Data: p[:n]})
		if err != nil {
			return 0, err
		}
	} else if err := o.v.ReadSnapshot(o.root, p[:n], uint64(off)/holdfast.BlockSize); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// Close ends it.
func (o *copyingOut) Close() error {
	if o.pipe != nil {
		o.pipe.Close()
		<-o.written
	}
	o.disk.Close()
	o.ended()
	return nil
}
