//go:build crashpoints

package crashpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Built says whether this program kills itself at points.
const Built = true

// Variable names the environment variable with the path of the order: a file of
// one line, "PASSAGE PID POINT". The process PID, or with 0 any, kills itself with
// SIGKILL when it passes POINT for the PASSAGE-th time since the file says so.
// Before that it renames the file to the same name with Struck at its end, which
// can succeed once.
const (
	Variable = "HOLDFAST_CRASH_ORDER"
	Struck   = ".struck"
)

var passages struct {
	sync.Mutex
	order string
	left  int
	point Point
}

// At passes a point. Where the order is for this process, and this is the passage,
// it does not return.
func At(p Point) {
	path := os.Getenv(Variable)
	if path == "" {
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return // no order now
	}
	passages.Lock()
	defer passages.Unlock()
	if s := string(b); s != passages.order {
		passages.order, passages.left, passages.point = s, 0, ""
		f := strings.SplitN(strings.TrimSpace(s), " ", 3)
		if len(f) == 3 && (f[1] == "0" || f[1] == strconv.Itoa(os.Getpid())) {
			passages.left, _ = strconv.Atoi(f[0])
			passages.point = Point(f[2])
		}
	}
	if passages.left <= 0 || p != passages.point {
		return
	}
	if passages.left--; passages.left > 0 || os.Rename(path, path+Struck) != nil {
		return
	}
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {} // until it strikes
}
