package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// load is requests of one kind.
type load struct {
	name  string
	write bool
	size  int // bytes of each
	depth int // under way; 0: no load
	flush bool
}

const usualWeight = 100

func victims() []load {
	return []load{
		{"write+flush, 1", true, 4 << 10, 1, true},
		{"random read, 1", false, 4 << 10, 1, false},
	}
}

func floods() []load {
	return []load{
		{"1 MiB reads, 32", false, 1 << 20, 32, false},
		{"4 KiB writes, 64", true, 4 << 10, 64, false},
		{"1 MiB writes, 16", true, 1 << 20, 16, false},
	}
}

// row is what is measured of one victim beside one flood.
type row struct {
	victim, flood load
	far           bool // the flood's writer is on the other host
	weight        int  // of the victim; the flood's is usual
	runs          []latency
}

// latency is of one turn.
type latency struct {
	median, p99 float64 // ms
	rate        float64 // of the flood, MiB/s
}

// rows are in the order in which they are measured; the first of each victim is
// without a flood.
func rows() (all []row) {
	for _, v := range victims() {
		all = append(all, row{victim: v, weight: usualWeight})
		for _, f := range floods() {
			all = append(all, row{victim: v, flood: f, weight: usualWeight}, row{victim: v, flood: f, weight: usualWeight, far: true})
			if f.write {
				all = append(all, row{victim: v, flood: f, weight: 4 * usualWeight})
			}
		}
	}
	return all
}

func (r row) String() string {
	if r.flood.depth == 0 {
		return r.victim.name + " | nothing | |"
	}
	from := "same host"
	if r.far {
		from = "other host"
	}
	return fmt.Sprintf("%s | %s | %s | %d:1", r.victim.name, r.flood.name, from, r.weight/usualWeight)
}

// add notes a turn, by what its requests took.
func (r *row) add(ms []float64, rate float64) {
	slices.Sort(ms)
	l := latency{rate: rate}
	if n := len(ms); n > 0 {
		l.median, l.p99 = ms[n/2], ms[n*99/100]
	}
	r.runs = append(r.runs, l)
}

// over returns one figure of all turns.
func (r row) over(of func(latency) float64) (all []float64) {
	for _, l := range r.runs {
		all = append(all, of(l))
	}
	return all
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// printRows prints the table: medians of the turns, and the ratios to the turn
// without a flood, median, least and greatest.
func printRows(w io.Writer, all []row) {
	fmt.Fprint(w, "| volume | beside | flood from | weights | median ms | 99th percentile ms | × alone | flood MiB/s |\n|", strings.Repeat("---|", 8), "\n")
	var alone row
	for _, r := range all {
		if r.flood.depth == 0 {
			alone = r
		}
		if len(r.runs) == 0 {
			continue
		}
		p99 := r.over(func(l latency) float64 { return l.p99 })
		line := fmt.Sprintf("| %s | %.2f | %.2f |", r, median(r.over(func(l latency) float64 { return l.median })), median(p99))
		if r.flood.depth > 0 {
			base := alone.over(func(l latency) float64 { return l.p99 })
			for i := range p99 {
				p99[i] /= base[i]
			}
			line += fmt.Sprintf(" %.1f (%.1f to %.1f) | %.0f |", median(p99), slices.Min(p99), slices.Max(p99), median(r.over(func(l latency) float64 { return l.rate })))
		} else {
			line += " | |"
		}
		fmt.Fprintln(w, line)
	}
}

// share is how two floods of the same kind shared a disk.
type share struct {
	flood  load
	weight int // of the first; the second's is usual
	ratio  []float64
	rate   []float64 // both together, MiB/s
}

func printShares(w io.Writer, all []share) {
	fmt.Fprint(w, "\n| two floods | weights | MiB/s, first : second | both MiB/s |\n|---|---|---|---|\n")
	for _, s := range all {
		fmt.Fprintf(w, "| %s | %d:1 | %.2f (%.2f to %.2f) | %.0f |\n", s.flood.name, s.weight/usualWeight, median(s.ratio), slices.Min(s.ratio), slices.Max(s.ratio), median(s.rate))
	}
}
