package drill

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

func splitCmd(getenv func(string) string) *cobra.Command {
	var o SplitOptions
	c := &cobra.Command{Use: "split", Short: "Cut a rack off that runs guests, and connect it again",
		Long: `Make some VMs in a lab with a network of its own, let them write, and cut the
rack of one of them off from all others: it lives on. Its guests must be taken
over elsewhere and be held where they were, all others must not notice. Then
the rack is connected again, and one machine of each VM must write on.

What is judged is what the guests' machines say at their own hosts, the ones
that are cut off too: who wrote when, and what each boot found on its disk.

Exit status 0 only if nothing acknowledged was lost, no VM was written by two
machines, the rack's machines were held in time, and nothing was moved that did
not have to be. The VMs are removed in the end.`,
		Example: "  holdfast lab up --netns\n  holdfast drill split\n  holdfast drill split --isolation off -o json",
	}
	check := func() error {
		if o.Guests < 2 || o.Guests > 20 {
			return holdfast.Errorf(holdfast.Invalid, "--guests %d: give 2 to 20, so that there is one in the rack and one elsewhere", o.Guests)
		}
		if !slices.Contains([]string{"pause", "off", "leave"}, o.Isolation) {
			return holdfast.Errorf(holdfast.Invalid, "--isolation %q: it can be pause, off or leave", o.Isolation)
		}
		return nil
	}
	f := c.Flags()
	f.IntVar(&o.Guests, "guests", 4, "how many VMs")
	f.StringVar(&o.Isolation, "isolation", "pause", "what cut-off hosts do with their machines: pause, off or leave")
	f.DurationVar(&o.Hold, "hold", 2*time.Second, "how long the rack stays cut off when its guests run elsewhere")
	return played(c, getenv, check, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		return Split(ctx, o)
	})
}

// print prints the report for people.
func (r SplitReport) print(out io.Writer) error {
	if r.Rack == "" {
		return nil // nothing has been cut yet
	}
	fmt.Fprintf(out, "Rack %s was cut off while it ran guests, and connected again.\n\n", r.Rack)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "VM\tFROM\tTO\tACKNOWLEDGED\tFOUND\tLONGEST PAUSE")
	for _, g := range r.Guests {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%.1f s\n", g.VM, g.From, g.To, g.Acked, g.Found, g.Away)
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintln(out, "\nThe drill is passed: nothing acknowledged was lost, one machine wrote, nobody else noticed.")
	}
	return nil
}
