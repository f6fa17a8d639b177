package pdu

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// Limits of text keys (RFC 7143 §6.1): a key name has at most 63 bytes; a
// value is bounded by what carries the longest CHAP response.
const (
	maxKey   = 63
	maxValue = 8192
	maxPairs = 128
)

// Pair is one key and its value.
type Pair struct{ Key, Value string }

// ParseText takes the data of a text or login sequence apart. Errors: kind
// Invalid for what is no list of key=value, each ended by a zero byte.
func ParseText(b []byte) ([]Pair, error) {
	var pairs []Pair
	for len(b) > 0 {
		end := bytes.IndexByte(b, 0)
		if end < 0 {
			return nil, holdfast.Errorf(holdfast.Invalid, "a text key has no end")
		}
		item := b[:end]
		b = b[end+1:]
		if len(item) == 0 {
			continue // padding
		}
		eq := bytes.IndexByte(item, '=')
		if eq <= 0 || eq > maxKey || len(item)-eq-1 > maxValue {
			return nil, holdfast.Errorf(holdfast.Invalid, "%q is no text key", clip(string(item)))
		}
		for _, c := range item[:eq] {
			if c <= ' ' || c >= 0x7f {
				return nil, holdfast.Errorf(holdfast.Invalid, "%q is no name of a text key", clip(string(item[:eq])))
			}
		}
		if len(pairs) == maxPairs {
			return nil, holdfast.Errorf(holdfast.Invalid, "more than %d text keys at once", maxPairs)
		}
		pairs = append(pairs, Pair{string(item[:eq]), string(item[eq+1:])})
	}
	return pairs, nil
}

// AppendPair appends key=value and its zero byte.
func AppendPair(b []byte, key, value string) []byte {
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, 0)
}

// Number parses a numerical value, decimal or hexadecimal (§6.1), within
// [lo, hi].
func Number(s string, lo, hi uint64) (uint64, bool) {
	base := 10
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		s, base = s[2:], 16
	}
	if s == "" || s[0] == '+' || s[0] == '-' || strings.ContainsRune(s, '_') {
		return 0, false
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil && n >= lo && n <= hi
}

// Choose returns the first of the offered, comma-separated values that is
// known, or "" if none is.
func Choose(offered string, known ...string) string {
	for o := range strings.SplitSeq(offered, ",") {
		for _, k := range known {
			if o == k {
				return k
			}
		}
	}
	return ""
}

func clip(s string) string { return s[:min(len(s), 80)] }

// ValidName reports whether s may be an iSCSI name (§4.2.7): iqn., eui. or
// naa. followed by its parts, at most 223 bytes, no capitals, no blanks.
func ValidName(s string) bool {
	if len(s) < 5 || len(s) > 223 {
		return false
	}
	switch s[:4] {
	case "iqn.", "eui.", "naa.":
	default:
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == ':', c >= 0x80:
		case c >= 'A' && c <= 'F' && s[:4] != "iqn.":
		default:
			return false
		}
	}
	return true
}
