package config

import (
	"strconv"
	"strings"
	"time"
)

// maxPeriod keeps a period far from overflow.
const maxPeriod = 10 * 365 * 24 * time.Hour

// ParsePeriod reads a period in whole days or hours, "7d" or "12h", or "never",
// which is 0.
func ParsePeriod(s string) (time.Duration, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	if text == "never" {
		return 0, nil
	}
	unit := time.Hour
	if strings.HasSuffix(text, "d") {
		unit = 24 * time.Hour
	}
	n, err := strconv.ParseInt(strings.TrimRight(text, "dh"), 10, 32)
	if err != nil || n <= 0 || len(strings.TrimRight(text, "dh")) != len(text)-1 || time.Duration(n) > maxPeriod/unit {
		return 0, invalid("%.80q is not a period; write it like 7d or 12h, or never", s)
	}
	return time.Duration(n) * unit, nil
}
