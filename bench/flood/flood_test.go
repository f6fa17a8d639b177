package main

import (
	"strings"
	"testing"
)

func TestRowsAreToldBesideTheTurnsWithoutAFlood(t *testing.T) {
	all := rows()
	for i := range all {
		for range 2 {
			ms := make([]float64, 200)
			for k := range ms {
				ms[k] = 1
			}
			ms[199], ms[198], ms[197] = 30, 20, 10
			if all[i].flood.depth > 0 {
				ms[198] = 60
			}
			all[i].add(ms, 100)
		}
	}
	var b strings.Builder
	printRows(&b, all)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2+len(rows()) {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range []string{
		"| write+flush, 1 | nothing | | | 1.00 | 20.00 | | |",
		"| write+flush, 1 | 1 MiB reads, 32 | same host | 1:1 | 1.00 | 30.00 | 1.5 (1.5 to 1.5) | 100 |",
	} {
		if lines[2+i] != want {
			t.Errorf("%s\nwant %s", lines[2+i], want)
		}
	}
	for _, l := range lines {
		if strings.Count(l, "|") != 9 {
			t.Errorf("a line of %d columns: %s", strings.Count(l, "|")-1, l)
		}
	}
}

// A turn in which nothing was answered tells no time, and is no reason to stop.
func TestATurnWithoutAnAnswer(t *testing.T) {
	var r row
	r.add(nil, 5)
	if r.runs[0] != (latency{rate: 5}) {
		t.Errorf("%+v", r.runs[0])
	}
}
