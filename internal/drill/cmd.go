package drill

import (
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
	root.AddCommand(rackLoss(getenv))
	return root
}

func rackLoss(getenv func(string) string) *cobra.Command {
	var o Options
	var dir string
	c := &cobra.Command{Use: "rack-loss", Short: "Pull the plug of the rack that runs a VM", Args: cobra.NoArgs,
		Long: `Make a VM in the lab, let it write, pull the plug of the rack it runs in, and
report when it was back elsewhere and whether everything it had acknowledged
was. Then start the rack again and check everything once more.

Exit status 0 only if nothing acknowledged was lost, nothing was corrupt, and
never two machines wrote.`,
		Example: "  holdfast lab up\n  holdfast drill rack-loss\n  holdfast drill rack-loss --guest debian -o json",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if dir == "" {
				dir = lab.DefaultDir(getenv)
			} else if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			if o.Lab, err = lab.Open(dir); err != nil {
				return err
			}
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			r, err := Run(cmd.Context(), o)
			format, ferr := cmd.Flags().GetString("output")
			if perr := r.print(cmd.OutOrStdout(), ferr == nil && format == "json"); perr != nil {
				return perr
			}
			if err == nil && !r.OK {
				err = holdfast.Errorf(holdfast.Damaged, "the drill failed: see the checks above; the lab's logs are in %s", dir)
			}
			return err
		}}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "`directory` of the lab (default: the current one)")
	f.StringVar(&o.Guest, "guest", "probe", "probe (tiny, ours) or debian (with PostgreSQL)")
	f.StringVar(&o.ImageFile, "image-file", "build/debian.raw", "raw Debian disk `file`, if the cluster has no image called debian")
	f.BoolVar(&o.Keep, "keep-dead", false, "leave the killed rack dead")
	return c
}

// print prints the report for people, or as JSON.
func (r Report) print(out io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	if r.Rack == "" {
		return nil // nothing has been broken yet
	}
	fmt.Fprintf(out, "Rack %s was killed while it ran VM %s on host %s.\n\n", r.Rack, r.VM, r.From)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, m := range r.Timeline {
		fmt.Fprintf(w, "  %+6.1f s\t%s\t%s\n", m.After, m.What, m.Text)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nSent again to restore redundancy: %.1f MiB. Acknowledged before the loss: %d; there afterwards: %d.\n", float64(r.Resent)/(1<<20), r.Acked, r.Found)
	if s, ok := r.after("service answering"); ok && r.ColdBoot > 0 {
		fmt.Fprintf(out, "From the loss to the first answer: %.1f s; a first boot took %.1f s (ratio %.2f).\n", s, r.ColdBoot, s/r.ColdBoot)
	}
	fmt.Fprintln(out)
	for _, c := range r.Checks {
		fmt.Fprintf(out, "%-4s  %s: %s\n", map[bool]string{true: "ok", false: "FAIL"}[c.OK], c.What, c.Text)
	}
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
