package drill

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func wipeCmd(getenv func(string) string) *cobra.Command {
	var o WipeOptions
	c := &cobra.Command{Use: "wipe", Short: "Destroy the disks of a rack, and build everything anew on empty ones",
		Long: `Let some VMs in the lab write, kill a rack and destroy its disks. Empty disks are
put in the place of the old ones; with --replace the hosts themselves are gone as
well: they are struck off by 'rack remove --lost', and new ones join. The drill
ends when every copy has been built anew, all copies have been compared, and every
guest was started again and has verified its disk.

Exit status 0 only if nothing acknowledged was lost, all copies are equal, and
every VM runs once.`,
		Example: "  holdfast lab up\n  holdfast drill wipe\n  holdfast drill wipe --rack b --guests 6\n  holdfast drill wipe --replace -o json",
	}
	f := c.Flags()
	f.IntVar(&o.Guests, "guests", 3, "how many VMs")
	f.StringVar(&o.Rack, "rack", "", "`rack` whose disks are destroyed (default: that of the first guest)")
	f.BoolVar(&o.Replace, "replace", false, "the hosts are gone, too: strike them, and let new ones join")
	return played(c, getenv, func() error { return checkGuests(o.Guests) }, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		return Wipe(ctx, o)
	})
}

// print prints the report for people.
func (r WipeReport) print(out io.Writer) error {
	if r.KilledAt.IsZero() {
		return nil // nothing has been broken yet
	}
	what := "got empty disks"
	if r.Replaced {
		what = "was replaced by new hosts"
	}
	fmt.Fprintf(out, "Rack %s (%s) was killed with %d of %d guests, its disks were destroyed, and it %s.\n\n", r.Rack, strings.Join(r.Hosts, ", "), r.Moved, r.Guests, what)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	fmt.Fprintln(out)
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintln(out, "\nThe drill is passed: nothing acknowledged was lost, all copies are equal, every VM runs once.")
	}
	return nil
}
