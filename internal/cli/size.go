package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/config"
)

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
	n, err := config.ParseSize(s)
	*f = sizeFlag(n)
	return err
}
