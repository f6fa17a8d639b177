package filedisk

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// inUse says who has a block device that the kernel refused to give.
func inUse(path string, dev uint64) error {
	if at := mountPoints(dev); len(at) > 0 {
		return holdfast.Errorf(holdfast.Busy, "disk %s is mounted on %s; a disk for Holdfast must hold nothing else: unmount it if its data is not needed",
			path, strings.Join(at, ", "))
	}
	return holdfast.Errorf(holdfast.Busy, "disk %s is in use by another process or by the kernel (swap, RAID, LVM, a partition of it); release it first", path)
}

// mountPoints returns where a device or one of its partitions is mounted.
func mountPoints(dev uint64) []string {
	devs := []string{fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))}
	parts, _ := filepath.Glob("/sys/dev/block/" + devs[0] + "/*/dev") // the pattern is well-formed
	for _, p := range parts {
		if b, err := os.ReadFile(p); err == nil {
			devs = append(devs, strings.TrimSpace(string(b)))
		}
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil // the refusal stands; only its explanation is poorer
	}
	defer f.Close()
	return parseMounts(f, devs)
}

// parseMounts reads the form of proc_pid_mountinfo(5): the third field is
// major:minor, the fifth the mount point with octal escapes.
func parseMounts(r io.Reader, devs []string) (at []string) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) >= 5 && slices.Contains(devs, f[2]) {
			at = append(at, unescape(f[4]))
		}
	}
	return at
}

// unescape replaces \ooo by its byte.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
