package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func (a *app) volumeVerifyCmd() *cobra.Command {
	var repair bool
	var trust string
	c := &cobra.Command{Use: "verify VOLUME", Short: "Compare the copies of a volume with each other, without reading data", Args: args("VOLUME"),
		Long: `Compare the in-sync copies of a volume, or of an image: every snapshot, and what
it holds now, must be the same writes on all. Only block maps are read, so a
terabyte takes a minute or so; the volume may be used meanwhile. That the bytes
themselves are good is what 'holdfast volume scrub' looks at.

Copies never differ unless something is broken: Holdfast, or a disk that gives old
content back. Nothing is changed by itself then, but 'holdfast status' tells of it.
With three copies or more, --repair has those built anew against which more than
half agree. Two copies cannot tell which of them is right: --trust says which, and
the others are built anew from it. What they hold is then lost.

Exit status: 0 the copies are equal, or are being repaired; 1 they differ.`,
		Example: "  holdfast volume verify data\n  holdfast volume verify data -o json\n  holdfast volume verify data --repair\n  holdfast volume verify data --repair --trust alpha",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if trust != "" && !repair {
				return usageError{fmt.Errorf("--trust says what is done by --repair; give both")}
			}
			v, err := c.Volume(ctx, args[0])
			if holdfast.IsKind(err, holdfast.NotFound) {
				if i, ierr := c.Image(ctx, args[0]); ierr == nil {
					v, err = i, nil
				}
			}
			if err != nil {
				return err
			}
			bar := a.progress("comparing "+v.Name, v.Size)
			r, err := c.Verify(ctx, v.Name, func(done float64) { bar.at(int64(done * float64(v.Size))) })
			bar.done(err)
			if err != nil {
				return err
			}
			if repair && !r.Equal {
				if r.Repairing, err = wrongCopies(r, trust); err == nil {
					err = c.RebuildCopies(ctx, v.Name, r.Repairing)
				}
				if err != nil {
					return err
				}
			}
			if err := a.printVerify(r); err != nil {
				return err
			}
			if !r.Equal && len(r.Repairing) == 0 {
				return ExitError(1)
			}
			return nil
		})}
	c.Flags().BoolVar(&repair, "repair", false, "build the copies anew against which more than half agree, or all that differ from the one to --trust")
	c.Flags().StringVar(&trust, "trust", "", "`HOST` whose copy is right")
	return c
}

// wrongCopies are the hosts whose copies are to be built anew.
func wrongCopies(r v1.VerifyResult, trust string) ([]string, error) {
	switch {
	case trust == "" && len(r.Outvoted) == 0:
		return nil, holdfast.Errorf(holdfast.Conflict, "the copies of volume %s on %s differ, and it cannot be told which is right; say whose is with --trust HOST, the others are then built from it", r.Volume, strings.Join(r.Copies, ", "))
	case trust == "":
		return r.Outvoted, nil
	case !slices.Contains(r.Copies, trust):
		return nil, holdfast.Errorf(holdfast.NotFound, "host %s has no copy of volume %s that was compared; these have: %s", trust, r.Volume, strings.Join(r.Copies, ", "))
	case r.Stopped: // others may differ further on
		return slices.DeleteFunc(slices.Clone(r.Copies), func(h string) bool { return h == trust }), nil
	}
	return differFrom(r, trust), nil
}

// differFrom are the hosts whose copies differ from that of one, in what was
// kept of the differences; all others, if not all were.
func differFrom(r v1.VerifyResult, trust string) (out []string) {
	all := int(r.Differ) > len(r.Differences)
	for _, h := range r.Copies {
		differs := func(d v1.CopyDifference) bool { return heldBy(d, h) != heldBy(d, trust) }
		if h != trust && (all || slices.ContainsFunc(r.Differences, differs)) {
			out = append(out, h)
		}
	}
	return out
}

// heldBy is what the copy of a host holds, whoever that is.
func heldBy(d v1.CopyDifference, host string) (held v1.HeldCopy) {
	for _, h := range d.Held {
		if h.Host == host {
			held = h
		}
	}
	held.Host = ""
	return held
}

// verifyShown is how many differences people are shown.
const verifyShown = 20

func (a *app) printVerify(r v1.VerifyResult) error {
	if a.structured() {
		return a.encode(r)
	}
	list := r.Differences
	if a.forPeople() {
		list = list[:min(len(list), verifyShown)]
	}
	if len(list) > 0 || !a.forPeople() {
		if err := printAll(a, list, differenceColumns(r.Copies), func(d v1.CopyDifference) string { return fmt.Sprint(d.Offset) }); err != nil {
			return err
		}
	}
	if a.forPeople() {
		for _, line := range verifyLines(r) {
			fmt.Fprintln(a.Stdout, plain(line))
		}
	}
	return nil
}

func differenceColumns(hosts []string) []column[v1.CopyDifference] {
	cols := []column[v1.CopyDifference]{
		{"SNAPSHOT", false, func(d v1.CopyDifference) any { return d.Snapshot }},
		{"OFFSET", false, func(d v1.CopyDifference) any {
			if d.Lacking {
				return ""
			}
			return fmt.Sprint(d.Offset)
		}},
	}
	for _, h := range hosts {
		cols = append(cols, column[v1.CopyDifference]{strings.ToUpper(h), false, func(d v1.CopyDifference) any {
			k := heldBy(d, h)
			return strings.Join(slices.DeleteFunc([]string{k.State, k.LSN, k.Hash}, func(s string) bool { return s == "" }), " ")
		}})
	}
	return cols
}

// verifyLines say what came of it, and what to do next.
func verifyLines(r v1.VerifyResult) []string {
	on := strings.Join(r.Copies, ", ")
	text := fmt.Sprintf("The copies of volume %s on %s are equal: blocks compared: %d.", r.Volume, on, r.Blocks)
	if !r.Equal {
		text = fmt.Sprintf("The copies of volume %s on %s differ: differences: %d, blocks that agree: %d.", r.Volume, on, r.Differ, r.Blocks)
	}
	if r.Stopped {
		text += " It was not looked for more."
	}
	if r.Busy > 0 {
		text += fmt.Sprintf(" Left out, as they were being written: %d.", r.Busy)
	}
	if len(r.Left) > 0 {
		text += fmt.Sprintf(" Not compared from beginning to end: %s.", strings.Join(r.Left, ", "))
	}
	return append([]string{text}, whatNext(r)...)
}

func whatNext(r v1.VerifyResult) []string {
	switch {
	case r.Equal:
		return nil
	case len(r.Repairing) > 0:
		return []string{fmt.Sprintf("Given up, and built anew from the others: %s. 'holdfast volume show %s' tells how it goes; verify again when it is done.", strings.Join(r.Repairing, ", "), r.Volume)}
	case len(r.Outvoted) > 0:
		return []string{fmt.Sprintf("All others agree against %s: 'holdfast volume verify %s --repair' builds that anew.", strings.Join(r.Outvoted, ", "), r.Volume)}
	}
	return []string{
		fmt.Sprintf("It cannot be told which is right. 'holdfast volume scrub %[1]s', and then 'holdfast volume faults %[1]s', tell whether the bytes of one are bad; a copy that missed writes has lower LSNs.", r.Volume),
		fmt.Sprintf("'holdfast volume verify %s --repair --trust HOST' builds the others anew from the one on HOST.", r.Volume)}
}

// comparison prints what the last comparison of a volume's copies found.
func comparison(v v1.Volume) string {
	if v.Compared == nil {
		return ""
	}
	if v.Compared.Differ > 0 {
		return fmt.Sprintf("%d differences, %s", v.Compared.Differ, people(v.Compared.At))
	}
	return fmt.Sprintf("equal, %s", people(v.Compared.At))
}
