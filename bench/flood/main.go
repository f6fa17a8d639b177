// Command flood measures what one volume feels of another one's flood: how long
// its requests take at depth 1, alone and beside reads and writes of a volume on
// the same disks, written from the same host or from another one; and how two
// floods share a disk by weight. It brings up a lab of two hosts and goes through
// NBD; every volume has a copy on each host. See docs/BENCHMARKS.md.
//
//	go run ./bench/flood -runs 3 -seconds 1
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// settings are what the flags say.
type settings struct {
	binary, dir, only, by string
	runs                  int
	seconds               float64
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		if err := child(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "flood:", err)
			os.Exit(1)
		}
		return
	}
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/holdfast", "`program` to measure")
	flag.StringVar(&s.dir, "dir", "/tmp", "`directory` for the lab, which is removed afterwards; a short path")
	flag.StringVar(&s.only, "only", "", "measure only rows with this `text` in them, and those without a flood")
	flag.StringVar(&s.by, "by", "", "`command` that runs the floods, for instance 'chrt -r 1'")
	flag.IntVar(&s.runs, "runs", 3, "turns of every row")
	flag.Float64Var(&s.seconds, "seconds", 1, "`seconds` of a turn")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench/flood:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	if flag.NArg() > 0 || s.runs < 1 || s.runs > 1000 || s.seconds < 0.01 || s.seconds > 3600 {
		return holdfast.Errorf(holdfast.Invalid, "%q, -runs %d, -seconds %v: 1 to 1000 turns of 0.01 seconds to an hour, and nothing else", flag.Args(), s.runs, s.seconds)
	}
	b, err := newBed(ctx, s)
	if err != nil {
		return err
	}
	defer b.end()
	all := rows()
	for range s.runs {
		for i := range all {
			r := &all[i]
			if s.only != "" && r.flood.depth > 0 && !strings.Contains(r.String(), s.only) {
				continue
			}
			if err := b.turn(ctx, r); err != nil {
				return fmt.Errorf("%s: %w", r, err)
			}
		}
	}
	shares, err := b.shares(ctx)
	if err != nil {
		return err
	}
	printRows(os.Stdout, all)
	printShares(os.Stdout, shares)
	return nil
}

// turn measures a row once more.
func (b *bed) turn(ctx context.Context, r *row) error {
	if err := b.weigh(ctx, r.weight); err != nil {
		return err
	}
	from := b.near
	if r.far {
		from = b.far
	}
	length := time.Duration(b.seconds * float64(time.Second))
	var rate float64
	var took []float64
	err := beside(b.flooder(), from.socket, r.flood, &rate, func() (err error) {
		took, err = measure(b.victim.disk, r.victim, length)
		return err
	})
	if err != nil {
		return err
	}
	r.add(took, rate)
	return nil
}
