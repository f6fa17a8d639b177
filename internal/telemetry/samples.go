package telemetry

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-cloud/holdfast"
)

// Samples are what a host tells when it is asked once. They are filled by one
// goroutine.
type Samples struct {
	known map[string]*known
	out   []prometheus.Metric
	told  map[string]bool
	err   error
}

// known is a family as the library wants it.
type known struct {
	Family
	desc *prometheus.Desc
}

// Add adds a figure; labels are the values of the family's, in their order. What
// is in no table, or has other labels, makes the whole scrape fail. Of two with the
// same labels the first one counts: names may be given again while what had them
// is still being deleted.
func (s *Samples) Add(name string, value float64, labels ...string) {
	f := s.family(name, labels)
	if f == nil {
		return
	}
	kind := prometheus.GaugeValue
	if f.Kind == Counter {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(f.desc, kind, value, labels...)
	s.take(name, labels, m, err)
}

// Truth adds a figure that is 1 or 0.
func (s *Samples) Truth(name string, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	s.Add(name, v, labels...)
}

// Spread is how many took how long.
type Spread struct {
	Count uint64
	Sum   time.Duration
	UpTo  map[float64]uint64 // by a class's limit in seconds: so many took at most so long
}

// AddSpread adds a histogram, as Add does a figure.
func (s *Samples) AddSpread(name string, h Spread, labels ...string) {
	f := s.family(name, labels)
	if f == nil {
		return
	}
	m, err := prometheus.NewConstHistogram(f.desc, h.Count, h.Sum.Seconds(), h.UpTo, labels...)
	s.take(name, labels, m, err)
}

// family looks a family up that these are the labels of, unless there is nothing to
// be added any more.
func (s *Samples) family(name string, labels []string) *known {
	if s.err != nil {
		return nil
	}
	f := s.known[name]
	if f == nil || len(f.Labels) != len(labels) {
		s.err = holdfast.Errorf(holdfast.Other, "metrics: %s with %d labels is not in the table of package telemetry", name, len(labels))
		return nil
	}
	return f
}

// take adds what the library made of a figure, unless there is one of these labels.
func (s *Samples) take(name string, labels []string, m prometheus.Metric, err error) {
	key := name + "\x00" + strings.Join(labels, "\x00")
	if s.told[key] {
		return
	}
	s.told[key] = true
	if err != nil {
		s.err = holdfast.Errorf(holdfast.Other, "metrics: %s: %w", name, err)
		return
	}
	s.out = append(s.out, m)
}

// descriptions makes what the library wants of the table.
func descriptions() map[string]*known {
	all := Families()
	out := make(map[string]*known, len(all))
	for _, f := range all {
		out[f.Name] = &known{f, prometheus.NewDesc(f.Name, f.Help, slices.Clone(f.Labels), nil)}
	}
	return out
}
