// Iscsi measures iSCSI targets beside each other, with the initiator of
// internal/export/iscsi: the candidates take turns in every cell, and the
// ratio to the first one is that of the medians. bench/iscsi.sh makes a lab and
// a tgt beside it and runs this.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	runs := flag.Int("runs", 3, "turns of every candidate in every cell")
	length := flag.Duration("turn", 2*time.Second, "`length` of a turn")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: iscsi [flags] NAME=ADDR:PORT/TARGET/LUN ...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(flag.Args(), *runs, *length); err != nil {
		fmt.Fprintln(os.Stderr, "bench/iscsi:", err)
		os.Exit(1)
	}
}

// run measures all cells and prints a table.
func run(args []string, runs int, length time.Duration) error {
	var all []*candidate
	for _, a := range args {
		c, err := open(a)
		if err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		defer c.close()
		all = append(all, c)
	}
	if len(all) == 0 || runs < 1 {
		return fmt.Errorf("give NAME=ADDR:PORT/TARGET/LUN of at least one target, and one turn at least")
	}
	for _, c := range all {
		if err := c.fill(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	fmt.Print("| cell |")
	for _, c := range all {
		fmt.Printf(" %s |", c.name)
	}
	fmt.Println("\n|---|" + strings.Repeat("---|", len(all)))
	for _, cell := range cells() {
		rates := make([][]float64, len(all))
		for range runs {
			for i, c := range all {
				r, err := c.turn(cell, length)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, cell.name, err)
				}
				rates[i] = append(rates[i], r)
			}
		}
		fmt.Printf("| %s |", cell.name)
		for i, r := range rates {
			fmt.Printf(" %s |", text(r, rates[0], i > 0))
		}
		fmt.Println()
	}
	return nil
}

// text is a median, with the ratio to the first candidate's and its range.
func text(r, first []float64, ratio bool) string {
	out := fmt.Sprintf("%.0f", median(r))
	if !ratio {
		return out
	}
	var each []float64
	for i := range r {
		each = append(each, r[i]/first[i])
	}
	return fmt.Sprintf("%s: %.2f (%.2f to %.2f)", out, median(r)/median(first), slices.Min(each), slices.Max(each))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
