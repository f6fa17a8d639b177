package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/image/fetch"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

const (
	maxFetches = 4       // at once, of a host
	fetchSpare = 2 << 30 // bytes of the data directory that stay free while an image is kept there
)

// accepted is a task that goes on after the answer.
type accepted struct {
	Location string `header:"Location" doc:"The task"`
	Body     v1.Task
}

func (s *Server) fetchRoutes() {
	huma.Register(s.api, s.operation(http.MethodPost, "/v1/image-imports", "image-fetch", "Have the answering host get an image by URL and import it: raw, or QCOW2", http.StatusAccepted),
		func(ctx context.Context, in *request[v1.ImageFetch]) (*accepted, error) {
			t, err := s.fetchImage(ctx, in.Body)
			if err != nil {
				return nil, fail(err)
			}
			noteOf(ctx).object = in.Body.Name
			return &accepted{"/v1/tasks/" + t.ID, t}, nil
		})
}

func (s *Server) fetchImage(ctx context.Context, in v1.ImageFetch) (out v1.Task, err error) {
	p, err := s.picture(ctx)
	if err != nil {
		return out, err
	}
	r := fetch.Request{URL: in.URL, Max: in.MaxSize}
	u, err := s.o.Fetch.ParseURL(in.URL)
	if err != nil {
		return out, holdfast.Errorf(holdfast.KindOf(err), "url: %w", err)
	}
	if in.SHA256 != "" {
		if r.Sum, err = fetch.ParseSum(in.SHA256); err != nil {
			return out, holdfast.Errorf(holdfast.Invalid, "sha256: %w", err)
		}
	}
	n, err := p.newImage(in.Name, in.Copies, in.Pool)
	if err != nil {
		return out, err
	}
	n.AsIs, n.Encrypt, n.Compression = in.AsIs, in.Encrypt, in.Compress
	if _, err := p.volumeOrImage(in.Name); err == nil {
		return out, holdfast.Errorf(holdfast.Exists, "there is a volume or an image %s already", in.Name)
	}
	store, err := s.tasks()
	if err != nil {
		return out, err
	}
	select {
	case s.fetches <- struct{}{}:
	default:
		return out, holdfast.Errorf(holdfast.Busy, "this host gets %d images already; wait for one, or ask another host", maxFetches)
	}
	u.RawQuery, u.Fragment = "", "" // it may hold a secret
	within, w, err := store.Begin(s.base, task.Task{Kind: "import", Subject: in.Name, Detail: "from " + u.String(), Who: principal(ctx).String()})
	if err != nil {
		<-s.fetches
		return out, err
	}
	begun := s.begin(func() {
		defer func() { <-s.fetches }()
		_ = w.End(s.fetchInto(within, w, r, n)) // it is told as the task's
	})
	if !begun {
		<-s.fetches
		return out, w.End(context.Canceled)
	}
	return p.renderTask(w.Task()), nil
}

// fetchInto gets an image and imports it.
func (s *Server) fetchInto(ctx context.Context, w *task.Work, r fetch.Request, n NewImage) error {
	whole := 2.0 // how much more there is to do than to get the file: a QCOW2 image is kept first
	r.Say = w.Say
	r.At = func(at, size int64) { w.At(part(at, size)/whole, at, max(size, 0)) }
	b, err := fetch.Open(ctx, s.o.Fetch, r)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.Size() >= 0 {
		w.Say(fmt.Sprintf("the server has a file of %d bytes", b.Size()))
	} else {
		w.Say("the server does not say how large the file is")
	}
	d, err := fetch.OpenDisk(b, s.o.Backend.Self().DataDir, fetchSpare, n.AsIs)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, note := range d.Notes {
		w.Say(note)
	}
	m := &metered{Reader: d, ctx: ctx, tell: func(int64) {}}
	if n.Size = d.Size; d.Kept {
		w.Say("the QCOW2 image is here, and is imported now")
		m.tell = func(at int64) { w.At(0.5+part(at, d.Size)/2, at, d.Size) }
	} else {
		whole = 1
	}
	body, err := openImage(&n, bufio.NewReaderSize(m, 1<<20))
	if err != nil {
		return err
	}
	v, err := s.o.Backend.ImportImage(ctx, n, body)
	switch {
	case err != nil && b.Err() != nil: // what the file is, not where in the image that was found out
		return b.Err()
	case err != nil:
		return err
	}
	w.Say(fmt.Sprintf("image %s is there: %d bytes", v.Name, int64(v.Blocks)*holdfast.BlockSize))
	return nil
}

// newImage checks what every import is asked with.
func (p picture) newImage(name string, copies int, pool string) (NewImage, error) {
	if err := holdfast.CheckName("image", name); err != nil {
		return NewImage{}, err
	}
	if err := checkCopies("image "+name, copies, 0); err != nil {
		return NewImage{}, err
	}
	in, err := p.pool(pool)
	return NewImage{Name: name, Size: -1, Copies: copies, Pool: in.ID}, err
}

// begin runs something that outlives its request and ends with the server, unless
// that has ended.
func (s *Server) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.serving.Go(f)
	return true
}
