package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// parseSize reads "10GiB", "512M", "1.5T" or plain bytes. K, M, G and T count
// in 1024s, with or without "iB" or "B", since that is what disks are cut in.
func parseSize(s string) (int64, error) {
	bad := holdfast.Errorf(holdfast.Invalid, "%q is not a size; write it like 10GiB, 512MiB or 1073741824", plain(s))
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

// formatSize prints at most four significant digits.
func formatSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	text := strconv.FormatFloat(f, 'f', 1, 64)
	return fmt.Sprintf("%s%s", strings.TrimSuffix(text, ".0"), units[i])
}

// sizeFlag is a flag that takes a size.
type sizeFlag int64

// String is empty for zero, so that help does not show it as a default.
func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return formatSize(int64(*f))
}

func (f *sizeFlag) Type() string { return "size" }
func (f *sizeFlag) Set(s string) error {
	n, err := parseSize(s)
	*f = sizeFlag(n)
	return err
}
