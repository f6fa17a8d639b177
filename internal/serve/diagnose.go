package serve

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

const (
	// LogKept is how much of its log a host keeps in memory, for a diagnosis, bytes.
	LogKept      = 256 << 10
	diagnoseWait = 10 * time.Second // for other hosts
	stacksMost   = 1 << 20          // bytes
)

// Diagnose implements httpapi.Reader.
func (h *Host) Diagnose(ctx context.Context, local bool) (v1.Diagnoses, error) {
	out := v1.Diagnoses{Hosts: []v1.Diagnosis{h.diagnosis()}}
	m, err := h.member()
	if err != nil || local { // in no cluster it knows of itself
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, diagnoseWait)
	defer cancel()
	var mu sync.Mutex
	out.Silent = m.everyOther(m.node.Cluster.State(), h.dir.id.Host, func(_ cluster.Host, c *client.Client) error {
		x, err := c.Diagnose(ctx, true)
		mu.Lock()
		defer mu.Unlock()
		out.Hosts = append(out.Hosts, x.Hosts...)
		return err
	})
	slices.SortFunc(out.Hosts, func(a, b v1.Diagnosis) int { return strings.Compare(a.Host, b.Host) })
	return out, nil
}

// diagnosis is this host's. The configuration holds names of files with secrets,
// and none itself; stacks are without the values of arguments.
func (h *Host) diagnosis() v1.Diagnosis {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	d := v1.Diagnosis{Host: h.cfg.Name, Version: h.version, Go: runtime.Version(), Processors: runtime.NumCPU(), Started: h.began.UTC(), Now: time.Now().UTC(),
		Heap: int64(mem.HeapAlloc), Memory: int64(mem.Sys), Tasks: runtime.NumGoroutine(),
		Mounts: readAtMost("/proc/self/mountinfo"), Limits: readAtMost("/proc/self/limits")}
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // to memory
	stacks.Truncate(min(stacks.Len(), stacksMost))
	d.Stacks = stacks.String()
	if b, err := yaml.Marshal(h.cfg); err == nil {
		d.Config = string(b)
	}
	if h.tail != nil {
		d.Log = h.tail.Text()
	}
	return d
}

// readAtMost is the beginning of a file of the kernel's; "" if there is none.
func readAtMost(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b[:min(len(b), 64<<10)])
}
