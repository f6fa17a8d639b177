package story

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The types of values. Each has one way to be printed:
//
//	count   0, 1, 2 …
//	num     1.5, -3
//	factor  x80
//	share   12.5%
//	size    16M: bytes, with K, M or G
//	time    1.5s, 250ms, 2m0s
//	times   1.5s,3s
//	name    of a host, rack, site, volume, VM, snapshot
//	names   a1,b1
//	disk    a1, or a1/2 for its second disk
//	place   host a1, rack a, site north, everything, the host of db1, the rack of db1
//	a|b     one of these words
const everything = "everything"

// canonical reads the value at the front of words and returns how it is printed
// and how many words it takes; 0: there is no such value.
func canonical(typ string, words []string) (text string, n int) {
	w := words[0]
	switch typ {
	case "count":
		u, err := strconv.ParseUint(w, 10, 64)
		return one(strconv.FormatUint(u, 10), err == nil)
	case "num":
		f, ok := number(w)
		return one(strconv.FormatFloat(f, 'f', -1, 64), ok)
	case "factor":
		rest, is := strings.CutPrefix(w, "x")
		f, ok := number(rest)
		return one("x"+strconv.FormatFloat(f, 'f', -1, 64), is && ok && f >= 0)
	case "share":
		rest, is := strings.CutSuffix(w, "%")
		f, ok := number(rest)
		return one(strconv.FormatFloat(f, 'f', -1, 64)+"%", is && ok && f >= 0 && f <= 100)
	case "size":
		b, ok := size(w)
		return one(printSize(b), ok)
	case "time":
		d, ok := duration(w)
		return one(d.String(), ok)
	case "times":
		var all []string
		for part := range strings.SplitSeq(w, ",") {
			d, ok := duration(part)
			if !ok {
				return "", 0
			}
			all = append(all, d.String())
		}
		return one(strings.Join(all, ","), true)
	case "name":
		return one(w, isName(w))
	case "names":
		return one(w, !slices.ContainsFunc(strings.Split(w, ","), func(s string) bool { return !isName(s) }))
	case "disk":
		host, n, two := strings.Cut(w, "/")
		return one(w, isName(host) && (!two || n == "1" || n == "2"))
	case "place":
		return place(words)
	}
	return one(w, slices.Contains(strings.Split(typ, "|"), w))
}

func one(text string, ok bool) (string, int) {
	if !ok {
		return "", 0
	}
	return text, 1
}

func place(words []string) (string, int) {
	if words[0] == everything {
		return everything, 1
	}
	if len(words) > 3 && words[0] == "the" && (words[1] == "host" || words[1] == "rack") && words[2] == "of" && isName(words[3]) {
		return strings.Join(words[:4], " "), 4
	}
	if len(words) > 1 && slices.Contains([]string{"host", "rack", "site"}, words[0]) && isName(words[1]) {
		return words[0] + " " + words[1], 2
	}
	return "", 0
}

// what says what a type is, for messages.
func what(typ string) string {
	switch typ {
	case "count":
		return "a whole number"
	case "num":
		return "a number"
	case "factor":
		return "a factor such as x80"
	case "share":
		return "a share such as 12.5%"
	case "size":
		return "a size such as 16M"
	case "time":
		return "a time such as 1.5s"
	case "times":
		return "times such as 1.5s,3s"
	case "name":
		return "a name"
	case "names":
		return "names such as a1,b1"
	case "disk":
		return "a disk such as a1 or a1/2"
	case "place":
		return "a place (host a1, rack a, site north, everything, the rack of db1)"
	}
	return "one of " + strings.ReplaceAll(typ, "|", ", ")
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

func number(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !strings.ContainsAny(s, "xXpP_eE") && math.Abs(f) <= 1e12
}

func duration(s string) (time.Duration, bool) {
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0 && d <= MaxTime
}

func size(s string) (int64, bool) {
	shift := 0
	if i := strings.IndexByte("KMG", s[len(s)-1]); i >= 0 {
		shift, s = 10*(i+1), s[:len(s)-1]
	}
	n, err := strconv.ParseUint(s, 10, 30)
	return int64(n) << shift, err == nil && int64(n)<<shift>>shift == int64(n)
}

func printSize(b int64) string {
	for i, unit := range []string{"G", "M", "K"} {
		if shift := 10 * (3 - i); b != 0 && b%(1<<shift) == 0 && b>>shift < 1<<30 {
			return strconv.FormatInt(b>>shift, 10) + unit
		}
	}
	return strconv.FormatInt(b, 10)
}

// Count is a value of that type; 0 if it was left out. So are the others.
func (c Command) Count(slot string) int {
	u, _ := strconv.ParseUint(c.Text(slot), 10, 64)
	return int(min(u, math.MaxInt32))
}

// Seed is a count of all its bits.
func (c Command) Seed(slot string) uint64 {
	u, _ := strconv.ParseUint(c.Text(slot), 10, 64)
	return u
}

// Num is a number or a factor.
func (c Command) Num(slot string) float64 {
	f, _ := number(strings.TrimPrefix(c.Text(slot), "x"))
	return f
}

// Share is between 0 and 1.
func (c Command) Share(slot string) float64 {
	f, _ := number(strings.TrimSuffix(c.Text(slot), "%"))
	return f / 100
}

// Size is in bytes.
func (c Command) Size(slot string) int64 {
	if !c.Has(slot) {
		return 0
	}
	b, _ := size(c.Text(slot))
	return b
}

// Time is a duration.
func (c Command) Time(slot string) time.Duration {
	d, _ := duration(c.Text(slot))
	return d
}

// Times are durations; the last one counts for whatever comes after it.
func (c Command) Times(slot string) (all []time.Duration) {
	for _, part := range c.Names(slot) {
		d, _ := duration(part)
		all = append(all, d)
	}
	return all
}

// Names are the parts of a list; none if it was left out.
func (c Command) Names(slot string) []string {
	if !c.Has(slot) {
		return nil
	}
	return strings.Split(c.Text(slot), ",")
}

// Place is what a place names: "host", "rack" or "site" and its name, "host of"
// or "rack of" and a VM, or "everything" and "".
func (c Command) Place(slot string) (what, name string) {
	if words := strings.Fields(c.Text(slot)); len(words) == 4 {
		return words[1] + " of", words[3]
	}
	what, name, _ = strings.Cut(c.Text(slot), " ")
	return what, name
}

// Disk is a disk's host and its number, from 1.
func (c Command) Disk(slot string) (host string, n int) {
	host, number, _ := strings.Cut(c.Text(slot), "/")
	if number == "2" {
		return host, 2
	}
	return host, 1
}
