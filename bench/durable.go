package main

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/bench/alone"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// durable is a volume of one copy in this process, used at its own interface:
// what group commit gives without a protocol in front.
type durable struct{ *alone.Volume }

const (
	durableWriters = 64
	durableBlocks  = 64 << 10 // 256 MiB
)

func startDurable(dir string) (*candidate, error) {
	v, err := alone.Open(filepath.Join(dir, "durable"), 4<<30, 0, durableBlocks)
	if err != nil {
		return nil, err
	}
	return &candidate{name: "Holdfast, in this process", base: rawDisk, durable: &durable{v},
		goals: map[string]goal{"durable write, 64": {0, 8}}}, nil
}

// run lets the writers write single blocks, each durable before its writer's
// next, and returns how many were written per second.
func (d *durable) run(seconds float64) (float64, error) {
	start := time.Now()
	until := start.Add(time.Duration(seconds * float64(time.Second)))
	var written atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for w := range durableWriters {
		all.Go(func() {
			done := make(chan error, 1)
			r := &export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: make([]byte, holdfast.BlockSize), FUA: true,
				Done: func(_ *export.Request, err error) { done <- err }}
			for at := uint64(w); time.Now().Before(until) && failed.Load() == nil; {
				at = at*5 + 12345 + uint64(w)
				r.Off, r.More = int64(at%durableBlocks)*holdfast.BlockSize, false
				d.Disk.Submit(r)
				if err := <-done; err != nil {
					failed.Store(&err)
					return
				}
				written.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(written.Load()) / time.Since(start).Seconds(), nil
}
