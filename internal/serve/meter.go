package serve

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// measureOnce asks the machines what they use, and keeps that with what the volumes
// and the kernel tell.
func (h *Host) measureOnce(m *member) {
	usage := h.askMachines(m)
	h.figures.mu.Lock()
	h.figures.usage = usage
	h.figures.mu.Unlock()
	at := time.Now()
	c := h.figures.begin(at)
	for id, u := range usage {
		measureVM(c, id, u)
	}
	for _, v := range m.node.Volumes.Volumes() {
		id, s := v.Record().ID.UUID, v.Stats()
		c.rate(id, "reads", float64(s.Reads))
		c.rate(id, "writes", float64(s.Writes))
		c.rate(id, "read_bytes", float64(s.ReadBytes))
		c.rate(id, "written_bytes", float64(s.WrittenBytes))
	}
	h.measureHost(c, m)
	c.end(at)
}

// askMachines asks all at once: one that hangs delays the others by a second or two.
func (h *Host) askMachines(m *member) map[holdfast.VMID]hypervisor.Usage {
	out := map[holdfast.VMID]hypervisor.Usage{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id := range m.node.Cluster.State().VMs {
		x, ok := m.node.Agent.Machine(id).(hypervisor.Metered)
		if !ok {
			continue
		}
		wg.Go(func() {
			u, err := x.Usage()
			if err != nil {
				return // it is gone, or will be
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = u
		})
	}
	wg.Wait()
	return out
}

func measureVM(c *counters, vm holdfast.VMID, u hypervisor.Usage) {
	c.rate(vm.UUID, "cpu", u.CPU.Seconds())
	c.set(vm.UUID, "memory", float64(u.Memory))
	if u.Net != nil {
		c.rate(vm.UUID, "net_received", float64(u.Net.Received))
		c.rate(vm.UUID, "net_sent", float64(u.Net.Sent))
	}
	if u.Disks == nil {
		return
	}
	var read, written uint64
	for _, d := range u.Disks {
		read, written = read+d.ReadBytes, written+d.WrittenBytes
		c.mean(d.Volume.UUID, "read_latency", d.ReadTime.Seconds(), float64(d.Reads))
		c.mean(d.Volume.UUID, "write_latency", d.WriteTime.Seconds(), float64(d.Writes))
		c.mean(d.Volume.UUID, "flush_latency", d.FlushTime.Seconds(), float64(d.Flushes))
	}
	c.rate(vm.UUID, "disk_read", float64(read))
	c.rate(vm.UUID, "disk_written", float64(written))
}

func (h *Host) measureHost(c *counters, m *member) {
	id := h.dir.id.Host.UUID
	if busy, all, ok := processorTimes(); ok {
		c.mean(id, "cpu", busy, all)
	}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		c.set(id, "load", float64(si.Loads[0])/(1<<16))
	}
	if size, free, ok := memorySizes(); ok {
		c.set(id, "memory_size", size)
		c.set(id, "memory_used", size-free)
	}
	var used, size int64
	for _, s := range m.node.Volumes.Stores() {
		u := s.Usage()
		used, size = used+u.Total-u.Free, size+u.Total
	}
	if size > 0 {
		c.set(id, "disk_used", float64(used))
		c.set(id, "disk_size", float64(size))
	}
}

// processorTimes are how long the processors had something to do, and all of their
// time, in ticks (proc_stat(5), the line "cpu").
func processorTimes() (busy, all float64, ok bool) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, false
	}
	defer f.Close()
	var user, nice, system, idle, wait, irq, soft, steal float64
	if _, err := fmt.Fscanf(f, "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &wait, &irq, &soft, &steal); err != nil {
		return 0, 0, false
	}
	busy = user + nice + system + irq + soft + steal
	return busy, busy + idle + wait, true
}

// memorySizes are the host's memory and what of it programs could still have, bytes
// (proc_meminfo(5)).
func memorySizes() (size, free float64, ok bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, false
	}
	defer f.Close()
	got := map[string]float64{}
	for sc := bufio.NewScanner(f); sc.Scan() && len(got) < 2; {
		var kib float64
		name, rest, _ := strings.Cut(sc.Text(), ":")
		if name != "MemTotal" && name != "MemAvailable" {
			continue
		}
		if _, err := fmt.Sscanf(rest, "%f kB", &kib); err != nil {
			return 0, 0, false
		}
		got[name] = kib * 1024
	}
	return got["MemTotal"], got["MemAvailable"], len(got) == 2
}
