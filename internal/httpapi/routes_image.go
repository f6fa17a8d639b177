package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/image"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

// importImage is the request of an image import: the body is the disk, raw or as
// a QCOW2 image that can be read front to back.
type importImage struct {
	Name     string `query:"name" required:"true" maxLength:"63" doc:"Name of the new image"`
	Size     int64  `query:"size" minimum:"0" doc:"Bytes of the body, if its length is not sent; an import that ends early is then refused"`
	Copies   int    `query:"copies" minimum:"0" maximum:"8"`
	Pool     string `query:"pool" maxLength:"63" doc:"Pool whose disks hold it; none: default"`
	Encrypt  bool   `query:"encrypt" doc:"Seal its blocks, and those of its clones, under keys of their own"`
	Compress string `query:"compress" enum:"off,fast,auto"`
	AsIs     bool   `query:"as_is" doc:"Keep the bytes as they are, whatever they look like: a compressed initrd, say"`
	length   int64
	body     io.Reader
	cut      func() // ends the waiting for more of it
}

// cutter returns what ends a read of a request's body that waits for its client.
func cutter(w http.ResponseWriter) func() {
	return func() {
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // where it cannot be set, the client's end ends it
	}
}

// Resolve keeps the body to be streamed; huma would read it into memory.
func (i *importImage) Resolve(ctx huma.Context) []error {
	r, w := humachi.Unwrap(ctx)
	i.body, i.length, i.cut = r.Body, r.ContentLength, cutter(w)
	return nil
}

func (s *Server) imageRoutes() {
	type ref struct {
		Image string `path:"image" maxLength:"63" doc:"Name or identity"`
	}
	list(s, listing[v1.Volume]{path: "/v1/images", id: "image-list", summary: "The images",
		key: volumeKey,
		all: func(_ context.Context, p picture) ([]v1.Volume, error) {
			return render(p.only(true), p.renderVolume), nil
		}})
	act(s, s.operation("GET", "/v1/images/{image}", "image-show", "One image, and how far its import is", 200),
		func(ctx context.Context, in *ref) (v1.Volume, error) {
			p, err := s.picture(ctx)
			if err != nil {
				return v1.Volume{}, err
			}
			v, err := p.image(in.Image)
			if err != nil {
				return v1.Volume{}, err
			}
			out := s.proved(ctx, p.renderVolume(v))
			if !v.Sealed {
				if a, err := s.o.Backend.Activity(ctx, v.ID); err == nil && a.ResyncDone > 0 { // 0: of a length that is not known
					out.Import = &a.ResyncDone
				}
			}
			return out, nil
		})
	do(s, s.operation("DELETE", "/v1/images/{image}", "image-delete", "Delete an image; its clones stay", 204),
		func(ctx context.Context, in *ref) error {
			v, err := lookup(ctx, s, in.Image, picture.image)
			if err != nil {
				return err
			}
			return s.changer(ctx).DeleteVolume(ctx, v.ID, false)
		})
	op := s.operation(http.MethodPost, "/v1/images", "image-import", "Import a disk image, streamed in the body: raw, or QCOW2 in the layout that an export has", 201)
	op.RequestBody = &huma.RequestBody{Required: true, Description: "The disk", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	act(s, op, s.importImage)
}

func (s *Server) importImage(ctx context.Context, in *importImage) (v1.Volume, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Volume{}, err
	}
	n, err := p.newImage(in.Name, in.Copies, in.Pool)
	if err != nil {
		return v1.Volume{}, err
	}
	n.AsIs, n.Encrypt, n.Compression = in.AsIs, in.Encrypt, in.Compress
	switch {
	case in.Size > 0 && in.length > 0 && in.Size != in.length:
		return v1.Volume{}, holdfast.Errorf(holdfast.Invalid, "image %s: the size given is %d bytes, the body has %d; send the whole image", in.Name, in.Size, in.length)
	case in.Size > 0:
		n.Size = in.Size
	case in.length >= 0:
		n.Size = in.length
	}
	var v cluster.Volume
	err = s.tracked(ctx, task.Task{Kind: "import", Subject: in.Name, Detail: "sent by the one who wants it"}, func(ctx context.Context, w *task.Work) error {
		v, err = s.importBody(ctx, w, n, in)
		return err
	})
	if err != nil {
		return v1.Volume{}, err
	}
	return s.volumeAnswer(ctx, v)
}

// importBody imports what a client sends, until ctx ends.
func (s *Server) importBody(ctx context.Context, w *task.Work, n NewImage, in *importImage) (v cluster.Volume, err error) {
	defer context.AfterFunc(ctx, in.cut)()
	total := n.Size
	m := &metered{Reader: uploaded{in.body}, ctx: ctx, tell: func(at int64) {
		if w != nil {
			w.At(part(at, total), at, max(total, 0))
		}
	}}
	body, err := openImage(&n, bufio.NewReaderSize(m, 1<<20))
	if err != nil {
		return v, err
	}
	if n.Size > holdfast.MaxVolumeBlocks*holdfast.BlockSize {
		return v, holdfast.Errorf(holdfast.Invalid, "image %s: %d bytes are more than a volume can hold (64TiB)", in.Name, n.Size)
	}
	return s.o.Backend.ImportImage(ctx, n, body)
}

// uploaded gives a body's early end its name: io.EOF must only mean that the
// sender ended it on purpose.
type uploaded struct{ r io.Reader }

func (u uploaded) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = holdfast.Errorf(holdfast.Invalid, "the image was cut short while it was sent: %w; send it again", err)
	}
	return n, err
}

// openImage gives the disk in a body. It refuses what is empty or, unless it
// shall be kept as it is, plainly not a disk, for a VM would only fail to boot
// from it later.
func openImage(n *NewImage, r *bufio.Reader) (io.Reader, error) {
	head, err := r.Peek(image.SniffLen)
	if len(head) == 0 {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, holdfast.Errorf(holdfast.Invalid, "image %s: it is empty; there is nothing to import", n.Name)
	}
	f := image.Sniff(head)
	switch {
	case f == image.Raw || n.AsIs:
		return r, nil
	case f != image.QCOW2:
		return nil, fmt.Errorf("image %s: %w", n.Name, image.NotRaw(f))
	}
	s, err := qcow2.NewStream(r)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", n.Name, err)
	}
	n.Size = s.Map().Size()
	return s, nil
}
