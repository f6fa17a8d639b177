// Command fuzz runs the fuzz targets of everything that reads bytes from
// outside or from a disk, each for many minutes, and keeps what is worth it of
// the inputs that they found.
//
// The go command stores every input that reached new code below its build
// cache (go env GOCACHE, directory fuzz), from where the next run goes on. Of
// those a small set that reaches as much is copied into the package's
// testdata/fuzz, where every test run plays it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	minutes := flag.Float64("minutes", 20, "how long each target runs; 0 only keeps what earlier runs found")
	jobs := flag.Int("jobs", 1, "how many targets run at once, each on one processor")
	only := flag.String("run", "", "only targets whose package and name match this `regexp`")
	flag.Parse()
	if err := campaign(ctx, time.Duration(*minutes*float64(time.Minute)), *jobs, *only); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

// campaign runs the targets and prints one line for each.
func campaign(ctx context.Context, d time.Duration, jobs int, only string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var mu sync.Mutex
	var wrong []error
	var all sync.WaitGroup
	lanes := make(chan struct{}, max(1, jobs))
	for _, t := range targets() {
		if !match.MatchString(t.pkg + " " + t.name) {
			continue
		}
		lanes <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			line, err := b.campaign(ctx, t, d)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s %s: %w", t.pkg, t.name, err))
			}
			fmt.Println(line)
			<-lanes
		})
	}
	all.Wait()
	return errors.Join(append(wrong, ctx.Err())...)
}

// campaign runs one target, keeps its corpus, and says in a line what came of
// it. An error is a finding, or that it could not be run.
func (b *bench) campaign(ctx context.Context, t target, d time.Duration) (string, error) {
	var r result
	var err error
	if d > 0 {
		r, err = b.fuzz(ctx, t, d)
	}
	verdict := "no finding"
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errNoTime):
		verdict = "no finding, broken off"
	case err != nil:
		verdict = "FOUND SOMETHING"
	}
	if r.stalls > 0 {
		verdict += fmt.Sprintf(" (%d stalls of the machine)", r.stalls)
	}
	kept, kerr := b.keep(ctx, t)
	if d == 0 {
		return fmt.Sprintf("%-26s %-22s %2d kept", t.pkg, t.name, kept), kerr
	}
	return fmt.Sprintf("%-26s %-22s %5.1f min  %10d executions  %4d new of %4d, %2d kept  %s",
		t.pkg, t.name, r.ran.Minutes(), r.execs, r.fresh, r.total, kept, verdict), errors.Join(err, kerr)
}
