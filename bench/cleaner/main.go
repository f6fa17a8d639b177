// Command cleaner measures what the cleaner costs: a volume that fills a given
// share of a small disk is overwritten at random, 4 KiB at depth 32, at its own
// interface. It prints the bytes that were written to the disk per byte of the
// guest, apart by what they were for, the least 10 seconds beside the median,
// and how long write+flush takes without and with a cleaner at work; and it
// draws the throughput over time. See docs/BENCHMARKS.md.
//
//	go run ./bench/cleaner -fill 80 -seconds 1200 -svg docs/figures/cleaner.svg
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/bench/alone"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

type settings struct {
	Fill    float64 `json:"fillPercent"`  // share of the usable space that the volume takes, percent
	Size    int64   `json:"diskBytes"`    // of the disk
	Segment int64   `json:"segmentBytes"` // of its segments
	Warm    float64 `json:"warm"`         // overwritten before it is measured, in sizes of the disk
	Seconds float64 `json:"seconds"`      // measured
	Pairs   float64 `json:"pairSeconds"`  // of each measurement of write+flush
	Dir     string  `json:"dir"`
}

func main() {
	var s settings
	flag.Float64Var(&s.Fill, "fill", 80, "`percent` of the space without the reserve that the volume takes")
	flag.Int64Var(&s.Size, "size", 4<<30, "`bytes` of the disk")
	flag.Int64Var(&s.Segment, "segment", 0, "`bytes` of its segments; 0: so that there are about 512")
	flag.Float64Var(&s.Warm, "warm", 2, "overwrite this many `disks` full before measuring")
	flag.Float64Var(&s.Seconds, "seconds", 60, "`length` of the measurement")
	flag.Float64Var(&s.Pairs, "pairs", 5, "`length` of each measurement of write+flush; 0: none")
	flag.StringVar(&s.Dir, "dir", ".cache/bench", "`directory` for the disk; it is removed afterwards")
	svg := flag.String("svg", "", "draw the throughput into this `file`")
	asJSON := flag.String("json", "", "also write the results to this `file`")
	flag.Parse()
	if err := run(s, *svg, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "bench/cleaner:", err)
		os.Exit(1)
	}
}

func (s *settings) check() error {
	if s.Segment == 0 {
		s.Segment = 256 << 10
		for s.Segment*1024 <= s.Size && s.Segment < 16<<20 {
			s.Segment *= 2
		}
	}
	switch {
	case s.Fill < 1 || s.Fill > 95:
		return fmt.Errorf("-fill %v: need 1 to 95 percent", s.Fill)
	case s.Size < 64<<20 || s.Size > 1<<40:
		return fmt.Errorf("-size %d: need 64 MiB to 1 TiB", s.Size)
	case s.Seconds < 1 || s.Seconds > 86400 || s.Warm < 0 || s.Warm > 100 || s.Pairs < 0 || s.Pairs > 3600:
		return fmt.Errorf("-seconds, -warm or -pairs is out of range")
	}
	return nil
}

func run(s settings, svg, asJSON string) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	res, err := measure(s)
	if err != nil {
		return err
	}
	res.print(os.Stdout)
	if asJSON != "" {
		b, err := json.MarshalIndent(res, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(asJSON, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if svg != "" {
		return os.WriteFile(svg, []byte(res.plot()), 0o644)
	}
	return nil
}

// measure goes through the stages on a fresh disk.
func measure(s settings) (*result, error) {
	dir, err := os.MkdirTemp(s.Dir, "cleaner")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	blocks, err := blocksFor(dir, s)
	if err != nil {
		return nil, err
	}
	v, err := alone.Open(filepath.Join(dir, "disk"), s.Size, s.Segment, blocks)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	l := &alone.Load{Disk: v.Disk, Blocks: blocks}
	res := &result{Settings: s, Segments: int(v.Store.Usage().Total / s.Segment)}
	if err := l.Fill(); err != nil {
		return nil, fmt.Errorf("filling the volume: %w", err)
	}
	if res.Idle, err = l.Pairs(s.Pairs, 0); err != nil {
		return nil, err
	}
	for warm := v.Store.Usage(); float64(v.Store.Usage().Since(warm).Appended) < s.Warm*float64(s.Size); {
		if _, err := l.Overwrite(1, nil); err != nil {
			return nil, err
		}
	}
	before := v.Store.Usage()
	res.MiBps, err = l.Overwrite(s.Seconds, func() int64 { return v.Store.Usage().Appended })
	if err != nil {
		return nil, err
	}
	res.written(v.Store.Usage().Since(before))
	res.windows()
	if res.Cleaning, err = l.Pairs(s.Pairs, int(res.Median*(1<<20)/holdfast.BlockSize/4)); err != nil {
		return nil, err
	}
	return res, nil
}

// blocksFor is how many blocks a volume of the wanted share has.
func blocksFor(dir string, s settings) (uint64, error) {
	v, err := alone.Open(filepath.Join(dir, "empty"), s.Size, s.Segment, 1)
	if err != nil {
		return 0, err
	}
	defer v.Close()
	return uint64(float64(v.Store.Usage().Usable) * s.Fill / 100 / holdfast.BlockSize), nil
}

// written takes over what the store says it wrote.
func (r *result) written(u store.Usage) {
	part := func(n int64) float64 { return float64(n) / float64(u.Appended) }
	r.Guest = u.Appended
	r.Amp = amplification{Total: u.WriteAmp(), Data: u.DataAmp(), Map: u.MapAmp(), Log: part(u.Log), Cleaned: part(u.Cleaned), Catalog: part(u.Catalog), Zeroed: part(u.Zeroed)}
}
