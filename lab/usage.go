package lab

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Usage is what a host's processes take of the computer.
type Usage struct {
	Resident  int64         // bytes of memory, shared pages counted in each process
	CPU       time.Duration // since the processes began
	Processes int
}

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on Linux
// whatever the kernel counts in (proc_pid_stat(5)).
const tick = time.Second / 100

// Usage adds up what runs on the host now: its own process, its watchdog and,
// if there are any, machines and their networks.
func (h Host) Usage() (Usage, error) {
	var u Usage
	ps, err := processes([]Host{h})
	if err != nil {
		return u, err
	}
	for _, p := range ps {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil {
			continue // it has ended
		}
		cpu, pages, err := parseUsage(stat)
		if err != nil {
			return u, err
		}
		u.CPU += cpu
		u.Resident += pages * int64(os.Getpagesize())
		u.Processes++
	}
	return u, nil
}

// parseUsage reads user and system time (fields 14 and 15) and resident pages
// (field 24) of a stat line.
func parseUsage(stat []byte) (cpu time.Duration, pages int64, err error) {
	rest := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from field 3
	if len(rest) < 22 {
		return 0, 0, holdfast.Errorf(holdfast.Corrupt, "a process's stat is cut short")
	}
	var n [3]int64
	for i, field := range []int{14, 15, 24} {
		if n[i], err = strconv.ParseInt(string(rest[field-3]), 10, 64); err != nil {
			return 0, 0, holdfast.Errorf(holdfast.Corrupt, "a process's stat has no number in field %d: %w", field, err)
		}
	}
	return time.Duration(n[0]+n[1]) * tick, n[2], nil
}
