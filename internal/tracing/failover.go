package tracing

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
)

// FailOver tells of an incident that is over: a trace from the loss to when
// everything ran and had its copies again, with each VM that was started anew, the
// time in which the brake held, and the rebuilding. The trace's identity follows from the
// incident's, so that whoever tells of it a second time, as after a change of the
// leader, tells the same.
func (t *Tracer) FailOver(inc cluster.Incident, hosts []string) {
	if t == nil || inc.Closed == nil {
		return
	}
	span := func(ctx context.Context, key, name string, from, to time.Time, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
		ctx, s := t.tracer.Start(context.WithValue(ctx, identityKey{}, inc.ID+"/"+key), name, trace.WithTimestamp(from), trace.WithAttributes(attrs...))
		s.End(trace.WithTimestamp(to))
		return ctx, s
	}
	ctx, root := t.tracer.Start(context.WithValue(context.Background(), identityKey{}, inc.ID), "fail-over", trace.WithTimestamp(inc.Opened),
		trace.WithAttributes(attribute.String("holdfast.incident", inc.ID), attribute.StringSlice("holdfast.racks", inc.Racks), attribute.StringSlice("holdfast.hosts", hosts)))
	for _, s := range inc.Steps {
		root.AddEvent(s.What, trace.WithTimestamp(s.At), trace.WithAttributes(attribute.String("text", s.Text)))
	}
	for _, p := range parts(inc) {
		span(ctx, p.key, p.name, p.from, p.to, p.attrs...)
	}
	root.End(trace.WithTimestamp(*inc.Closed))
}

// part is a part of a fail-over that took its time.
type part struct {
	key, name string
	from, to  time.Time
	attrs     []attribute.KeyValue
}

// parts finds what took time in an incident's timeline. What began and did not end
// lasts until the incident's end.
func parts(inc cluster.Incident) (all []part) {
	end := *inc.Closed
	open := map[string]*part{}
	begin := func(key string, p part) {
		if open[key] == nil {
			p.key, p.to = key, end
			open[key] = &p
		}
	}
	finish := func(key string, at time.Time) {
		if p := open[key]; p != nil {
			p.to = at
			all = append(all, *p)
			delete(open, key)
		}
	}
	var order []string // of those that are open, for the same result every time
	for _, s := range inc.Steps {
		switch s.What {
		case ha.Held:
			begin("held", part{name: "the brake holds", from: s.At})
			order = append(order, "held")
		case ha.Released:
			finish("held", s.At)
		case ha.Assigned:
			vm, rest, _ := strings.Cut(s.Text, " → ")
			host, _, _ := strings.Cut(rest, " (")
			key := "vm " + vm + " " + host
			begin(key, part{name: "start " + vm, from: s.At, attrs: []attribute.KeyValue{attribute.String("holdfast.vm", vm), attribute.String("holdfast.to", host)}})
			order = append(order, key)
		case ha.Running:
			vm, rest, _ := strings.Cut(s.Text, " on host ")
			host, _, _ := strings.Cut(rest, " (")
			finish("vm "+vm+" "+host, s.At)
		case ha.Rebuild:
			begin("rebuild", part{name: "rebuild copies", from: s.At})
			order = append(order, "rebuild")
		case ha.Mended:
			finish("rebuild", s.At)
		}
	}
	for _, key := range order {
		if open[key] != nil {
			finish(key, end)
		}
	}
	return all
}

// identityKey is of what a span's identity follows from, in the context that it is
// started with.
type identityKey struct{}

// sampler tells of every fail-over, and of calls as it is configured.
type sampler struct{ sdk.Sampler }

// ShouldSample implements trace.Sampler of the SDK.
func (s sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	if p.ParentContext.Value(identityKey{}) != nil {
		return sdk.AlwaysSample().ShouldSample(p)
	}
	return s.Sampler.ShouldSample(p)
}

// identities makes the identities of traces and spans: at random, or from what the
// context says.
type identities struct{}

// NewIDs implements trace.IDGenerator of the SDK.
func (identities) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	if from, ok := ctx.Value(identityKey{}).(string); ok {
		h := sha256.Sum256([]byte("holdfast incident " + from))
		copy(id[:], h[:])
		copy(span[:], h[len(id):])
		return id, span
	}
	for !id.IsValid() {
		put(id[:8], rand.Uint64())
		put(id[8:], rand.Uint64())
	}
	return id, identities{}.NewSpanID(ctx, id)
}

// NewSpanID implements trace.IDGenerator of the SDK.
func (identities) NewSpanID(ctx context.Context, _ trace.TraceID) (span trace.SpanID) {
	if from, ok := ctx.Value(identityKey{}).(string); ok {
		h := sha256.Sum256([]byte("holdfast span " + from))
		copy(span[:], h[:])
		return span
	}
	for !span.IsValid() {
		put(span[:], rand.Uint64())
	}
	return span
}

func put(b []byte, v uint64) {
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
}

// fault marks a span of a call that the host, and not its caller, is to blame for.
func fault(s trace.Span, status int) {
	if status >= http.StatusInternalServerError {
		s.SetStatus(codes.Error, http.StatusText(status))
	}
}
