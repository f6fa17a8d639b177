package serve

import (
	"context"
	"fmt"
	"io"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/image"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// ImportImage implements httpapi.Images.
func (h *Host) ImportImage(ctx context.Context, n httpapi.NewImage, r io.Reader) (cluster.Volume, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Volume{}, err
	}
	if h.cfg.Witness {
		return h.importElsewhere(ctx, m, n, r)
	}
	rec, err := m.node.Make.CreateVolume(provision.VolumeSpec{Name: n.Name, Blocks: imageBlocks(m, n), Copies: n.Copies, Pool: n.Pool, Image: true, Encrypt: n.Encrypt, Compression: n.Compression})
	if err != nil {
		return rec, err
	}
	defer h.imports.Delete(rec.ID)
	blocks, err := h.fillImage(m, rec, n, r)
	if err == nil {
		rec, err = m.node.Make.Seal(rec.ID, blocks)
	}
	if err != nil {
		if derr := m.node.Make.DeleteVolume(rec.ID, false); derr != nil {
			h.log.Warn("a half-made image could not be deleted", "volume", rec.Name, "error", derr)
		}
		return rec, err
	}
	return rec, nil
}

// importing is how far an import by this host is; ok is false if there is none.
func (h *Host) importing(id holdfast.VolumeID) (a v1.Activity, ok bool) {
	v, ok := h.imports.Load(id)
	if !ok {
		return a, false
	}
	p := v.(image.Progress)
	a = v1.Activity{Host: h.cfg.Name, WrittenBytes: p.Done, Resync: fmt.Sprintf("imported: %d bytes, %d bytes a second", p.Done, p.Rate)}
	if p.Total > 0 {
		a.ResyncDone = float64(p.Done) / float64(p.Total)
		a.Resync = fmt.Sprintf("imported: %d of %d bytes, %d bytes a second", p.Done, p.Total, p.Rate)
	}
	return a, true
}

// imageBlocks is the size of the image in blocks; where only the stream's end
// decides, the most that could be stored: the image gets its true size when it
// is sealed.
func imageBlocks(m *member, n httpapi.NewImage) uint64 {
	if n.Size >= 0 {
		return (uint64(n.Size) + holdfast.BlockSize - 1) / holdfast.BlockSize
	}
	var most int64
	for _, a := range m.node.Cluster.State().SortedAlive() {
		for _, d := range a.Val.Disks {
			most = max(most, d.Free/2)
		}
	}
	return uint64(most) / holdfast.BlockSize
}

// fillImage writes the stream to the volume and returns its size in blocks.
func (h *Host) fillImage(m *member, rec cluster.Volume, n httpapi.NewImage, r io.Reader) (uint64, error) {
	v, err := m.node.Volumes.Open(rec.ID)
	if err != nil {
		return 0, err
	}
	defer v.Close()
	disk, err := v.Session(false)
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	res, err := image.Import(r, sink{disk}, image.Options{Size: n.Size, Max: disk.Size(), AsIs: n.AsIs, Clock: clock.System{},
		Progress: func(p image.Progress) { h.imports.Store(rec.ID, p) }})
	return uint64(res.Size) / holdfast.BlockSize, err
}

// sink lets an import write to a session.
type sink struct{ d export.Disk }

// Reserve implements image.Sink; the volume has its size already.
func (s sink) Reserve(int64) error { return nil }

// WriteAt implements image.Sink.
func (s sink) WriteAt(p []byte, off int64) (int, error) {
	if err := do(s.d, export.Request{Op: export.Write, Off: off, Length: int64(len(p)), Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush implements image.Sink.
func (s sink) Flush() error { return do(s.d, export.Request{Op: export.Flush}) }
