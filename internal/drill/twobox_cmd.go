package drill

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

func twoBoxCmd(getenv func(string) string) *cobra.Command {
	var o TwoBoxOptions
	var dir string
	c := &cobra.Command{Use: "two-box", Short: "Lose either of two racks, the witness, and everything at once", Args: cobra.NoArgs,
		Long: `In a lab of two racks and a witness, let probe guests write and pull the plug of
the witness, of the rack that runs the guests, of the other one, and of
everything at once; after that at first only one rack and the witness come back.
Each time report when the guests served again and whether everything they had
acknowledged was there, and start what was lost again. --quick loses only the
witness and the rack of the first guest.

Exit status 0 only if nothing acknowledged was lost, nothing was corrupt, and
never two machines wrote.`,
		Example: "  holdfast lab up --racks 2 --witness\n  holdfast drill two-box\n  holdfast drill two-box --quick\n  holdfast drill two-box --times 5 -o json",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := checkTimes(o.Times); err != nil {
				return err
			}
			if o.Lab, o.Binary, err = open(dir, getenv); err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			r, err := RunTwoBox(cmd.Context(), o)
			if perr := show(cmd, r); perr != nil {
				return perr
			}
			if err == nil && !r.OK {
				err = holdfast.Errorf(holdfast.Damaged, "the drill failed: see the checks above; the lab's logs are in %s", o.Lab.Dir)
			}
			return err
		}}
	c.Flags().StringVar(&dir, "dir", "", "`directory` of the lab (default: the current one)")
	c.Flags().IntVar(&o.Times, "times", 1, "how often each of the losses happens")
	c.Flags().BoolVar(&o.Quick, "quick", false, "lose only the witness and the rack of the first guest")
	return c
}

// print prints the report for people.
func (r TwoBox) print(out io.Writer) error {
	for _, l := range r.Losses {
		fmt.Fprintf(out, "%s lost%s.", strings.ToUpper(l.What[:1])+l.What[1:], map[bool]string{true: ", with the leader of the control plane's votes"}[l.KVLeader])
		if len(l.Moved) > 0 {
			fmt.Fprintf(out, " It ran %s.", strings.Join(l.Moved, ", "))
		}
		fmt.Fprintln(out)
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		for _, m := range l.Timeline {
			fmt.Fprintf(w, "  %+6.1f s\t%s\t%s\n", m.After, m.What, m.Text)
		}
		if err := w.Flush(); err != nil {
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
