package qemuimg

import (
	"bytes"
	"strconv"
)

// percents reads what `qemu-img convert -p` prints, "    (12.50/100%)\r" again
// and again, and tells how far it is.
type percents struct {
	tell func(fraction float64)
	line []byte
	last float64
}

// maxPercent bounds one such report.
const maxPercent = 64

// Write takes any piece of the output.
func (p *percents) Write(b []byte) (int, error) {
	for _, c := range b {
		if c != '\r' && c != '\n' && c != ')' {
			if len(p.line) < maxPercent {
				p.line = append(p.line, c)
			}
			continue
		}
		if f, ok := parsePercent(p.line); ok && f > p.last && p.tell != nil {
			p.last = f
			p.tell(f)
		}
		p.line = p.line[:0]
	}
	return len(b), nil
}

// parsePercent reads "(12.50/100%" as a fraction of one.
func parsePercent(b []byte) (float64, bool) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(b), []byte("("))
	if !ok {
		return 0, false
	}
	num, ok := bytes.CutSuffix(rest, []byte("/100%"))
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(num), 64)
	if err != nil || !(f >= 0 && f <= 100) {
		return 0, false
	}
	return f / 100, true
}
