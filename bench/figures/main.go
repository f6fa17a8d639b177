// Command figures measures what Holdfast says of itself: how fast a rack's
// loss is mended, what an idle host costs, what a clone and a resync take. It
// brings up a lab of its own and takes it down again; `make figures` runs it.
// Nothing else should run on the machine meanwhile.
//
//	go run ./bench/figures                                  everything but the long load
//	go run ./bench/figures -saturate 30m                    that, too
//	go run ./bench/figures -only rack-loss,debian -times 5
//
// Figures are reported with what was aimed at; the exit status is 0 also where
// one is missed, but not where a drill lost something.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// settings are what the flags say.
type settings struct {
	binary, debian, format string
	only                   []string
	ups, times, debians    int
	imageGiB               int64
	idle, away, saturate   time.Duration
}

// parts are what can be measured, in the order in which it is done.
func parts() []string { return []string{"lab", "clone", "resync", "rack-loss", "debian", "saturate"} }

func main() {
	var s settings
	only := flag.String("only", strings.Join(parts(), ","), "`parts` to measure")
	flag.StringVar(&s.binary, "binary", "bin/holdfast", "`program` to measure")
	flag.StringVar(&s.debian, "debian-image", "build/debian.raw", "raw disk `file` of the Debian guest")
	flag.StringVar(&s.format, "o", "text", "text or json")
	flag.IntVar(&s.ups, "ups", 3, "how often a lab is brought up")
	flag.IntVar(&s.times, "times", 20, "how many rack-loss drills with the probe guest")
	flag.IntVar(&s.debians, "debians", 5, "how many with the Debian guest")
	flag.Int64Var(&s.imageGiB, "image-gib", 64, "size of the image that is cloned, in GiB")
	flag.DurationVar(&s.idle, "idle", 30*time.Second, "over how long idle hosts are watched")
	flag.DurationVar(&s.away, "away", 30*time.Second, "how long a rack is away before its replica is brought up to date")
	flag.DurationVar(&s.saturate, "saturate", 0, "how long guests keep every core busy; 0: not at all")
	flag.Parse()
	s.only = strings.Split(*only, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func (s settings) check() error {
	for _, p := range s.only {
		if !slices.Contains(parts(), p) {
			return holdfast.Errorf(holdfast.Invalid, "-only %q: there are %s", p, strings.Join(parts(), ", "))
		}
	}
	switch {
	case flag.NArg() > 0:
		return holdfast.Errorf(holdfast.Invalid, "%q is too much", flag.Args())
	case s.format != "text" && s.format != "json":
		return holdfast.Errorf(holdfast.Invalid, "-o %q: give text or json", s.format)
	case s.ups < 1 || s.times < 1 || s.debians < 1 || s.imageGiB < 1 || s.imageGiB > 1024 || s.idle <= 0 || s.away <= 0 || s.saturate < 0:
		return holdfast.Errorf(holdfast.Invalid, "counts and times are 1 or more, an image has at most 1024 GiB")
	}
	return nil
}

func (s settings) has(part string) bool { return slices.Contains(s.only, part) }

func run(ctx context.Context, s settings) error {
	if err := s.check(); err != nil {
		return err
	}
	m, err := newMeasurement(s)
	if err != nil {
		return err
	}
	defer m.end()
	err = m.all(ctx)
	if perr := m.report.print(os.Stdout, s.format); err == nil {
		err = perr
	}
	return err
}
