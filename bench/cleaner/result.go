package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-cloud/holdfast/bench/alone"
)

// amplification is bytes written to the disk per byte of the guest.
type amplification struct {
	Total   float64 `json:"total"`
	Data    float64 `json:"data"` // all but pages of block maps
	Map     float64 `json:"map"`  // pages of block maps
	Log     float64 `json:"log"`  // parts of Data
	Cleaned float64 `json:"cleaned"`
	Catalog float64 `json:"catalog"`
	Zeroed  float64 `json:"zeroed"`
}

// result is what was measured.
type result struct {
	Settings settings       `json:"settings"`
	Segments int            `json:"segments"`
	Guest    int64          `json:"guestBytes"`
	Amp      amplification  `json:"amplification"`
	MiBps    []float64      `json:"mibPerSecond"` // of every second
	Windows  []float64      `json:"windows"`      // of every 10 seconds that begin with a second
	Median   float64        `json:"median"`       // of the windows
	Least    float64        `json:"least"`
	Idle     *alone.Latency `json:"idle,omitempty"`     // write+flush before anything has to be cleaned
	Cleaning *alone.Latency `json:"cleaning,omitempty"` // beside overwrites at a quarter of the rate
}

const windowSeconds = 10

// windows computes the rate of every 10 seconds (or of all, if that is less).
func (r *result) windows() {
	n := min(windowSeconds, len(r.MiBps))
	sum := 0.0
	for i, x := range r.MiBps {
		sum += x
		if i >= n {
			sum -= r.MiBps[i-n]
		}
		if i >= n-1 {
			r.Windows = append(r.Windows, sum/float64(n))
		}
	}
	if len(r.Windows) == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(r.Windows))
	r.Median, r.Least = sorted[len(sorted)/2], sorted[0]
}

func (r *result) print(w io.Writer) {
	s := r.Settings
	fmt.Fprintf(w, "disk of %d MiB in %d segments, %.0f %% of the usable space filled, %.0f s\n", s.Size>>20, r.Segments, s.Fill, s.Seconds)
	a := r.Amp
	fmt.Fprintf(w, "written per byte of the guest: %.2f without the map (log %.2f, cleaner %.2f, catalog %.3f, zeros %.3f); map %.2f; total %.2f\n", a.Data, a.Log, a.Cleaned, a.Catalog, a.Zeroed, a.Map, a.Total)
	if r.Median > 0 {
		fmt.Fprintf(w, "%d s windows: median %.1f MiB/s, least %.1f (%.2f of the median)\n", windowSeconds, r.Median, r.Least, r.Least/r.Median)
	}
	if i, c := r.Idle, r.Cleaning; i != nil && c != nil {
		fmt.Fprintf(w, "write+flush: idle %.2f ms, p99 %.2f, max %.2f (%d pairs); while cleaning %.2f ms, p99 %.2f (%.1f x), max %.2f (%d pairs)\n",
			i.Median, i.P99, i.Max, i.Count, c.Median, c.P99, c.P99/i.P99, c.Max, c.Count)
	}
}
