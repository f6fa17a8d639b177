package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapesAtOnce bounds what scrapers can have a host do at a time.
const scrapesAtOnce = 2

// Registry is what a host has to tell. Its methods may be called from any
// goroutine.
type Registry struct {
	reg   *prometheus.Registry
	calls *calls
}

// New makes a registry; gather fills the samples whenever somebody asks, from any
// goroutine, several at once. Its error fails that scrape.
func New(gather func(*Samples) error) *Registry {
	r := &Registry{reg: prometheus.NewRegistry(), calls: newCalls()}
	r.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		r.calls.count, r.calls.took, &collector{known: descriptions(), gather: gather})
	return r
}

// Handler answers scrapes in the text format that is asked for: Prometheus' 0.0.4
// or OpenMetrics 1.0.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce, Timeout: 10 * time.Second})
}

// collector gives the library what gather finds.
type collector struct {
	known  map[string]*known
	gather func(*Samples) error
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.known {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := &Samples{known: c.known, told: map[string]bool{}}
	err := c.gather(s)
	if err == nil {
		err = s.err
	}
	if err != nil {
		out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	for _, m := range s.out {
		out <- m
	}
}

// calls counts the calls of the API.
type calls struct {
	count *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

// CallFamilies are what is told of the calls of the API.
func CallFamilies() []Family {
	return []Family{
		{"holdfast_api_requests_total", Counter, []string{"operation", "code"}, "Calls of the API of this host, by operation (openapi.json) and HTTP status; operation other: there is none such."},
		{"holdfast_api_request_seconds", Histogram, []string{"operation"}, "How long they took, consoles and streams with all that they carried."},
	}
}

func newCalls() *calls {
	f := CallFamilies()
	return &calls{
		count: prometheus.NewCounterVec(prometheus.CounterOpts{Name: f[0].Name, Help: f[0].Help}, f[0].Labels),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f[1].Name, Help: f[1].Help,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, f[1].Labels),
	}
}

// Call counts a call of the API.
func (r *Registry) Call(operation string, code string, took time.Duration) {
	r.calls.count.WithLabelValues(operation, code).Inc()
	r.calls.took.WithLabelValues(operation).Observe(took.Seconds())
}
