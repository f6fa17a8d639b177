// Command fleet measures the pages and the lists of the API, on simulated fleets
// (`holdfast sim --serve`) of two sizes: how soon the first page can be used in
// Debian's Chromium and what it loads, how soon a commit shows there, and how many
// lists a second a host answers. It prints a table, and with -write puts it into the
// part of docs/BENCHMARKS.md that is its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// size is a fleet that is measured.
type size struct {
	Hosts, Racks, VMs int
	Goal              float64 // ms to the first page
}

func sizes() []size {
	return []size{{8, 4, 60, 1000}, {200, 20, 2000, 2000}}
}

type options struct {
	binary, script, write string
	runs                  int
	lists                 time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/holdfast", "the `program` to measure")
	flag.StringVar(&o.script, "script", "web/test/fleet.js", "what drives the browser")
	flag.StringVar(&o.write, "write", "", "`file` with the part that is to be written anew")
	flag.IntVar(&o.runs, "runs", 7, "how often the page is loaded, and how many commits are awaited")
	flag.DurationVar(&o.lists, "lists", 3*time.Second, "how long each list is asked for, five times")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	r := newReport(o)
	for _, s := range sizes() {
		if err := measure(ctx, o, s, r); err != nil {
			return fmt.Errorf("%d VMs: %w", s.VMs, err)
		}
	}
	r.end()
	fmt.Print(r.markdown())
	if o.write == "" {
		return nil
	}
	return r.put(o.write)
}

// measure measures one fleet.
func measure(ctx context.Context, o options, s size, r *report) error {
	f, err := begin(ctx, o.binary, s)
	if err != nil {
		return err
	}
	defer f.end()
	fmt.Fprintf(os.Stderr, "%d VMs on %d hosts: the page\n", s.VMs, s.Hosts)
	p, err := browse(ctx, o, f)
	if err != nil {
		return err
	}
	of := fmt.Sprintf("%d VMs, %d hosts", s.VMs, s.Hosts)
	r.add(of, "first page can be used", "ms", fmt.Sprintf("≤ %.0f", s.Goal), p.Ready)
	r.add(of, "the same, files in the browser's cache", "ms", "", p.Again)
	r.add(of, "files of the first load, compressed", "kB", "≤ 150", p.Files)
	r.add(of, "the cluster, as the stream tells it", "kB", "", p.Stream)
	r.add(of, "from a commit to the page", "ms", "≤ 1000", p.Commit)
	fmt.Fprintf(os.Stderr, "%d VMs on %d hosts: lists\n", s.VMs, s.Hosts)
	for _, l := range []struct {
		what, goal    string
		tags, changes bool
	}{
		{"lists of the VMs", "≥ 1000", false, false},
		{"the same, with the ETag of the last", "≥ 3000", true, false},
		{"the same without, ten commits a second meanwhile", "", false, true},
		{"the same with, ten commits a second meanwhile", "", true, true},
	} {
		all, err := f.lists(ctx, o.lists, l.tags, l.changes)
		if err != nil {
			return err
		}
		if s.VMs != 60 {
			l.goal = ""
		}
		r.add(of, l.what, "1/s", l.goal, all)
	}
	return nil
}
