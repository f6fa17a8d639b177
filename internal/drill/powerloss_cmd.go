package drill

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func powerLossCmd(getenv func(string) string) *cobra.Command {
	o := PowerOptions{}
	times := 1
	c := &cobra.Command{Use: "power-loss", Short: "Take the power of the whole site, and give it back",
		Long: `Let some VMs in the lab write, end every process of every host at once without
warning, and start the hosts again in a random order at random moments. The
drill ends when every guest runs again and has verified its whole disk: every
block that it had reported as flushed must be there, and nothing may be corrupt.

What was in the memory of processes is gone. Hosts write their volumes past the
page cache. What the control plane had written and not synced is gone as well in
a lab that was brought up with --volatile; in any other one it stays in the page
cache, and the drill says so.

The seed is printed, and --seed repeats the order. With --times the drill goes
on with the same guests, the seed one higher each time.

Exit status 0 only if nothing acknowledged was lost, nothing was corrupt, and
every VM runs once.`,
		Example: "  holdfast lab up\n  holdfast drill power-loss\n  holdfast drill power-loss --guests 12 --times 20\n  holdfast drill power-loss --seed 7 -o json\n  holdfast lab up --volatile --dir /tmp/v && holdfast drill power-loss --dir /tmp/v",
	}
	f := c.Flags()
	f.IntVar(&o.Guests, "guests", 3, "how many VMs")
	f.Uint64Var(&o.Seed, "seed", 0, "of the order in which hosts come back (default: a random one)")
	f.IntVar(&times, "times", 1, "how often")
	return played(c, getenv, func() error { return cmp.Or(checkTimes(times), checkGuests(o.Guests)) }, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		if !f.Changed("seed") {
			o.Seed = rand.Uint64N(1 << 32)
		}
		return PowerLoss(ctx, o, times)
	})
}

// print prints the series for people: one round in full, several as a table.
func (s PowerSeries) print(out io.Writer) error {
	if len(s.Rounds) == 0 {
		return nil // nothing has been broken yet
	}
	if len(s.Rounds) > 1 {
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "DRILL\tSEED\tORDER\tLAST HOST UP\tALL VERIFIED\tFLUSHED\tLOST\tRESULT")
		for i, r := range s.Rounds {
			fmt.Fprintf(w, "%d\t%d\t%s\t%.1f s\t+%.1f s\t%d\t%d\t%s\n", i+1, r.Seed, strings.Join(r.Order, ","), r.LastUp, r.Verified, r.Acked, r.Lost, map[bool]string{true: "ok", false: "FAIL"}[r.OK])
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	last := s.Rounds[len(s.Rounds)-1]
	if len(s.Rounds) == 1 || !last.OK {
		if err := last.print(out); err != nil {
			return err
		}
	}
	return PrintFigures(out, s.Figures)
}

// print prints a round for people.
func (r PowerReport) print(out io.Writer) error {
	if r.CutAt.IsZero() {
		return nil
	}
	fmt.Fprintf(out, "All hosts lost power; they came back in the order %s (seed %d).\n\n", strings.Join(r.Order, ", "), r.Seed)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	if !r.Volatile {
		fmt.Fprintln(out, "What the control plane had written and not synced stayed: the lab was not brought up with --volatile.")
	}
	fmt.Fprintln(out)
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintln(out, "\nThe drill is passed: nothing acknowledged was lost, nothing is corrupt, every VM runs once.")
	}
	fmt.Fprintln(out)
	return nil
}
