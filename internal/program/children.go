package program

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Children collects those of this process's children, as they end, that it has from
// the program that it was before: nobody else knows of them. It is called before any
// is started. Where the kernel does not tell of children, what ends stays in its
// table and does no harm.
func Children() {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%s/children", t.Name()))
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				continue
			}
			if p, err := os.FindProcess(pid); err == nil {
				go func() { _, _ = p.Wait() }() // until it ends, or this process does
			}
		}
	}
}
