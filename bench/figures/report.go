package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/drill"
)

// report is what was measured.
type report struct {
	Started    time.Time         `json:"started"`
	CPUs       int               `json:"cpus"`
	Kernel     string            `json:"kernel"`
	Lines      []line            `json:"figures"`
	RackLoss   *drill.Series     `json:"rack_loss,omitempty"`
	Debian     *drill.Series     `json:"debian,omitempty"`
	Saturation *drill.Saturation `json:"saturation,omitempty"`
}

// line is one figure.
type line struct {
	drill.Figure
	Goal string `json:"goal,omitempty"`
}

func newReport() report {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return report{Started: time.Now().UTC(), CPUs: runtime.NumCPU(), Kernel: strings.TrimSpace(string(b))}
}

// add notes what was measured once or several times.
func (r *report) add(what, unit, goal string, all []float64) {
	if len(all) == 0 {
		return
	}
	r.Lines = append(r.Lines, line{drill.Figure{What: what, Unit: unit, Rounds: len(all), Median: drill.Median(all), Worst: slices.Max(all)}, goal})
}

// series notes the figures of a series of drills.
func (r *report) series(guest string, s drill.Series, goals map[string]string) {
	for _, f := range s.Figures {
		goal := goals[f.What]
		f.What = guest + ": " + f.What
		r.Lines = append(r.Lines, line{f, goal})
	}
	r.Lines = append(r.Lines, line{drill.Figure{What: guest + ": drills that killed the leader's rack", Rounds: len(s.Rounds), Median: float64(s.Leaders), Worst: float64(s.Leaders)}, "≥ 30 %"})
}

func (r *report) print(out io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	fmt.Fprintf(out, "%s, %d CPUs, Linux %s\n\n", r.Started.Format(time.RFC3339), r.CPUs, r.Kernel)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tMEDIAN\tWORST\tOF\tGOAL")
	for _, l := range r.Lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", l.What, number(l.Median, l.Unit), number(l.Worst, l.Unit), l.Rounds, l.Goal)
	}
	return w.Flush()
}

// number prints three digits or so.
func number(v float64, unit string) string {
	digits := 2
	if v >= 100 || v == float64(int(v)) {
		digits = 0
	}
	return strings.TrimSpace(fmt.Sprintf("%.*f %s", digits, v, unit))
}
