package config

import (
	"testing"
	"time"
)

func TestPeriods(t *testing.T) {
	for s, want := range map[string]time.Duration{"7d": 7 * 24 * time.Hour, "12h": 12 * time.Hour, " 1D ": 24 * time.Hour, "never": 0} {
		if d, err := ParsePeriod(s); err != nil || d != want {
			t.Errorf("%q is %v, %v; want %v", s, d, err, want)
		}
	}
	for _, s := range []string{"", "7", "d", "-1d", "0d", "1w", "1dd", "1.5d", "9999999d", "99999999999999999999h"} {
		if d, err := ParsePeriod(s); err == nil {
			t.Errorf("%q is taken as %v", s, d)
		}
	}
}
