package upgrade

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// version is what `git describe --tags --dirty` says of a commit, with a tag of
// semver.org: v1.2.3, v1.2.3-rc.1, v1.2.3-14-gabcdef0, v1.2.3-dirty.
var version = regexp.MustCompile(`^v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:-((?:alpha|beta|rc)[0-9.]{0,20}))?(?:-(\d{1,9})-g[0-9a-f]{4,40})?(?:-dirty)?$`)

// Compare orders two versions: -1 if a is older than b, 1 if it is newer, 0 if
// neither. known is false where their names do not tell, as those of builds
// without a tag.
func Compare(a, b string) (order int, known bool) {
	x, y := version.FindStringSubmatch(a), version.FindStringSubmatch(b)
	if a == b {
		return 0, true
	}
	if x == nil || y == nil {
		return 0, false
	}
	for _, i := range []int{1, 2, 3} {
		if c := cmp.Compare(number(x[i]), number(y[i])); c != 0 {
			return c, true
		}
	}
	if c := preRelease(x[4], y[4]); c != 0 {
		return c, true
	}
	return cmp.Compare(number(x[5]), number(y[5])), true // commits after the tag
}

// preRelease orders what comes before a release, which is older than that.
func preRelease(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(b), len(a))
	}
	x, y := strings.FieldsFunc(a, notDigit), strings.FieldsFunc(b, notDigit)
	if c := strings.Compare(strings.TrimRight(a, "0123456789."), strings.TrimRight(b, "0123456789.")); c != 0 {
		return c
	}
	for i := range min(len(x), len(y)) {
		if c := cmp.Compare(number(x[i]), number(y[i])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// number reads digits; none are 0, and too many the largest number.
func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && s != "" {
		return ^uint64(0)
	}
	return n
}
