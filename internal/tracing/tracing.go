// Package tracing tells an OpenTelemetry collector, where one is configured, what a
// host does: each call of its API as a span, in one trace with the calls that other
// hosts are asked for it, and each fail-over as a trace made of its incident.
//
// It speaks OTLP over HTTP. Spans wait in a bounded queue and go out in the
// background; where the collector does not answer they are lost, and nothing else
// waits or fails. A nil *Tracer is one that tells nobody.
package tracing

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-cloud/holdfast"
)

const (
	sendTimeout  = 5 * time.Second // for one batch
	closeTimeout = 2 * time.Second // for what is left, when the host stops
	maxQueue     = 2048            // spans that wait
	complainGap  = time.Minute     // between two lines of the log about the collector
	maxHeaders   = 16
	maxHeader    = 4 << 10 // bytes of a line
)

// Config says whom to tell and what of.
type Config struct {
	Endpoint   string  // URL of the collector; /v1/traces is added where it has no path
	CA         string  // PEM file with authorities beside the system's; "": those alone
	HeaderFile string  // "Name: value" lines that go with every request; "": none
	Share      float64 // of calls that begin here, 0 to 1; those of a trace that others began follow it

	Host, HostID, Rack, Version string // of this host
	Log                         *slog.Logger
}

// Tracer tells one collector. Its methods may be called from any goroutine.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	carry    propagation.TextMapPropagator
}

// Open begins to tell. It does not wait for the collector. Kind Invalid or
// NotFound: what the configuration names cannot be used.
func Open(c Config) (*Tracer, error) {
	to := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(withPath(c.Endpoint)), otlptracehttp.WithTimeout(sendTimeout)}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.NotFound, "traces.ca: %w", err)
		}
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, holdfast.Errorf(holdfast.Invalid, "traces.ca %s: there is no certificate in it; it must be a PEM file", c.CA)
		}
	}
	if strings.HasPrefix(c.Endpoint, "https:") {
		to = append(to, otlptracehttp.WithTLSClientConfig(conf))
	}
	if c.HeaderFile != "" {
		headers, err := readHeaders(c.HeaderFile)
		if err != nil {
			return nil, err
		}
		to = append(to, otlptracehttp.WithHeaders(headers))
	}
	exporter, err := otlptracehttp.New(context.Background(), to...)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "traces.endpoint: %w", err)
	}
	otel.SetErrorHandler(&complainer{log: c.Log})
	about := resource.NewSchemaless(
		attribute.String("service.name", "holdfast"), attribute.String("service.version", c.Version),
		attribute.String("service.instance.id", c.HostID), attribute.String("host.name", c.Host), attribute.String("holdfast.rack", c.Rack))
	p := sdk.NewTracerProvider(sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(maxQueue)), sdk.WithResource(about),
		sdk.WithSampler(sampler{sdk.ParentBased(sdk.TraceIDRatioBased(c.Share))}), sdk.WithIDGenerator(identities{}))
	return &Tracer{provider: p, tracer: p.Tracer("github.com/holdfast-cloud/holdfast"), carry: propagation.TraceContext{}}, nil
}

func withPath(endpoint string) string {
	scheme, rest, _ := strings.Cut(endpoint, "://")
	if rest = strings.TrimSuffix(rest, "/"); !strings.Contains(rest, "/") {
		rest += "/v1/traces"
	}
	return scheme + "://" + rest
}

// readHeaders reads lines such as "Authorization: Bearer …"; empty ones and those
// that begin with # say nothing.
func readHeaders(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "traces.header_file: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm()&0o077 != 0 {
		return nil, holdfast.Errorf(holdfast.Denied, "traces.header_file %s: others may read it, and it may hold a secret; 'chmod 600' it", path)
	}
	headers := make(map[string]string)
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, maxHeader), maxHeader)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") || len(headers) == maxHeaders {
			return nil, holdfast.Errorf(holdfast.Invalid, "traces.header_file %s: line %d is not like 'Name: value', or there are more than %d", path, n, maxHeaders)
		}
		headers[name] = strings.TrimSpace(value)
	}
	if err := lines.Err(); err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "traces.header_file %s: %w", path, err)
	}
	return headers, nil
}

// Close sends what is left, for a moment, and ends.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what could not be sent is lost, and was said
}

// Call begins the span of a call of the API: in the trace that the request names,
// or in one of its own. The request that comes back carries it. end takes the
// operation that was called and the status that was answered; without an operation
// the span is not told of, as of a stream that may go on for days.
func (t *Tracer) Call(r *http.Request) (with *http.Request, end func(operation string, status int)) {
	if t == nil {
		return r, func(string, int) {}
	}
	ctx := t.carry.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", r.Method)))
	return r.WithContext(ctx), func(operation string, status int) {
		if operation == "" {
			return
		}
		span.SetName(operation)
		span.SetAttributes(attribute.String("holdfast.operation", operation), attribute.Int("http.response.status_code", status))
		fault(span, status)
		span.End()
	}
}

// Through has what is asked of other hosts by rt be spans of the trace that asks,
// which is told to them.
func (t *Tracer) Through(rt http.RoundTripper) http.RoundTripper {
	if t == nil {
		return rt
	}
	return asking{t, rt}
}

type asking struct {
	t  *Tracer
	rt http.RoundTripper
}

func (a asking) RoundTrip(r *http.Request) (*http.Response, error) {
	if !trace.SpanContextFromContext(r.Context()).IsValid() {
		return a.rt.RoundTrip(r) // nobody's call: the host's own watching
	}
	ctx, span := a.t.tracer.Start(r.Context(), "ask "+r.URL.Host, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Host)))
	defer span.End()
	r = r.Clone(ctx)
	a.t.carry.Inject(ctx, propagation.HeaderCarrier(r.Header))
	answer, err := a.rt.RoundTrip(r)
	if err != nil {
		span.RecordError(err)
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", answer.StatusCode))
	fault(span, answer.StatusCode)
	return answer, nil
}

// CloseIdleConnections has http.Client reach what carries the calls.
func (a asking) CloseIdleConnections() {
	if c, ok := a.rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// complainer logs what goes wrong with the collector, now and then.
type complainer struct {
	log *slog.Logger

	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (c *complainer) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.last) >= complainGap {
		c.last = now
		c.log.Warn("traces are lost: the collector cannot be told", "error", err)
	}
}
