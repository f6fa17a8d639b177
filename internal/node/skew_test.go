package node

import (
	"math"
	"strings"
	"testing"
	"time"
)

// far is a clock that is so much ahead of this one, told over a journey of 2 ms.
func far(d time.Duration) offset { return offset{"x", d - time.Millisecond, d + time.Millisecond} }

func TestWhoseClockIsOff(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct {
		what   string
		others []offset
		told   bool
		want   string // "": nothing is told
	}{
		{"alone", nil, false, ""},
		{"two that agree", []offset{far(0)}, false, ""},
		{"two that do not", []offset{far(-3 * h)}, false, "differ by 3 hours"},
		{"another one is wrong", []offset{far(0), far(9 * h)}, false, ""},
		{"this one is behind", []offset{far(9 * h), far(9 * h)}, false, "9 hours behind"},
		{"this one is ahead", []offset{far(-9 * h), far(-9*h + time.Second)}, false, "9 hours ahead of"},
		{"all three differ, and this is the middle one", []offset{far(-9 * h), far(7 * h)}, false, ""},
		{"all three differ, and this is the last", []offset{far(3 * h), far(7 * h)}, false, "3 hours behind"},
		{"two of four are right", []offset{far(0), far(5 * h), far(5 * h)}, false, ""},
		{"a second and a half", []offset{far(1500 * time.Millisecond), far(1500 * time.Millisecond)}, false, ""},
		{"the same, coming from more", []offset{far(1501 * time.Millisecond), far(1501 * time.Millisecond)}, true, "1.5 seconds behind"},
		{"half a second, coming from more", []offset{far(500 * time.Millisecond), far(500 * time.Millisecond)}, true, ""},
		{"a journey of three seconds tells little", []offset{{"x", -h / 1200, 5 * time.Second}, {"x", -h / 1200, 5 * time.Second}}, false, ""},
		{"as far as it goes", []offset{far(math.MaxInt64 / 2), far(math.MaxInt64 / 2)}, false, "146 years behind"},
	} {
		got := skewText(c.others, c.told)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestTimesOfAnyHostCanBeCompared(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, to := range []int64{math.MinInt64, -1, 0, at.UnixMilli(), math.MaxInt64} {
		d := between(at, to)
		if d.Abs() > 201*365*24*time.Hour || (d > 0) != (to > at.UnixMilli()) {
			t.Errorf("to %d: %v", to, d)
		}
	}
}
