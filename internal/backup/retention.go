package backup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Keep says which backups of a volume stay. The newest always does, and so does
// whatever one that stays is the difference to.
type Keep struct {
	Last    int           `json:"last,omitempty"`    // the newest N
	Daily   int           `json:"daily,omitempty"`   // the last one of each of the last N days that have one
	Weekly  int           `json:"weekly,omitempty"`  // likewise, of weeks that begin on Monday
	Monthly int           `json:"monthly,omitempty"` // likewise
	Within  time.Duration `json:"within,omitempty"`  // all that are at most so much older than the newest
}

// maxKeep bounds a count.
const maxKeep = 100_000

// IsZero reports whether nothing is said, so that all stay.
func (k Keep) IsZero() bool { return k == Keep{} }

// String prints it as ParseKeep reads it.
func (k Keep) String() string {
	var out []string
	for _, t := range []struct {
		word string
		n    int
	}{{"last", k.Last}, {"daily", k.Daily}, {"weekly", k.Weekly}, {"monthly", k.Monthly}} {
		if t.n > 0 {
			out = append(out, fmt.Sprintf("%s=%d", t.word, t.n))
		}
	}
	if k.Within > 0 {
		out = append(out, "within="+k.Within.String())
	}
	return strings.Join(out, ",")
}

// ParseKeep reads "last=7,daily=14,weekly=8,monthly=12,within=72h"; 3d is three
// days. Nothing: all stay.
func ParseKeep(s string) (k Keep, err error) {
	for word := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(word), "=")
		if s == "" {
			break
		}
		fields := map[string]*int{"last": &k.Last, "daily": &k.Daily, "weekly": &k.Weekly, "monthly": &k.Monthly}
		n, nerr := strconv.Atoi(value)
		switch field := fields[name]; {
		case ok && field != nil && nerr == nil && n > 0 && n <= maxKeep:
			*field = n
		case ok && name == "within":
			if k.Within, err = ParseTime(value); err != nil {
				return k, err
			}
		default:
			return k, holdfast.Errorf(holdfast.Invalid, "to keep %.40q: give for example last=7,daily=14,weekly=8,monthly=12,within=72h", word)
		}
	}
	return k, nil
}

// ParseTime reads a span of time: as Go writes it, or in days (7d) or weeks (2w).
func ParseTime(s string) (time.Duration, error) {
	unit := map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[s[max(0, len(s)-1):]]
	if n, err := strconv.Atoi(s[:max(0, len(s)-1)]); unit > 0 && err == nil && n > 0 && n <= maxKeep {
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxKeep*24*time.Hour {
		return 0, holdfast.Errorf(holdfast.Invalid, "time %.40q: give for example 30m, 6h, 7d or 2w", s)
	}
	return d, nil
}

// Prune says which of one volume's files, the oldest first, may go; those that
// were not made to a directory stay. Clocks that
// jumped between two backups, either way, have nothing go that would not have
// gone otherwise (ADR 0069): their order is told by LSN, so it is known where.
func (k Keep) Prune(files []File) (drop []File) {
	if k.IsZero() || len(files) == 0 {
		return nil
	}
	stays := make(map[string]bool)
	ages := agesOf(files)
	for i, f := range files {
		if i == len(files)-1 || len(files)-i <= k.Last || ages[i] < k.Within || f.Header.Bundle != nil { // what stands in one file cannot go by itself
			stays[f.Header.ID] = true
		}
	}
	keepPeriods(files, k.Daily, stays, func(t time.Time) string { return t.Format("2006-01-02") })
	keepPeriods(files, k.Weekly, stays, func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprint(year, week)
	})
	keepPeriods(files, k.Monthly, stays, func(t time.Time) string { return t.Format("2006-01") })
	for i := len(files) - 1; i >= 0; i-- { // a base is older than what goes over it
		if stays[files[i].Header.ID] {
			h := &files[i].Header
			for h.Base != nil {
				base, ok := baseOf(files, h)
				if !ok || stays[base.Header.ID] {
					break
				}
				stays[base.Header.ID] = true
				h = &base.Header
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(files), func(f File) bool { return stays[f.Header.ID] })
}

// keepPeriods keeps the newest file of each of the newest n periods. Where the
// clock fell back between two files nobody knows which period it was: what is
// before that stays, and takes no other's place.
func keepPeriods(files []File, n int, stays map[string]bool, period func(time.Time) string) {
	for i := len(files) - 1; i >= 0 && n > 0; i-- {
		at := files[i].Header.Created.UTC()
		if i == len(files)-1 {
			stays[files[i].Header.ID] = true
			n--
			continue
		}
		switch after := files[i+1].Header.Created.UTC(); {
		case at.After(after):
			stays[files[i].Header.ID] = true
		case period(at) != period(after):
			stays[files[i].Header.ID] = true
			n--
		}
	}
}

// agesOf tells how much older than the newest each file is, as far as that can be
// known from clocks that may have been wrong. Time passes only forward. What is
// more than a day, and more than twice the usual time between two files, may be
// a jump or a pause: it counts as what is usual, and not at all if another clock
// had been there before, so that jumps to and fro add up to nothing.
func agesOf(files []File) []time.Duration {
	gaps := make([]time.Duration, len(files)) // of i: since the one before
	for i := 1; i < len(files); i++ {
		gaps[i] = max(0, files[i].Header.Created.Sub(files[i-1].Header.Created))
	}
	const day = 24 * time.Hour
	usual := time.Duration(0) // of a few, none is
	if len(files) > 3 {
		sorted := slices.Sorted(slices.Values(gaps[1:]))
		usual = min(sorted[(len(sorted)-1)/2], maxKeep*day/2)
	}
	most := max(day, 2*usual)
	latest := files[0].Header.Created
	for i := 1; i < len(files); i++ {
		at := files[i].Header.Created
		if gaps[i] > most {
			gaps[i] = min(usual, max(0, at.Sub(latest)))
		}
		if at.After(latest) {
			latest = at
		}
	}
	ages := make([]time.Duration, len(files))
	for i := len(files) - 2; i >= 0; i-- {
		ages[i] = ages[i+1] + gaps[i+1]
	}
	return ages
}
