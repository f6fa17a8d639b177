package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab"
)

// Command returns `holdfast drill`.
func Command(getenv func(string) string) *cobra.Command {
	root := &cobra.Command{Use: "drill", Short: "Break something on purpose, and see",
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	root.AddCommand(rackLoss(getenv), powerLossCmd(getenv), wipeCmd(getenv), museumCmd(getenv), splitCmd(getenv), twoBoxCmd(getenv), saturate(getenv), tortureCmd(getenv), soakCmd(getenv))
	return root
}

// Site is where a drill is played, and with what.
type Site struct {
	Lab      *lab.Lab
	Binary   string    // of holdfast, to start hosts again
	Progress io.Writer // what is being done, a line each
}

// outcome is what came of a drill.
type outcome interface {
	print(out io.Writer) error
	passed() bool
}

func (r Report) passed() bool       { return r.OK }
func (s Series) passed() bool       { return s.OK }
func (s Saturation) passed() bool   { return s.OK }
func (s PowerSeries) passed() bool  { return s.OK }
func (r WipeReport) passed() bool   { return r.OK }
func (r SplitReport) passed() bool  { return r.OK }
func (r TwoBox) passed() bool       { return r.OK }
func (r MuseumReport) passed() bool { return r.OK }

// played makes c the command of a drill: once check has nothing against the
// flags, it plays the drill in the lab of --dir, shows what came of it, and fails
// if the drill is not passed.
func played(c *cobra.Command, getenv func(string) string, check func() error, play func(context.Context, Site) (outcome, error)) *cobra.Command {
	dir := c.Flags().String("dir", "", "`directory` of the lab (default: the current one)")
	c.Args = cobra.NoArgs
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := check(); err != nil {
			return err
		}
		at, err := open(*dir, getenv)
		if err != nil {
			return err
		}
		at.Progress = cmd.ErrOrStderr()
		r, err := play(cmd.Context(), at)
		if perr := show(cmd, r); perr != nil {
			return perr
		}
		if err == nil && !r.passed() {
			err = holdfast.Errorf(holdfast.Damaged, "the drill failed: see the checks above; the lab's logs are in %s", at.Lab.Dir)
		}
		return err
	}
	return c
}

// checkTimes bounds --times.
func checkTimes(n int) error {
	if n < 1 || n > 1000 {
		return holdfast.Errorf(holdfast.Invalid, "--times %d: give 1 to 1000", n)
	}
	return nil
}

// checkGuests bounds --guests.
func checkGuests(n int) error {
	if n < 1 || n > maxProbes {
		return holdfast.Errorf(holdfast.Invalid, "--guests %d: give 1 to %d", n, maxProbes)
	}
	return nil
}

func rackLoss(getenv func(string) string) *cobra.Command {
	var o Options
	times := 1
	c := &cobra.Command{Use: "rack-loss", Short: "Pull the plug of the rack that runs a VM",
		Long: `Make a VM in the lab, let it write, pull the plug of the rack it runs in, and
report when it was back elsewhere and whether everything it had acknowledged
was. Then start the rack again and check everything once more.

With --times the drill is repeated, each time from a healthy start; three of
ten kill the rack whose host leads the control plane. Medians and worst cases
are reported, and the VM is removed in the end.

Exit status 0 only if nothing acknowledged was lost, nothing was corrupt, and
never two machines wrote.`,
		Example: "  holdfast lab up\n  holdfast drill rack-loss\n  holdfast drill rack-loss --guest debian -o json\n  holdfast drill rack-loss --times 20",
	}
	f := c.Flags()
	f.StringVar(&o.Guest, "guest", "probe", "probe (tiny, ours) or debian (with PostgreSQL)")
	f.StringVar(&o.ImageFile, "image-file", "build/debian.raw", "raw Debian disk `file`, if the cluster has no image called debian")
	f.BoolVar(&o.Keep, "keep-dead", false, "leave the killed rack dead")
	f.BoolVar(&o.Leader, "leader", false, "kill the rack whose host leads the control plane")
	f.IntVar(&times, "times", 1, "how often")
	c.MarkFlagsMutuallyExclusive("times", "keep-dead")
	return played(c, getenv, func() error { return checkTimes(times) }, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		if times == 1 {
			return Run(ctx, o)
		}
		return Repeat(ctx, o, times)
	})
}

// open finds the lab, and the program that runs.
func open(dir string, getenv func(string) string) (at Site, err error) {
	if dir == "" {
		dir = lab.DefaultDir(getenv)
	} else if dir, err = filepath.Abs(dir); err != nil {
		return at, err
	}
	if at.Lab, err = lab.Open(dir); err != nil {
		return at, err
	}
	at.Binary, err = os.Executable()
	return at, err
}

// show prints a report for people, or as JSON if that was asked for.
func show(cmd *cobra.Command, r outcome) error {
	out := cmd.OutOrStdout()
	if format, err := cmd.Flags().GetString("output"); err == nil && format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.print(out)
}

// print prints the series for people.
func (s Series) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DRILL\tRACK\tLEADER LOST\tDETECTED\tRUNNING\tREADY\tANSWERING\tREDUNDANT\tSENT AGAIN\tRESULT")
	for i, r := range s.Rounds {
		fmt.Fprintf(w, "%d\t%s\t%s", i+1, r.Rack, map[bool]string{true: "yes", false: "-"}[r.KVLeader])
		for _, what := range []string{"loss detected", "VM process running", "guest ready", "service answering", "redundancy back"} {
			if v, ok := r.after(what); ok {
				fmt.Fprintf(w, "\t%.1f s", v)
			} else {
				fmt.Fprint(w, "\t-")
			}
		}
		fmt.Fprintf(w, "\t%.1f MiB\t%s\n", float64(r.Resent)/(1<<20), map[bool]string{true: "ok", false: "FAIL"}[r.OK])
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	if err := PrintFigures(out, s.Figures); err != nil {
		return err
	}
	fmt.Fprintln(out)
	printChecks(out, s.Checks)
	for i, r := range s.Rounds {
		if !r.OK {
			fmt.Fprintf(out, "\nDrill %d failed:\n", i+1)
			if err := r.print(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// PrintFigures prints figures as a table.
func PrintFigures(out io.Writer, figures []Figure) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tMEDIAN\tWORST\tOF")
	for _, f := range figures {
		fmt.Fprintf(w, "%s\t%.1f %s\t%.1f %s\t%d\n", f.What, f.Median, f.Unit, f.Worst, f.Unit, f.Rounds)
	}
	return w.Flush()
}

func printMarks(out io.Writer, marks []Mark) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, m := range marks {
		fmt.Fprintf(w, "  %+6.1f s\t%s\t%s\n", m.After, m.What, m.Text)
	}
	return w.Flush()
}

func printChecks(out io.Writer, checks []Check) {
	for _, c := range checks {
		fmt.Fprintf(out, "%-4s  %s: %s\n", map[bool]string{true: "ok", false: "FAIL"}[c.OK], c.What, c.Text)
	}
}

// print prints the report for people.
func (r Report) print(out io.Writer) error {
	if r.Rack == "" {
		return nil // nothing has been broken yet
	}
	fmt.Fprintf(out, "Rack %s was killed while it ran VM %s on host %s.\n\n", r.Rack, r.VM, r.From)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nSent again to restore redundancy: %.1f MiB. Acknowledged before the loss: %d; there afterwards: %d.\n", float64(r.Resent)/(1<<20), r.Acked, r.Found)
	if s, ok := r.after("service answering"); ok && r.ColdBoot > 0 {
		fmt.Fprintf(out, "From the loss to the first answer: %.1f s; a first boot took %.1f s (ratio %.2f).\n", s, r.ColdBoot, s/r.ColdBoot)
	}
	fmt.Fprintln(out)
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintln(out, "\nThe drill is passed: nothing acknowledged was lost, nothing is corrupt, one machine wrote.")
	}
	return nil
}

func (r Report) after(what string) (float64, bool) {
	for _, m := range r.Timeline {
		if m.What == what {
			return m.After, true
		}
	}
	return 0, false
}
