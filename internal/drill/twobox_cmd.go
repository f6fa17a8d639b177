package drill

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func twoBoxCmd(getenv func(string) string) *cobra.Command {
	var o TwoBoxOptions
	c := &cobra.Command{Use: "two-box", Short: "Lose either of two racks, the witness, and everything at once",
		Long: `In a lab of two racks and a witness, let probe guests write and pull the plug of
the witness, of the rack that runs the guests, of the other one, and of
everything at once; after that at first only one rack and the witness come back.
Each time report when the guests served again and whether everything they had
acknowledged was there, and start what was lost again. --quick loses only the
witness and the rack of the first guest.

Exit status 0 only if nothing acknowledged was lost, nothing was corrupt, and
never two machines wrote.`,
		Example: "  holdfast lab up --racks 2 --witness\n  holdfast drill two-box\n  holdfast drill two-box --quick\n  holdfast drill two-box --times 5 -o json",
	}
	c.Flags().IntVar(&o.Times, "times", 1, "how often each of the losses happens")
	c.Flags().BoolVar(&o.Quick, "quick", false, "lose only the witness and the rack of the first guest")
	return played(c, getenv, func() error { return checkTimes(o.Times) }, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		return RunTwoBox(ctx, o)
	})
}

// print prints the report for people.
func (r TwoBox) print(out io.Writer) error {
	for _, l := range r.Losses {
		fmt.Fprintf(out, "%s lost%s.", strings.ToUpper(l.What[:1])+l.What[1:], map[bool]string{true: ", with the leader of the control plane's votes"}[l.KVLeader])
		if len(l.Moved) > 0 {
			fmt.Fprintf(out, " It ran %s.", strings.Join(l.Moved, ", "))
		}
		fmt.Fprintln(out)
		if err := printMarks(out, l.Timeline); err != nil {
			return err
		}
		if l.Said != "" {
			fmt.Fprintf(out, "  Said meanwhile: %s\n", l.Said)
		}
		fmt.Fprintln(out)
	}
	if len(r.Figures) > 0 {
		if err := PrintFigures(out, r.Figures); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintln(out, "\nThe drill is passed: nothing acknowledged was lost, nothing is corrupt, one machine wrote.")
	}
	return nil
}
