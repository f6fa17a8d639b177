package config

import (
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Size is a number of bytes, written as ParseSize reads it.
type Size int64

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseSize(n.Value)
	*s = Size(v)
	return err
}

// ParseSize reads "10GiB", "512M", "1.5T" or plain bytes. K, M, G and T count
// in 1024s, with or without "iB" or "B", since that is what disks are cut in.
func ParseSize(s string) (int64, error) {
	bad := invalid("%.80q is not a size; write it like 10GiB, 512MiB or 1073741824", s)
	text := strings.TrimSpace(s)
	low := strings.ToLower(text)
	low = strings.TrimSuffix(strings.TrimSuffix(low, "b"), "i")
	shift := 0
	if i := strings.IndexByte("kmgtp", lastByte(low)); i >= 0 && low != "" {
		shift = (i + 1) * 10
		low = low[:len(low)-1]
	} else if strings.HasSuffix(strings.ToLower(text), "i") || strings.HasSuffix(strings.ToLower(text), "ib") {
		return 0, bad
	}
	if n, err := strconv.ParseInt(low, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64>>shift {
			return 0, bad
		}
		return n << shift, nil
	}
	f, err := strconv.ParseFloat(low, 64)
	f *= float64(int64(1) << shift)
	if err != nil || shift == 0 || !(f >= 0 && f < math.MaxInt64/2) || strings.ContainsAny(low, "xpein") {
		return 0, bad
	}
	return int64(f), nil
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}
