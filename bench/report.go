package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/drill"
)

// report is what was measured.
type report struct {
	Settings settings  `json:"settings"`
	Started  time.Time `json:"started"`
	Results  []result  `json:"results"`
}

// result is one candidate in one cell, in operations per second.
type result struct {
	Cell      string    `json:"cell"`
	Candidate string    `json:"candidate"`
	Runs      []float64 `json:"runs"`
	Median    float64   `json:"median"`
	Base      string    `json:"base"`
	Ratio     float64   `json:"ratio"`  // median to the base's median
	Least     float64   `json:"least"`  // of the ratios of single turns
	Most      float64   `json:"most"`   //
	First     float64   `json:"first"`  // least ratio wanted of the first version, 0 if none
	Full      float64   `json:"wanted"` // of the block store at full strength
}

// add computes the medians and ratios of one cell.
func (r *report) add(w cell, cs []*candidate, rows []result) {
	byName := map[string]*result{}
	for i, c := range cs {
		rows[i].Median = drill.Median(rows[i].Runs)
		byName[c.name] = &rows[i]
	}
	for i, c := range cs {
		row := rows[i]
		row.Cell, row.Candidate, row.Base = w.name, c.name, c.base
		if base := byName[c.base]; base != nil {
			row.compare(base)
		}
		row.First, row.Full = c.goals[w.name].first, c.goals[w.name].full
		r.Results = append(r.Results, row)
	}
}

// compare sets the ratios; the turns of both are paired.
func (r *result) compare(base *result) {
	if base.Median > 0 {
		r.Ratio = r.Median / base.Median
	}
	for i, ops := range r.Runs {
		if i >= len(base.Runs) || base.Runs[i] <= 0 {
			continue
		}
		x := ops / base.Runs[i]
		if r.Most == 0 || x < r.Least {
			r.Least = x
		}
		r.Most = max(r.Most, x)
	}
}

// print writes the table.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "Operations per second: median of %d turns of %v s (least to most); ratio of the medians (least to most of single turns)\n\n",
		r.Settings.Runs, r.Settings.Seconds)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "CELL\tCANDIDATE\tMEDIAN\tRANGE\tRATIO\tRANGE\tOF\tGOALS")
	for _, x := range r.Results {
		ratio := "\t\t" // the base is not measured in this cell
		if x.Most > 0 {
			ratio = fmt.Sprintf("%.2f\t%.2f to %.2f\t%s", x.Ratio, x.Least, x.Most, x.Base)
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f to %.0f\t%s\t%s\n", x.Cell, x.Candidate, x.Median,
			slices.Min(x.Runs), slices.Max(x.Runs), ratio, x.verdicts())
	}
	t.Flush()
}

func (r *result) verdicts() string {
	var out []string
	for _, goal := range []float64{r.First, r.Full} {
		switch {
		case goal > 0 && r.Ratio >= goal:
			out = append(out, fmt.Sprintf("≥ %.1f met", goal))
		case goal > 0:
			out = append(out, fmt.Sprintf("≥ %.1f MISSED", goal))
		}
	}
	return strings.Join(out, ", ")
}

func (r *report) save(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
