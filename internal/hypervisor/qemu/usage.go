package qemu

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/guestnet"
)

var _ hypervisor.Metered = (*Machine)(nil)

// usageTimeout bounds how long QEMU may take to tell of its disks.
const usageTimeout = time.Second

// Usage implements hypervisor.Metered.
func (m *Machine) Usage() (hypervisor.Usage, error) {
	if m.State() == hypervisor.Off {
		return hypervisor.Usage{}, m.offError()
	}
	cpu, memory, err := usageOf(m.rec.QEMU.PID)
	if err != nil {
		return hypervisor.Usage{}, err
	}
	u := hypervisor.Usage{CPU: cpu, Memory: memory}
	if mon, err := m.talking(); err == nil {
		var told []blockStats
		if mon.execute("query-blockstats", nil, &told, usageTimeout) == nil {
			u.Disks = diskUsage(m.Spec(), told)
		}
	}
	if m.rec.Spec.NIC != nil {
		if in, out, err := guestnet.Count(m.dir.dialSocket()); err == nil {
			u.Net = &hypervisor.NetUsage{Received: in, Sent: out}
		}
	}
	return u, nil
}

// blockStats is a disk as QEMU tells of it (qapi/block-core.json, BlockStats).
type blockStats struct {
	Node  string `json:"node-name"`
	Stats struct {
		ReadBytes  uint64 `json:"rd_bytes"`
		WriteBytes uint64 `json:"wr_bytes"`
		Reads      uint64 `json:"rd_operations"`
		Writes     uint64 `json:"wr_operations"`
		Flushes    uint64 `json:"flush_operations"`
		ReadNanos  uint64 `json:"rd_total_time_ns"`
		WriteNanos uint64 `json:"wr_total_time_ns"`
		FlushNanos uint64 `json:"flush_total_time_ns"`
	} `json:"stats"`
}

// diskUsage tells of the disks that the guest writes.
func diskUsage(s hypervisor.Spec, told []blockStats) []hypervisor.DiskUsage {
	out := []hypervisor.DiskUsage{}
	for _, d := range s.Written() {
		for _, b := range told {
			if b.Node != diskNode(d.Slot) {
				continue
			}
			x := b.Stats
			out = append(out, hypervisor.DiskUsage{Volume: d.Volume, Reads: x.Reads, Writes: x.Writes, ReadBytes: x.ReadBytes, WrittenBytes: x.WriteBytes, Flushes: x.Flushes,
				ReadTime: time.Duration(x.ReadNanos), WriteTime: time.Duration(x.WriteNanos), FlushTime: time.Duration(x.FlushNanos)})
			break
		}
	}
	return out
}

// tick is the unit of times in /proc/PID/stat on every platform that Linux runs on
// (USER_HZ).
const tick = time.Second / 100

// usageOf reads what a process has had of the processors and has of the memory
// (proc_pid_stat(5): utime, stime and rss).
func usageOf(pid int) (cpu time.Duration, memory int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, holdfast.Errorf(holdfast.Unavailable, "what process %d uses: %w", pid, err)
	}
	return parseUsage(b)
}

func parseUsage(b []byte) (cpu time.Duration, memory int64, err error) {
	const utime, stime, rss = 14 - 3, 15 - 3, 24 - 3 // behind the name, which ends with the last bracket
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) <= rss {
		return 0, 0, holdfast.Errorf(holdfast.Other, "the kernel tells of a process what this program does not understand")
	}
	var n [3]int64
	for i, at := range []int{utime, stime, rss} {
		if n[i], err = strconv.ParseInt(string(f[at]), 10, 64); err != nil {
			return 0, 0, holdfast.Errorf(holdfast.Other, "the kernel tells of a process what this program does not understand: %w", err)
		}
	}
	return time.Duration(n[0]+n[1]) * tick, n[2] * int64(os.Getpagesize()), nil
}
