package drill

import (
	"fmt"
	"time"
)

// Trend is how something that a host's process takes went on after the first third
// of a soak.
type Trend struct {
	What    string  `json:"what"`
	Host    string  `json:"host"`
	Unit    string  `json:"unit"`
	Median  float64 `json:"median"`         // of the last two thirds
	PerHour float64 `json:"per_hour"`       // slope: the median of the slopes between its samples with as many VMs (Theil and Sen)
	Bound   float64 `json:"bound_per_hour"` // above which it is said to grow
	Flat    bool    `json:"flat"`
}

func (t Trend) String() string {
	return fmt.Sprintf("host %s: %.1f %s, %+.2f an hour (bound %.2f)", t.Host, t.Median, t.Unit, t.PerHour, t.Bound)
}

// soaked is what is looked at: a host's process may grow by a share of what it takes
// within an hour, or by a little whatever it takes.
type soaked struct {
	what, unit string
	share      float64
	little     float64
	of         func(SoakSample) float64
}

func soakedThings() []soaked {
	const mib = 1 << 20
	return []soaked{
		{"memory", "MiB", 0.10, 12, func(s SoakSample) float64 { return float64(s.Resident) / mib }},
		{"heap", "MiB", 0.10, 4, func(s SoakSample) float64 { return float64(s.Heap) / mib }},
		{"goroutines", "", 0.05, 10, func(s SoakSample) float64 { return float64(s.Goroutines) }},
		{"open files", "", 0.05, 5, func(s SoakSample) float64 { return float64(s.Files) }},
		{"disk space used", "MiB", 0.05, 16, func(s SoakSample) float64 { return float64(s.Disk) / mib }},
	}
}

// trends judges the hosts whose processes lived all the time.
func trends(samples []SoakSample, hosts []string, lasts time.Duration) (out []Trend) {
	for _, k := range soakedThings() {
		for _, h := range hosts {
			var at, v []float64
			var vms []int
			for _, s := range samples {
				if s.Host == h && s.At >= lasts.Seconds()/3 {
					at, v, vms = append(at, s.At/3600), append(v, k.of(s)), append(vms, s.VMs)
				}
			}
			t := Trend{What: k.what, Host: h, Unit: k.unit, Median: Median(v), PerHour: slope(at, v, vms)}
			t.Bound = max(k.little, k.share*t.Median)
			t.Flat = len(v) > 2 && t.PerHour <= t.Bound
			out = append(out, t)
		}
	}
	return out
}

// slope is the median of the slopes between all pairs of points with the same load:
// single outliers do not move it, nor that VMs came from hosts that were lost. 0 if
// there is no pair.
func slope(x, y []float64, load []int) float64 {
	var all []float64
	step := max(1, len(x)/400) // pairs grow with the square
	for i := 0; i < len(x); i += step {
		for k := i + step; k < len(x); k += step {
			if d := x[k] - x[i]; d > 0 && load[i] == load[k] {
				all = append(all, (y[k]-y[i])/d)
			}
		}
	}
	return Median(all)
}
