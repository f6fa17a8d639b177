package fleet

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/series"
)

// measured is what graphs show of a kind of thing: a unit, and the most of it.
func measured() map[string]map[string]struct {
	unit string
	most float64
} {
	type m = struct {
		unit string
		most float64
	}
	return map[string]map[string]m{
		"vm": {"cpu": {"processors", 2}, "memory": {"bytes", 4 << 30}, "disk_read": {"bytes/s", 20e6}, "disk_written": {"bytes/s", 8e6},
			"net_received": {"bytes/s", 5e6}, "net_sent": {"bytes/s", 9e6}},
		"volume": {"reads": {"requests/s", 900}, "writes": {"requests/s", 400}, "read_bytes": {"bytes/s", 20e6}, "written_bytes": {"bytes/s", 8e6},
			"read_latency": {"seconds", 1e-3}, "write_latency": {"seconds", 2e-3}, "flush_latency": {"seconds", 8e-3}},
		"host": {"cpu": {"ratio", 0.8}, "load": {"load", 12}, "memory_used": {"bytes", 180 << 30}, "memory_size": {"bytes", 0}, "disk_used": {"bytes", 2 << 40}, "disk_size": {"bytes", 0}},
	}
}

// History implements httpapi.Reader: days that go up and down, the same whenever
// they are asked for.
func (f *Fleet) History(_ context.Context, to *v1.History, id holdfast.UUID, w series.Window, _ bool) error {
	to.Metrics = []v1.Metric{}
	for name, m := range measured()[to.Kind] {
		points := make([]*float64, w.Points)
		phase := float64(id[0])/40 + float64(len(name))
		for i := range points {
			at := float64(w.Start+int64(i)*w.Step) / 3600 // hours
			v := m.most * (0.45 + 0.3*math.Sin(at*math.Pi/12+phase) + 0.12*math.Sin(at*5.3+2*phase) + 0.08*math.Sin(at*41+3*phase))
			if m.most == 0 {
				v = map[string]float64{"memory_size": 256 << 30, "disk_size": 4 << 40}[name]
			}
			v = float64(float32(v))
			points[i] = &v
		}
		to.Metrics = append(to.Metrics, v1.Metric{Name: name, Unit: m.unit, Points: points})
	}
	slices.SortFunc(to.Metrics, func(a, b v1.Metric) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
