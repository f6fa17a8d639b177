package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/ui"
)

const (
	watchersMost = 256              // at once, of a host
	watchBeat    = 10 * time.Second // a comment at least so often shows that the line is alive
	watchWrite   = 10 * time.Second // for a watcher to take a batch
)

// watchRoute serves the watch stream: server-sent events (HTML, section 9.2), each
// with a v1.Event as its data and its kind as its type.
func (s *Server) watchRoute(r chi.Router) {
	op := s.operation(http.MethodGet, "/v1/watch", "watch", "Everything there is, and then each change as it comes: a stream of server-sent events; to whom a project is all there is, of that", http.StatusOK)
	event := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[v1.Event](), true, "Event")
	op.Responses["200"] = &huma.Response{Description: "Events, each an Event", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: event}}}
	op.Parameters = []*huma.Param{
		{Name: "after", In: "query", Description: "Where an earlier stream ended, at any host: 'at' of its last event that had one", Schema: &huma.Schema{Type: "string"}},
		{Name: "Last-Event-ID", In: "header", Description: "The same, as browsers send it", Schema: &huma.Schema{Type: "string"}},
	}
	s.api.OpenAPI().AddOperation(&op)
	r.Get("/v1/watch", s.watch)
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	after, err := afterOf(r)
	if err == nil {
		_, err = s.picture(r.Context())
	}
	var j *journal
	if err == nil {
		j, err = s.enter(projectOf(r.Context()))
	}
	if err != nil {
		writeProblem(w, err)
		return
	}
	defer s.leave(projectOf(r.Context()))
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // proxies would wait for more
	w.Header().Set("Vary", "Accept-Encoding")
	var p *packed
	if ui.Coding(r.Header.Get("Accept-Encoding"), "gzip") != "" {
		p = new(packed)
		w.Header().Set("Content-Encoding", "gzip")
	}
	s.tellAll(w, r.Context(), j, after, p)
}

func afterOf(r *http.Request) (kv.Rev, error) {
	for name := range r.URL.Query() {
		if name != "after" {
			return 0, holdfast.Errorf(holdfast.Invalid, "query.%s: there is no such parameter; 'after' is the only one", clip(name))
		}
	}
	text := r.URL.Query().Get("after")
	if text == "" {
		text = r.Header.Get("Last-Event-ID")
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, holdfast.Errorf(holdfast.Invalid, "query.after: %q is not where a stream ended; leave it out to be told everything", clip(text))
	}
	return kv.Rev(n), nil
}

// tellAll sends batch after batch until the watcher or the server goes; as p
// packs it, unless that is nil.
func (s *Server) tellAll(w http.ResponseWriter, ctx context.Context, j *journal, after kv.Rev, p *packed) {
	out := http.NewResponseController(w)
	send := func(b []byte) bool {
		_ = out.SetWriteDeadline(time.Now().Add(watchWrite)) // where it cannot be set, the connection's own holds
		if p != nil {
			b = p.pack(b)
		}
		_, err := w.Write(b)
		return err == nil && out.Flush() == nil
	}
	beat := time.NewTicker(watchBeat)
	defer beat.Stop()
	if p != nil {
		_, err := w.Write(p.head())
		defer func() { _, _ = w.Write(p.end()) }() // who reads on knows that nothing is missing; others are gone
		if err != nil {
			return
		}
	}
	if !send([]byte("retry: 1000\n\n")) {
		return
	}
	var turn uint64
	for {
		b, news := j.since(turn, after)
		if b.turn != turn {
			if !send(b.text(turn == 0)) {
				return
			}
			turn = b.turn
		}
		select {
		case <-news:
		case <-beat.C:
			if !send([]byte(":\n\n")) {
				return
			}
		case <-ctx.Done():
			return
		case <-s.base.Done():
			return
		}
	}
}

// text is the batch as events. Only the last one says where to go on: who has not
// had all of a batch gets it again.
func (b batch) text(first bool) []byte {
	var out bytes.Buffer
	if b.all {
		event(&out, "all", []byte(`{"kind":"all"}`), "")
	}
	all := b.told
	if first {
		all = append(all, &told{thing: thing{kind: "ready"}, line: []byte(`{"kind":"ready"}`)})
	}
	at := strconv.FormatInt(int64(b.rev), 10)
	for i, t := range all {
		if i == len(all)-1 {
			event(&out, t.kind, marked(t.line, at), at)
		} else {
			event(&out, t.kind, t.line, "")
		}
	}
	return out.Bytes()
}

// marked adds 'at' to an event.
func marked(line []byte, at string) []byte {
	return append(line[:len(line)-1:len(line)-1], `,"at":"`+at+`"}`...)
}

func event(out *bytes.Buffer, kind string, line []byte, id string) {
	if id != "" {
		fmt.Fprintf(out, "id: %s\n", id)
	}
	fmt.Fprintf(out, "event: %s\ndata: %s\n\n", kind, line)
}
