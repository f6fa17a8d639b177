package main

import (
	"encoding/xml"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The whole of it on a small disk, so short that the figures mean nothing.
func TestASmallRun(t *testing.T) {
	dir := t.TempDir()
	svg := filepath.Join(dir, "plot.svg")
	s := settings{Fill: 50, Size: 64 << 20, Warm: 0.5, Seconds: 1, Pairs: 0.1, Dir: dir}
	if err := run(s, svg, filepath.Join(dir, "result.json")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(b, new(struct{})); err != nil {
		t.Fatalf("the picture is no XML: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "cleaner*")); len(left) > 0 {
		t.Errorf("the disk is still there: %v", left)
	}
}

func TestWindowsGoThroughEverySecond(t *testing.T) {
	r := &result{}
	for i := range 30 {
		r.MiBps = append(r.MiBps, 100)
		if i == 15 {
			r.MiBps[i] = 0
		}
	}
	r.windows()
	if len(r.Windows) != 21 || r.Median != 100 || r.Least != 90 || r.Windows[0] != 100 {
		t.Fatalf("median %v, least %v of %v", r.Median, r.Least, r.Windows)
	}
	if !strings.Contains(r.plot(), "least 90.0 (0.90 of the median)") {
		t.Error("the picture does not tell the least window")
	}
}

func TestStepsAreNice(t *testing.T) {
	for x, want := range map[float64]float64{0.7: 1, 1: 1, 3: 5, 12: 20, 600: 1000} {
		if got := niceStep(x); math.Abs(got-want) > 1e-9 {
			t.Errorf("step for %v is %v, want %v", x, got, want)
		}
	}
}
