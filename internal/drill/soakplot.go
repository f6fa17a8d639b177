package drill

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The picture's sizes, in pixels.
const (
	soakWidth, soakPanel  = 900, 150
	soakLeft, soakRight   = 70, 20
	soakTop, soakGap      = 50, 30
	soakInk, soakGridInk  = "#222222", "#e6e6e6"
	soakKillInk           = "#c03030"
	soakLived, soakOthers = "#1f5fa8", "#b9d3ee"
)

// plot draws each thing that was looked at over time as SVG, a panel each: dark the
// hosts that lived all the time, light the others, red where a rack was killed.
func (r SoakReport) plot() string {
	things := soakedThings()
	height := soakTop + len(things)*(soakPanel+soakGap) + 20
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", soakWidth, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	p := &soakPlot{b: &b, end: 1}
	for _, s := range r.Samples {
		p.end = max(p.end, s.At)
	}
	p.text(soakLeft, 20, "start", soakInk, fmt.Sprintf("%d hosts, %d guests, %.0f minutes, a rack killed %d times (red): what each host's own process takes", r.Hosts, r.Guests, r.Minutes, r.Kills))
	p.text(soakLeft, 36, "start", soakLived, fmt.Sprintf("dark: %s, never killed; light: the others", strings.Join(r.Lived, " and ")))
	for i, k := range things {
		p.panel(r, k, float64(soakTop+i*(soakPanel+soakGap)), i == len(things)-1)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

type soakPlot struct {
	b   *strings.Builder
	end float64 // seconds
}

func (p *soakPlot) text(x, y float64, anchor, ink, s string) {
	fmt.Fprintf(p.b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, ink, s)
}

func (p *soakPlot) line(x1, y1, x2, y2 float64, ink string) {
	fmt.Fprintf(p.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, ink)
}

func (p *soakPlot) x(at float64) float64 {
	return soakLeft + (soakWidth-soakLeft-soakRight)*at/p.end
}

// panel draws one thing of all hosts, from 0 on.
func (p *soakPlot) panel(r SoakReport, k soaked, top float64, last bool) {
	most := 0.0
	for _, s := range r.Samples {
		most = max(most, k.of(s))
	}
	step := roundStep(most / 3)
	most = step * math.Ceil(max(most, step)/step)
	y := func(v float64) float64 { return top + 18 + (soakPanel-18)*(1-v/most) }
	name := k.what
	if k.unit != "" {
		name += ", " + k.unit
	}
	p.text(soakLeft, top+12, "start", soakInk, name)
	for v := 0.0; v <= most+step/2; v += step {
		p.line(soakLeft, y(v), soakWidth-soakRight, y(v), soakGridInk)
		p.text(soakLeft-6, y(v)+4, "end", soakInk, fmt.Sprintf("%g", v))
	}
	for _, m := range r.Timeline {
		if m.What == "rack killed" {
			p.line(p.x(m.After), y(0), p.x(m.After), y(0)-8, soakKillInk)
		}
	}
	var hosts []string
	for _, s := range r.Samples {
		if !slices.Contains(hosts, s.Host) {
			hosts = append(hosts, s.Host)
		}
	}
	slices.SortStableFunc(hosts, func(a, b string) int { return p.rank(r, a) - p.rank(r, b) }) // dark on top
	for _, h := range hosts {
		p.curve(r, k, h, y)
	}
	if !last {
		return
	}
	every := roundStep(p.end / 60 / 6)
	for m := 0.0; m*60 <= p.end; m += every {
		p.text(p.x(m*60), top+soakPanel+18, "middle", soakInk, fmt.Sprintf("%g min", m))
	}
}

func (p *soakPlot) rank(r SoakReport, host string) int {
	if slices.Contains(r.Lived, host) {
		return 1
	}
	return 0
}

// curve draws one host, with gaps where it was dead.
func (p *soakPlot) curve(r SoakReport, k soaked, host string, y func(float64) float64) {
	ink, width := soakOthers, 1
	if p.rank(r, host) == 1 {
		ink, width = soakLived, 2
	}
	const gap = 4 * 5 // seconds: a few samples
	var points []string
	flush := func() {
		if len(points) > 1 {
			fmt.Fprintf(p.b, `<polyline fill="none" stroke="%s" stroke-width="%d" points="%s"/>`+"\n", ink, width, strings.Join(points, " "))
		}
		points = nil
	}
	before := 0.0
	for _, s := range r.Samples {
		if s.Host != host {
			continue
		}
		if s.At-before > gap {
			flush()
		}
		before = s.At
		points = append(points, fmt.Sprintf("%.1f,%.1f", p.x(s.At), y(k.of(s))))
	}
	flush()
}

// roundStep is the least 1, 2 or 5 times a power of ten that is not below x.
func roundStep(x float64) float64 {
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
