// Command rebuild measures how fast a copy of a volume is built, beside how fast
// the volume is written, and how long write+flush takes beside a rebuild and
// beside a scrub, at the volume's own interface. All disks are files in one
// directory. See docs/BENCHMARKS.md.
//
//	go run ./bench/rebuild -size 1073741824
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/bench/alone"
)

type settings struct {
	Size  int64   `json:"volumeBytes"`
	Pairs float64 `json:"pairSeconds"` // of write+flush without anything beside
	Dir   string  `json:"dir"`
}

// result is what was measured.
type result struct {
	Settings settings       `json:"settings"`
	Write    float64        `json:"writeMiBps"`   // sequential, 1 MiB, then flushed
	Beside   float64        `json:"besideMiBps"`  // rebuild beside one client's write+flush
	Rebuild  float64        `json:"rebuildMiBps"` // and with nothing beside it
	Idle     *alone.Latency `json:"idle"`
	Built    *alone.Latency `json:"besideRebuild"`
	Scrubbed *alone.Latency `json:"besideScrub"`
	Again    *alone.Latency `json:"idleAfterwards"` // with three copies
	Limits   map[string]int `json:"limitedBy"`      // what held the rebuild down, times seen
}

func main() {
	var s settings
	flag.Int64Var(&s.Size, "size", 1<<30, "`bytes` of the volume")
	flag.Float64Var(&s.Pairs, "pairs", 5, "`seconds` of write+flush with nothing beside it")
	flag.StringVar(&s.Dir, "dir", ".cache/bench", "`directory` for the disks; they are removed afterwards")
	asJSON := flag.String("json", "", "also write the results to this `file`")
	flag.Parse()
	if err := run(s, *asJSON, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench/rebuild:", err)
		os.Exit(1)
	}
}

func run(s settings, asJSON string, w io.Writer) error {
	if s.Size < 16<<20 || s.Size > 1<<40 || s.Pairs <= 0 || s.Pairs > 3600 {
		return fmt.Errorf("-size %d or -pairs %v: need 16 MiB to 1 TiB, and up to an hour", s.Size, s.Pairs)
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	res, err := measure(s)
	if err != nil {
		return err
	}
	res.print(w)
	if asJSON == "" {
		return nil
	}
	b, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(asJSON, append(b, '\n'), 0o644)
}

// measure goes through the stages on fresh disks.
func measure(s settings) (*result, error) {
	dir, err := os.MkdirTemp(s.Dir, "rebuild")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	disk := max(2*s.Size, 256<<20)
	segment := min(max(disk>>9&^(256<<10-1), 256<<10), 16<<20)
	for segment&(segment-1) != 0 {
		segment &= segment - 1
	}
	v, err := alone.Open(filepath.Join(dir, "disk1"), disk, segment, uint64(s.Size/holdfast.BlockSize))
	if err != nil {
		return nil, err
	}
	defer v.Close()
	l := &alone.Load{Disk: v.Disk, Blocks: uint64(s.Size / holdfast.BlockSize)}
	r := &result{Settings: s, Limits: make(map[string]int)}
	begin := time.Now()
	if err := l.Fill(); err != nil {
		return nil, fmt.Errorf("filling the volume: %w", err)
	}
	mib := float64(s.Size) / (1 << 20)
	r.Write = mib / time.Since(begin).Seconds()
	if r.Idle, err = l.Pairs(s.Pairs, 0); err != nil {
		return nil, err
	}
	if r.Built, r.Beside, err = r.beside(v, l, filepath.Join(dir, "disk2"), disk, segment, mib); err != nil {
		return nil, err
	}
	time.Sleep(3 * time.Second) // until the foreground is forgotten
	if r.Rebuild, err = rebuild(v, filepath.Join(dir, "disk3"), disk, segment, mib); err != nil {
		return nil, err
	}
	if r.Again, err = l.Pairs(s.Pairs, 0); err != nil {
		return nil, err
	}
	if err := v.Store.Scrub(holdfast.ReplicaID{}); err != nil {
		return nil, err
	}
	end := time.Now().Add(max(time.Duration(s.Pairs*float64(time.Second)), time.Second))
	r.Scrubbed, err = l.PairsWhile(func() bool { return time.Now().Before(end) && v.Store.Scrubbing().Running })
	return r, err
}

// beside lets one client write and flush while a copy is built.
func (r *result) beside(v *alone.Volume, l *alone.Load, path string, disk, segment int64, mib float64) (*alone.Latency, float64, error) {
	if err := v.AddCopy(path, disk, segment); err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	lat, err := l.PairsWhile(func() bool {
		m, inSync := v.Rebuild()
		if m.LimitedBy != "" {
			r.Limits[m.LimitedBy]++
		}
		return inSync < 2
	})
	return lat, mib / time.Since(begin).Seconds(), err
}

// patience is how long a rebuild may take, so that nobody waits for ever.
const patience = time.Hour

// rebuild has a copy built with nothing beside it.
func rebuild(v *alone.Volume, path string, disk, segment int64, mib float64) (float64, error) {
	_, had := v.Rebuild()
	if err := v.AddCopy(path, disk, segment); err != nil {
		return 0, err
	}
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(5 * time.Millisecond) {
		if _, inSync := v.Rebuild(); inSync > had {
			return mib / time.Since(begin).Seconds(), nil
		}
	}
	return 0, fmt.Errorf("a copy was not built within %v", patience)
}

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "volume of %d MiB: sequential write %.0f MiB/s; rebuild %.0f MiB/s (%.2f of it), beside write+flush %.0f MiB/s (%.2f)\n",
		r.Settings.Size>>20, r.Write, r.Rebuild, r.Rebuild/r.Write, r.Beside, r.Beside/r.Write)
	line := func(what string, l, idle *alone.Latency) {
		if l == nil || idle == nil {
			fmt.Fprintf(w, "write+flush %s: it was over before the first pair\n", what)
			return
		}
		fmt.Fprintf(w, "write+flush %s: median %.2f ms, p99 %.2f (%.1f x idle), max %.2f (%d pairs)\n", what, l.Median, l.P99, l.P99/idle.P99, l.Max, l.Count)
	}
	line("idle", r.Idle, r.Idle)
	line("beside a rebuild", r.Built, r.Idle)
	line("idle, three copies", r.Again, r.Again)
	line("beside a scrub of one of them", r.Scrubbed, r.Again)
	fmt.Fprintf(w, "what held the rebuild down, times seen: %v\n", r.Limits)
}
