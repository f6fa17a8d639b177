package serve

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/series"
)

const (
	figuresFile = "figures"
	figuresKeep = 5 * time.Minute // what is lost of them with the process, at most
)

// metrics are what is kept over time, of what kind of thing, and their units.
func metrics() map[string]map[string]string {
	return map[string]map[string]string{
		"vm": {"cpu": "processors", "memory": "bytes", "disk_read": "bytes/s", "disk_written": "bytes/s", "net_received": "bytes/s", "net_sent": "bytes/s"},
		"volume": {"reads": "requests/s", "writes": "requests/s", "read_bytes": "bytes/s", "written_bytes": "bytes/s",
			"read_latency": "seconds", "write_latency": "seconds", "flush_latency": "seconds"},
		"host": {"cpu": "ratio", "load": "load", "memory_used": "bytes", "memory_size": "bytes", "disk_used": "bytes", "disk_size": "bytes"},
	}
}

// figures are what a host measures of itself and of what it has, over time.
type figures struct {
	store *series.Store

	mu     sync.Mutex
	usage  map[holdfast.VMID]hypervisor.Usage // of the machines of this host, as they told last
	last   map[series.Key]float64             // counters, as they were the last time
	lastAt time.Time
}

// openFigures reads what a host has measured before. A file that cannot be read is
// set aside: figures are worth no host that does not start.
func (h *Host) openFigures() *figures {
	f := &figures{store: series.New(), last: map[series.Key]float64{}}
	path := h.dir.file(figuresFile)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f
	}
	if err == nil && st.Size() > series.MaxFile() {
		err = holdfast.Errorf(holdfast.Corrupt, "file of figures: %d bytes, more than one has", st.Size())
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err == nil {
		var old *series.Store
		if old, err = series.Decode(b); err == nil {
			f.store = old
			return f
		}
	}
	h.log.Warn("what this host has measured before cannot be read and is set aside", "file", path, "error", err)
	_ = os.Rename(path, path+".damaged") // or it is written over
	return f
}

// saveFigures writes them without syncing: after a power cut the file is the old
// one, the new one or one that is set aside.
func (h *Host) saveFigures() {
	path := h.dir.file(figuresFile)
	err := os.WriteFile(path+".new", h.figures.store.Encode(), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		h.log.Warn("what this host has measured was not written", "error", err)
	}
}

// keepFigures measures until the member stops.
func (h *Host) keepFigures(m *member) {
	step := time.Duration(series.Rings()[0].Step) * time.Second
	tick := time.NewTicker(step)
	defer tick.Stop()
	saved := time.Now()
	defer h.saveFigures()
	for {
		h.measureOnce(m)
		if time.Since(saved) >= figuresKeep {
			h.saveFigures()
			saved = time.Now()
		}
		select {
		case <-m.done:
			return
		case <-tick.C:
		}
	}
}

// counters collects what rates are made of: the difference to the last time, by
// the seconds since.
type counters struct {
	f     *figures
	now   map[series.Key]float64
	secs  float64 // since the last time; 0: there was none
	gauge map[series.Key]float64
}

// begin begins to collect what is measured at a time.
func (f *figures) begin(at time.Time) *counters {
	c := &counters{f: f, now: map[series.Key]float64{}, gauge: map[series.Key]float64{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.lastAt.IsZero() {
		c.secs = at.Sub(f.lastAt).Seconds() // by the monotonic clock
	}
	f.lastAt = at
	return c
}

// set notes a figure as it is.
func (c *counters) set(of holdfast.UUID, metric string, v float64) {
	c.gauge[series.Key{Subject: of, Metric: metric}] = v
}

// rate notes how fast a counter has grown. One that is new, or has begun anew, says
// nothing yet.
func (c *counters) rate(of holdfast.UUID, metric string, v float64) {
	if d, ok := c.grown(of, metric, v); ok && c.secs > 0 {
		c.set(of, metric, d/c.secs)
	}
}

// mean notes a sum by the number of what it is a sum of, both as they have grown.
func (c *counters) mean(of holdfast.UUID, metric string, sum, n float64) {
	d, ok := c.grown(of, metric, sum)
	k, okN := c.grown(of, metric+" n", n)
	if ok && okN && k > 0 {
		c.set(of, metric, d/k)
	}
}

func (c *counters) grown(of holdfast.UUID, metric string, v float64) (float64, bool) {
	k := series.Key{Subject: of, Metric: metric}
	c.now[k] = v
	was, ok := c.f.last[k]
	return v - was, ok && v >= was
}

// end keeps what was collected. Only one collects at a time.
func (c *counters) end(at time.Time) {
	c.f.last = c.now
	c.f.store.Add(at, c.gauge)
}

// usageOf is what a machine of this host has used when it was asked last.
func (f *figures) usageOf(vm holdfast.VMID) (hypervisor.Usage, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.usage[vm]
	return u, ok
}
