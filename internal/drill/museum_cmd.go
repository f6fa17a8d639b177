package drill

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func museumCmd(getenv func(string) string) *cobra.Command {
	o := MuseumOptions{}
	c := &cobra.Command{Use: "museum", Short: "Destroy two of three racks for good, and recover from the third",
		Long: `Let some VMs in the lab write, with a copy in each of three racks; end every
process of two racks at once and wipe their disks; rebuild the control plane with
'holdfast cluster recover' on the rack that is left. When every guest runs again
and has verified its whole disk, new hosts join in the place of the destroyed ones
and all copies are built anew.

Exit status 0 only if nothing acknowledged was lost, nothing was corrupt, and
every VM runs once.`,
		Example: "  holdfast lab up\n  holdfast drill museum\n  holdfast drill museum --guests 12 --keep-dead\n  holdfast drill museum --survivor b -o json",
	}
	f := c.Flags()
	f.IntVar(&o.Guests, "guests", 3, "how many VMs")
	f.StringVar(&o.Survivor, "survivor", "", "`rack` that is left (default: one by chance)")
	f.BoolVar(&o.Keep, "keep-dead", false, "put no new hosts where the destroyed ones stood")
	return played(c, getenv, func() error { return checkGuests(o.Guests) }, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		return Museum(ctx, o)
	})
}

// print prints the report for people.
func (r MuseumReport) print(out io.Writer) error {
	if r.KilledAt.IsZero() {
		return nil // nothing has been broken yet
	}
	fmt.Fprintf(out, "Of three racks one was left; the control plane was rebuilt on host %s.\n\n", r.Survivor)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	if r.Verified > 0 {
		fmt.Fprintf(out, "\nFrom the command to all %d guests verified: %.1f s.\n\n", r.Guests, r.Verified)
	}
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintln(out, "\nThe drill is passed: nothing acknowledged was lost, nothing is corrupt, every VM runs once.")
	}
	return nil
}
