// Package link is a lab's bad line: a process that takes packets of some
// namespaces from a tun device, keeps each for as long as the line would take,
// loses some, and gives them back. The kernel can do that, too, by its netem
// discipline, but not every kernel has it.
package link

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of a line.
const (
	minRate  = 8_000           // bits a second: a modem of the seventies
	maxRate  = 100_000_000_000 // beyond it there is nothing to hold back
	maxDelay = 10 * time.Second
)

// Shape is what a line does to what it carries, one way. The zero shape is no
// line at all: nothing is held back.
type Shape struct {
	Rate   int64         `json:"rate_bits,omitempty"` // bits a second; 0: no limit
	Delay  time.Duration `json:"delay_ns,omitempty"`
	Jitter time.Duration `json:"jitter_ns,omitempty"` // up to so much comes on top of Delay; the order stays
	Loss   float64       `json:"loss,omitempty"`      // the share of packets that is lost, 0 to 1
}

// Check refuses what no line is like.
func (s Shape) Check() error {
	switch {
	case s.Rate != 0 && (s.Rate < minRate || s.Rate > maxRate):
		return holdfast.Errorf(holdfast.Invalid, "a rate of %d bits a second: give 8kbit to 100gbit", s.Rate)
	case s.Delay < 0 || s.Delay > maxDelay || s.Jitter < 0 || s.Jitter > maxDelay:
		return holdfast.Errorf(holdfast.Invalid, "a delay of %v and a jitter of %v: give 0 to %v of each", s.Delay, s.Jitter, maxDelay)
	case !(s.Loss >= 0 && s.Loss < 1):
		return holdfast.Errorf(holdfast.Invalid, "a loss of %v %%: give 0 to less than 100; a line that loses everything is cut", s.Loss*100)
	}
	return nil
}

// units are those of a rate, as tc(8) has them.
var units = [...]struct {
	name   string
	factor float64
}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}

// ParseRate reads a rate such as 512kbit or 1.5mbit.
func ParseRate(text string) (int64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(strings.ToLower(text), u.name)
		if !ok {
			continue
		}
		if v, err := strconv.ParseFloat(number, 64); err == nil && v*u.factor >= minRate && v*u.factor <= maxRate {
			return int64(v * u.factor), nil
		}
		break
	}
	return 0, holdfast.Errorf(holdfast.Invalid, "%.40q is no rate; write 512kbit, 1.5mbit or 1gbit", text)
}

// FormatRate writes a rate as ParseRate reads it.
func FormatRate(rate int64) string {
	for _, u := range units {
		if v := float64(rate) / u.factor; v >= 1 {
			return strconv.FormatFloat(v, 'f', -1, 64) + u.name
		}
	}
	return fmt.Sprintf("%dbit", rate)
}

// ParseLoss reads a share such as 2% or 0.5%.
func ParseLoss(text string) (float64, error) {
	number, ok := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v >= 0 && v < 100) {
		return 0, holdfast.Errorf(holdfast.Invalid, "%.40q is no share that is lost; write 2%% or 0.5%%, less than 100%%", text)
	}
	return v / 100, nil
}
