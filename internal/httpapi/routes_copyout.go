package httpapi

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// CopyOut says what is to be laid out as a file.
type CopyOut struct {
	Snapshot holdfast.SnapshotID // zero: as the volume is now
	Raw      bool                // not QCOW2
}

// The formats of an export.
const (
	formatQCOW2 = "qcow2"
	formatRaw   = "raw"
)

// ExportFormat is part of the requests of exports.
type ExportFormat struct {
	Format string `query:"format" enum:"qcow2,raw" default:"qcow2" doc:"qcow2: only what is stored, in an order that needs no seeking; raw: all of it"`
}

func (s *Server) copyOutRoutes() {
	type ofImage struct {
		Image string `path:"image" maxLength:"63" doc:"Name or identity"`
		ExportFormat
	}
	type ofVolume struct {
		VolumeRef
		ExportFormat
		Snapshot string `query:"snapshot" maxLength:"63" doc:"A snapshot; none: as it is now, of which a snapshot is made until all is sent"`
	}
	copyOut(s, "/v1/images/{image}/export", "image-export", "An image as a file", func(ctx context.Context, in *ofImage) (cluster.Volume, CopyOut, error) {
		v, err := lookup(ctx, s, in.Image, picture.image)
		if err == nil && !v.Sealed {
			err = holdfast.Errorf(holdfast.Busy, "image %s is being imported; wait until 'holdfast image show %s' says that it is ok", v.Name, v.Name)
		}
		return v, CopyOut{Raw: in.Format == formatRaw}, err
	})
	copyOut(s, "/v1/volumes/{volume}/export", "volume-export", "A volume, or a snapshot of it, as a file", func(ctx context.Context, in *ofVolume) (cluster.Volume, CopyOut, error) {
		c := CopyOut{Raw: in.Format == formatRaw}
		v, err := lookup(ctx, s, in.Volume, picture.volume)
		if err == nil && in.Snapshot != "" {
			var snap cluster.Snapshot
			snap, err = snapshot(v, in.Snapshot)
			c.Snapshot = snap.ID
		}
		return v, c, err
	})
}

// copyOut registers an endpoint that answers with a file.
func copyOut[I any](s *Server, path, id, summary string, find func(ctx context.Context, in *I) (cluster.Volume, CopyOut, error)) {
	op := s.operation(http.MethodGet, path, id, summary, http.StatusOK)
	op.Responses["200"] = &huma.Response{Description: "The file", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		v, c, err := find(ctx, in)
		if err != nil {
			return nil, fail(err)
		}
		out, n, err := s.o.Backend.CopyOut(ctx, v.ID, c)
		if err != nil {
			return nil, fail(err)
		}
		return &huma.StreamResponse{Body: func(answer huma.Context) {
			defer out.Close()
			answer.SetHeader("Content-Type", "application/octet-stream")
			answer.SetHeader("Content-Length", strconv.FormatInt(n, 10))
			answer.SetStatus(http.StatusOK)
			// What breaks off is shorter than was announced, so the client knows.
			if _, err := io.Copy(answer.BodyWriter(), out); err != nil && ctx.Err() == nil {
				s.o.Log.Warn("an export broke off", "volume", v.Name, "error", err)
			}
		}}, nil
	})
}
