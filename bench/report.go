package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// report is what was measured.
type report struct {
	Settings settings  `json:"settings"`
	Started  time.Time `json:"started"`
	Results  []result  `json:"results"`
}

// result is one candidate under one workload, in operations per second.
type result struct {
	Workload  string    `json:"workload"`
	Candidate string    `json:"candidate"`
	Runs      []float64 `json:"runs"`
	Median    float64   `json:"median"`
	Base      string    `json:"base"`
	Ratio     float64   `json:"ratio"`          // median to the base's median
	Goal      float64   `json:"goal,omitempty"` // least ratio wanted, 0 if none
}

// add computes the medians and ratios of one workload.
func (r *report) add(w workload, cs []*candidate, rows []result) {
	medians := map[string]float64{}
	for i, c := range cs {
		rows[i].Median = median(rows[i].Runs)
		medians[c.name] = rows[i].Median
	}
	for i, c := range cs {
		row := rows[i]
		row.Workload, row.Candidate, row.Base = w.name, c.name, c.base
		if base := medians[c.base]; base > 0 {
			row.Ratio = row.Median / base
		}
		for _, g := range c.goals {
			if g.workload == w.name {
				row.Goal = g.ratio
			}
		}
		r.Results = append(r.Results, row)
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// print writes the table.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "4 KiB operations per second: median of %d turns of %v s (least to most)\n\n", r.Settings.Runs, r.Settings.Seconds)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "WORKLOAD\tCANDIDATE\tMEDIAN\tRANGE\tRATIO\tOF\tGOAL")
	for _, x := range r.Results {
		goal := ""
		switch {
		case x.Goal > 0 && x.Ratio >= x.Goal:
			goal = fmt.Sprintf("≥ %.1f met", x.Goal)
		case x.Goal > 0:
			goal = fmt.Sprintf("≥ %.1f MISSED", x.Goal)
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f to %.0f\t%.2f\t%s\t%s\n", x.Workload, x.Candidate, x.Median,
			slices.Min(x.Runs), slices.Max(x.Runs), x.Ratio, x.Base, goal)
	}
	t.Flush()
}

func (r *report) save(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
