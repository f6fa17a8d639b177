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
	Within  time.Duration `json:"within,omitempty"`  // all that are younger
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

// Prune says which of one volume's files, the oldest first, may go.
func (k Keep) Prune(files []File, now time.Time) (drop []File) {
	if k.IsZero() || len(files) == 0 {
		return nil
	}
	stays := make(map[string]bool)
	stays[files[len(files)-1].Header.ID] = true
	for i, n := len(files)-1, 0; i >= 0; i, n = i-1, n+1 {
		h := &files[i].Header
		if n < k.Last || k.Within > 0 && now.Sub(h.Created) < k.Within {
			stays[h.ID] = true
		}
	}
	newestOf := func(n int, period func(time.Time) string) {
		seen := map[string]bool{}
		for i := len(files) - 1; i >= 0 && len(seen) < n; i-- {
			if p := period(files[i].Header.Created.UTC()); !seen[p] {
				seen[p] = true
				stays[files[i].Header.ID] = true
			}
		}
	}
	newestOf(k.Daily, func(t time.Time) string { return t.Format("2006-01-02") })
	newestOf(k.Weekly, func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprint(year, week)
	})
	newestOf(k.Monthly, func(t time.Time) string { return t.Format("2006-01") })
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
