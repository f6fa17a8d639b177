package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/holdfast-cloud/holdfast/bench/alone"
)

// The picture's sizes, in pixels.
const (
	plotWidth, plotHeight      = 900, 300
	plotLeft, plotRight        = 60, 20
	plotTop, plotBottom        = 40, 40
	plotX, plotY               = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
	secondColour, windowColour = "#b9d3ee", "#1f5fa8"
	medianColour, leastColour  = "#777777", "#c03030"
	plotInk, plotGridInk       = "#222222", "#e6e6e6"
)

// plot draws the rate of every second and of every 10 seconds as SVG, with the
// median of the latter, and its half.
func (r *result) plot() string {
	var b strings.Builder
	top := 0.0
	for _, x := range r.MiBps {
		top = max(top, x)
	}
	step := niceStep(top / 4)
	top = step * math.Ceil(max(top, step)/step)
	seconds := max(1, float64(len(r.MiBps)))
	x := func(s float64) float64 { return plotLeft + plotX*s/seconds }
	y := func(v float64) float64 { return plotTop + plotY*(1-v/top) }

	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	text := func(px, py float64, anchor, colour, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", px, py, anchor, colour, s)
	}
	text(plotLeft, 20, "start", plotInk, fmt.Sprintf("Random overwrite, 4 KiB, depth %d, %.0f %% of the usable space filled: MiB/s. %.2f bytes written per byte (map %.2f)",
		alone.Depth, r.Settings.Fill, r.Amp.Total, r.Amp.Map))
	for v := 0.0; v <= top+step/2; v += step {
		line(&b, plotLeft, y(v), plotWidth-plotRight, y(v), plotGridInk, "")
		text(plotLeft-6, y(v)+4, "end", plotInk, fmt.Sprintf("%g", v))
	}
	every := niceStep(seconds / 6)
	for s := 0.0; s <= seconds; s += every {
		text(x(s), plotHeight-plotBottom+18, "middle", plotInk, fmt.Sprintf("%g s", s))
	}
	curve(&b, r.MiBps, secondColour, 1, func(i int) float64 { return x(float64(i) + 0.5) }, y)
	curve(&b, r.Windows, windowColour, 2, func(i int) float64 { return x(float64(i) + windowSeconds/2) }, y)
	line(&b, plotLeft, y(r.Median), plotWidth-plotRight, y(r.Median), medianColour, "6 4")
	line(&b, plotLeft, y(r.Median/2), plotWidth-plotRight, y(r.Median/2), leastColour, "6 4")
	text(plotLeft, plotHeight-6, "start", windowColour, fmt.Sprintf("every 10 s: median %.1f, least %.1f (%.2f of the median)", r.Median, r.Least, r.Least/max(r.Median, 1e-9)))
	text(plotWidth-plotRight, plotHeight-6, "end", leastColour, "half of the median")
	b.WriteString("</svg>\n")
	return b.String()
}

func line(b *strings.Builder, x1, y1, x2, y2 float64, colour, dashes string) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"`, x1, y1, x2, y2, colour)
	if dashes != "" {
		fmt.Fprintf(b, ` stroke-dasharray="%s"`, dashes)
	}
	b.WriteString("/>\n")
}

func curve(b *strings.Builder, values []float64, colour string, width int, x func(int) float64, y func(float64) float64) {
	if len(values) == 0 {
		return
	}
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="%d" points="`, colour, width)
	for i, v := range values {
		fmt.Fprintf(b, "%.1f,%.1f ", x(i), y(v))
	}
	b.WriteString("\"/>\n")
}

// niceStep is the least 1, 2 or 5 times a power of ten that is not below x.
func niceStep(x float64) float64 {
	if x <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(x)))
	for _, k := range []float64{1, 2, 5} {
		if k*p >= x {
			return k * p
		}
	}
	return 10 * p
}
