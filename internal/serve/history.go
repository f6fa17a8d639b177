package serve

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/series"
)

// historyWait bounds how long a host may take to tell what it has measured.
const historyWait = 2 * time.Second

// History implements httpapi.Reader.
func (h *Host) History(ctx context.Context, to *v1.History, id holdfast.UUID, w series.Window, local bool) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	units := metrics()[to.Kind]
	all := map[string][]*float64{}
	for name, points := range h.figures.store.Read(id, w) {
		all[name] = shown(points)
	}
	if !local {
		ctx, cancel := context.WithTimeout(ctx, historyWait)
		defer cancel()
		var mu sync.Mutex
		ask := client.Span{Range: time.Duration(w.Points) * time.Duration(w.Step) * time.Second, Step: time.Duration(w.Step) * time.Second,
			End: to.Start.Add(time.Duration(w.Points)*time.Duration(w.Step)*time.Second - time.Second), Local: true}
		to.Silent = m.everyOther(m.node.Cluster.State(), h.dir.id.Host, func(other cluster.Host, c *client.Client) error {
			if to.Kind == "host" && other.ID.UUID != id {
				return nil // each tells of itself
			}
			x, err := c.History(ctx, to.Kind, to.ID, ask)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && x.Start.Equal(to.Start) && x.Step == to.Step {
				for _, metric := range x.Metrics {
					all[metric.Name] = merged(all[metric.Name], metric.Points)
				}
			}
			return err
		})
	}
	to.Metrics = []v1.Metric{}
	for name, points := range all {
		if unit, ok := units[name]; ok {
			to.Metrics = append(to.Metrics, v1.Metric{Name: name, Unit: unit, Points: points})
		}
	}
	slices.SortFunc(to.Metrics, func(a, b v1.Metric) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// shown makes points of what was measured, in four digits: nobody sees more.
func shown(points []float32) []*float64 {
	out := make([]*float64, len(points))
	for i, p := range points {
		if v := float64(p); !math.IsNaN(v) {
			if v, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64); err == nil {
				out[i] = &v
			}
		}
	}
	return out
}

// merged fills what one host has not measured with what another one has: what they
// tell of was at one of them at a time.
func merged(a, b []*float64) []*float64 {
	if a == nil {
		return b
	}
	for i := range min(len(a), len(b)) {
		if a[i] == nil {
			a[i] = b[i]
		}
	}
	return a
}
