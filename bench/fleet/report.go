package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The part of a document that is written anew stands between these.
const (
	partBegins = "<!-- written by make fleet-figures -->\n"
	partEnds   = "<!-- end of what make fleet-figures writes -->\n"
)

// report is what was measured.
type report struct {
	began  time.Time
	commit string
	load   string // of the machine, before
	loaded string // and after
	lines  []line
}

type line struct {
	of, what, unit, goal string
	all                  []float64
}

func newReport(o options) *report {
	return &report{began: time.Now().UTC(), commit: versionOf(o.binary), load: load()}
}

// versionOf is what a program says that it is.
func versionOf(binary string) string {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// load is the mean number of tasks that wanted to run in the last minute.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

func (r *report) add(of, what, unit, goal string, all []float64) {
	r.lines = append(r.lines, line{of, what, unit, goal, slices.Sorted(slices.Values(all))})
}

func (r *report) end() { r.loaded = load() }

// markdown is the part of the document.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %d processors. Load of the machine, the last minute before and at the end: %s and %s; what is above the figures' own two or three is others' work, which they share the processors with. Median (least to most).\n\n",
		r.began.Format("2006-01-02 15:04 MST"), r.commit, runtime.NumCPU(), r.load, r.loaded)
	b.WriteString("| fleet | what | | wanted |\n|---|---|---|---|\n")
	for _, l := range r.lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.of, l.what, l.figure(), l.goal)
	}
	return b.String()
}

func (l *line) figure() string {
	if len(l.all) == 0 {
		return "not measured"
	}
	median := l.all[len(l.all)/2]
	return fmt.Sprintf("%.0f %s (%.0f to %.0f)", median, l.unit, l.all[0], l.all[len(l.all)-1])
}

// put writes the part into a document that has it.
func (r *report) put(path string) error {
	was, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	is, err := replaced(was, r.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, is, 0o644)
}

func replaced(doc []byte, part string) ([]byte, error) {
	before, rest, ok := bytes.Cut(doc, []byte(partBegins))
	_, after, ends := bytes.Cut(rest, []byte(partEnds))
	if !ok || !ends {
		return nil, fmt.Errorf("the part between %q and %q is missing", strings.TrimSpace(partBegins), strings.TrimSpace(partEnds))
	}
	return slices.Concat(before, []byte(partBegins), []byte("\n"), []byte(part), []byte("\n"), []byte(partEnds), after), nil
}
