package serve

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/series"
)

func figuresHost(t *testing.T) *Host {
	h := &Host{log: slog.New(slog.DiscardHandler), dir: &dataDir{path: t.TempDir()}}
	h.figures = h.openFigures()
	return h
}

// latest is the newest point of a metric; ok: there is one.
func latest(h *Host, id holdfast.UUID, metric string, at time.Time) (float64, bool) {
	points := h.figures.store.Read(id, series.Window{Start: at.Unix() / 10 * 10, Step: 10, Points: 1})[metric]
	if len(points) == 0 || points[0] != points[0] {
		return 0, false
	}
	return float64(points[0]), true
}

func TestRatesAreOfWhatCountersHaveGrownBy(t *testing.T) {
	h := figuresHost(t)
	vm, disk := holdfast.VMID{UUID: holdfast.UUID{1}}, holdfast.VolumeID{UUID: holdfast.UUID{2}}
	at := time.Now()
	tell := func(secs int, cpu time.Duration, writes uint64, busy time.Duration) time.Time {
		now := at.Add(time.Duration(secs) * time.Second)
		c := h.figures.begin(now)
		measureVM(c, vm, hypervisor.Usage{CPU: cpu, Memory: 5 << 20, Net: &hypervisor.NetUsage{Received: writes * 10},
			Disks: []hypervisor.DiskUsage{{Volume: disk, Writes: writes, WrittenBytes: writes * 4096, WriteTime: busy}}})
		c.end(now)
		return now
	}
	now := tell(0, time.Second, 100, time.Second)
	if _, ok := latest(h, vm.UUID, "cpu", now); ok {
		t.Error("a rate of a counter that was seen once")
	}
	if v, _ := latest(h, vm.UUID, "memory", now); v != 5<<20 {
		t.Errorf("memory %v", v)
	}
	now = tell(20, 11*time.Second, 300, 2*time.Second)
	for metric, want := range map[string]float64{"cpu": .5, "disk_written": 40960, "net_received": 100, "disk_read": 0} {
		if v, ok := latest(h, vm.UUID, metric, now); !ok || v != want {
			t.Errorf("%s: %v, not %v", metric, v, want)
		}
	}
	if v, _ := latest(h, disk.UUID, "write_latency", now); v < .00499 || v > .00501 {
		t.Errorf("a write took %v s", v)
	}
	if _, ok := latest(h, disk.UUID, "read_latency", now); ok {
		t.Error("reads that were not made took a time")
	}
	now = tell(40, time.Second, 5, time.Second) // another process
	if v, ok := latest(h, vm.UUID, "cpu", now); ok {
		t.Errorf("a counter that began anew has a rate of %v", v)
	}
}

func TestFiguresOutliveTheirProcess(t *testing.T) {
	h := figuresHost(t)
	id, at := holdfast.UUID{7}, time.Now()
	h.figures.store.Add(at, map[series.Key]float64{{Subject: id, Metric: "load"}: 3})
	h.saveFigures()
	h.figures = h.openFigures()
	if v, ok := latest(h, id, "load", at); !ok || v != 3 {
		t.Errorf("after a restart %v, %v", v, ok)
	}
	path := h.dir.file(figuresFile)
	for _, damage := range []func() error{
		func() error { return os.WriteFile(path, []byte("nonsense"), 0o600) },
		func() error { return os.Truncate(path, series.MaxFile()+1) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		h.figures = h.openFigures()
		if _, ok := latest(h, id, "load", at); ok {
			t.Error("a damaged file was read")
		}
		if _, err := os.Stat(path + ".damaged"); err != nil {
			t.Error(err)
		}
		h.saveFigures()
	}
}

func TestWhatOneHostDidNotMeasureAnotherOneMay(t *testing.T) {
	p := func(v float64) *float64 { return &v }
	got := merged([]*float64{p(1), nil, nil}, []*float64{p(9), p(2), nil, p(4)})
	if len(got) != 3 || *got[0] != 1 || *got[1] != 2 || got[2] != nil {
		t.Errorf("%v", got)
	}
	if merged(nil, got) == nil {
		t.Error("of one host alone nothing is left")
	}
	if v := shown([]float32{1.23456e9})[0]; *v != 1.235e9 {
		t.Errorf("%v", *v)
	}
}

func TestThisComputerIsMeasured(t *testing.T) {
	busy, all, ok := processorTimes()
	size, free, okM := memorySizes()
	if !ok || !okM || busy <= 0 || busy > all || free <= 0 || free > size {
		t.Errorf("processors %v of %v, memory %v of %v free", busy, all, free, size)
	}
	for kind, of := range metrics() {
		for name := range of {
			if len(name) > series.MaxMetric || strings.ToLower(name) != name {
				t.Errorf("%s %s", kind, name)
			}
		}
	}
}
