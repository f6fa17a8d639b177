package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

func soakCmd(getenv func(string) string) *cobra.Command {
	var o SoakOptions
	var file, plot string
	c := &cobra.Command{Use: "soak", Short: "Let many guests work while racks are lost now and then, and see that nothing grows",
		Long: `Let guests work in a lab of its own while every few minutes a rack is killed and
started again, and take samples of what each host's own process takes: memory, open
files, goroutines, and the space used on its disk. The first rack is never killed:
its processes live all the time. Over the last two thirds of that time nothing that
they take may grow by more than a bound.

Exit status 0 only if nothing grew, nothing that was flushed was lost, and everything
was whole again after each loss.`,
		Example: "  make soak MINUTES=60\n  holdfast lab up --racks 4 --hosts-per-rack 2 --disk-gib 1 --dir /tmp/s && holdfast drill soak --dir /tmp/s --for 10m --every 2m --guests 16 --plot soak.svg",
	}
	f := c.Flags()
	f.DurationVar(&o.Lasts, "for", time.Hour, "how long")
	f.DurationVar(&o.Every, "every", 5*time.Minute, "how often a rack is killed")
	f.DurationVar(&o.Down, "down", time.Minute, "how long it stays dead")
	f.IntVar(&o.Guests, "guests", 60, "how many VMs")
	f.IntVar(&o.IOPS, "iops", 0, "limit of each guest's disk, operations a second (default: none)")
	f.Uint64Var(&o.Seed, "seed", 0, "of which rack is killed (default: a random one)")
	f.StringVar(&file, "figures", "", "also write the report to this `file`, as JSON, without its samples")
	f.StringVar(&plot, "plot", "", "draw what was sampled into this `file`, as SVG")
	return played(c, getenv, func() error { return cmp.Or(checkGuests(o.Guests), checkSoak(o)) }, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		if !f.Changed("seed") {
			o.Seed = rand.Uint64N(1 << 32)
		}
		r, err := Soak(ctx, o)
		if r.Begun.IsZero() {
			return r, err
		}
		if plot != "" {
			err = errors.Join(err, os.WriteFile(plot, []byte(r.plot()), 0o644))
		}
		r.Samples = nil // thousands
		if file != "" {
			err = errors.Join(err, r.keep(file))
		}
		return r, err
	})
}

func checkSoak(o SoakOptions) error {
	switch {
	case o.Lasts < time.Minute || o.Lasts > maxFor:
		return holdfast.Errorf(holdfast.Invalid, "--for %v: give 1m to %v", o.Lasts, maxFor)
	case o.Every < 10*time.Second || o.Down < 0 || o.Down >= o.Every:
		return holdfast.Errorf(holdfast.Invalid, "--every %v --down %v: give 10s or more, and less for a rack to be dead", o.Every, o.Down)
	case o.IOPS < 0:
		return holdfast.Errorf(holdfast.Invalid, "--iops %d: give 0 or more", o.IOPS)
	}
	return nil
}

// keep writes the report without what is long.
func (r SoakReport) keep(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(b, '\n'), 0o644)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "the figures of the soak: %w", err)
	}
	return nil
}

// print prints the report for people.
func (r SoakReport) print(out io.Writer) error {
	if r.Begun.IsZero() {
		return nil // it never began
	}
	fmt.Fprintf(out, "%d guests worked on %d hosts for %.1f minutes; a rack was killed %d times (seed %d).\n\n", r.Guests, r.Hosts, r.Minutes, r.Kills, r.Seed)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "OF ITS OWN PROCESS\tHOST\tMEDIAN\tAN HOUR\tBOUND")
	for _, t := range r.Trends {
		fmt.Fprintf(w, "%s\t%s\t%.1f %s\t%+.2f\t%.2f\n", t.What, t.Host, t.Median, t.Unit, t.PerHour, t.Bound)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := PrintFigures(out, r.Figures); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nVMs failed over: %d. Boots of guests: %d. Flushed by guests: %d.\n\n", r.FailOvers, r.Boots, r.Flushed)
	printChecks(out, r.Checks)
	return nil
}
