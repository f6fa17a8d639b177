package cli

import (
	"fmt"

	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func diskColumns() []column[v1.Disk] {
	return []column[v1.Disk]{
		{"HOST", false, func(d v1.Disk) any { return d.Host }},
		{"RACK", false, func(d v1.Disk) any { return d.Rack }},
		{"PATH", false, func(d v1.Disk) any { return d.Path }},
		{"POOL", false, func(d v1.Disk) any { return d.Pool }},
		{"STATE", false, func(d v1.Disk) any { return d.State }},
		{"SIZE", false, func(d v1.Disk) any { return size(d.Size) }},
		{"FREE", false, func(d v1.Disk) any { return size(d.Free) }},
		{"WRITTEN/BYTE", true, func(d v1.Disk) any { return timesText(d.WriteAmplification) }},
		{"OF MAPS", true, func(d v1.Disk) any { return timesText(d.MapAmplification) }},
		{"ERROR", true, func(d v1.Disk) any { return d.Error }},
		{"SCRUBBED", true, func(d v1.Disk) any {
			if d.Scrubbed == nil {
				return ""
			}
			return *d.Scrubbed
		}},
		{"SCRUB", true, func(d v1.Disk) any {
			if d.Scrub == nil {
				return ""
			}
			return scrubProgress(*d.Scrub)
		}},
		{"ID", true, func(d v1.Disk) any { return d.ID }},
	}
}

// timesText is a ratio, or nothing if it is not known.
func timesText(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", x)
}

func diskName(d v1.Disk) string { return d.ID }

const diskArg = "DISK is HOST:PATH, or the identity that 'holdfast disk list -o wide' shows."

func (a *app) diskCmd() *cobra.Command {
	list := listCmd(a, resource[v1.Disk]{noun: "disk", many: "the disks of all hosts", cols: diskColumns(), name: diskName, all: (*client.Client).Disks})
	return noun("disk", "The disks given to the cluster", list, a.diskAddCmd(), a.diskEvacuateCmd(), a.diskReplaceCmd(), a.diskRemoveCmd(), a.diskScrubCmd())
}

func (a *app) diskAddCmd() *cobra.Command {
	var s v1.DiskSpec
	c := &cobra.Command{Use: "add PATH", Short: "Give a disk of this host to the cluster; its content is lost", Args: atMostOne("PATH"),
		Long: "Give a disk of the host that is called to the cluster: a block device, or a file. With --size a file is made.\n" +
			"With --ram the disk is memory of that host, without a path: it is lost, and made again empty, whenever the host's process is restarted.",
		Example: "  holdfast disk add /dev/sdb\n  holdfast disk add /srv/holdfast.disk --size 200GiB\n" +
			"  holdfast disk add /dev/sdc --pool archive\n  holdfast disk add --ram 256MiB --pool fast",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 0 && s.RAM == 0 {
				return usageError{errors.New("PATH is missing; usage: holdfast disk add PATH, or holdfast disk add --ram SIZE --pool POOL")}
			}
			if len(args) > 0 {
				path, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				s.Path = path
			}
			d, err := c.AddDisk(ctx, s)
			return printed(a, d, err, diskColumns(), diskName)
		})}
	c.Flags().Var((*sizeFlag)(&s.Size), "size", "make a file of this size")
	c.Flags().Var((*sizeFlag)(&s.RAM), "ram", "take this much of the host's memory instead of a path; for pools of tier ram")
	c.Flags().StringVar(&s.Pool, "pool", "", "`pool` that the disk belongs to; none: default")
	return c
}

// waiting are the flags of what moves copies off a disk.
type waiting struct{ plan, noWait bool }

func (w *waiting) flags(c *cobra.Command) {
	c.Flags().BoolVar(&w.plan, "plan", false, "only say what would move, and where to")
	c.Flags().BoolVar(&w.noWait, "no-wait", false, "return at once")
}

func (a *app) diskEvacuateCmd() *cobra.Command {
	var w waiting
	var undo bool
	c := &cobra.Command{Use: "evacuate DISK", Short: "Move copies of volumes off a disk", Args: args("DISK"),
		Long: `Move everything that stands on a disk to other disks while it is used: each copy
is built elsewhere first, then the old one is let go. At no time are there fewer
good copies. What has no place elsewhere goes on where it is and goes as soon as
there is room. Nothing is put on the disk any more. Interrupting the command
leaves the disk to be evacuated; --undo takes it back.
` + diskArg,
		Example: "  holdfast disk evacuate alpha:/dev/sdb --plan\n  holdfast disk evacuate alpha:/dev/sdb\n  holdfast disk evacuate alpha:/dev/sdb --undo",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			switch {
			case w.plan:
				return a.planEvacuation(ctx, c, args[0])
			case undo:
				e, err := c.Evacuate(ctx, args[0], v1.EvacuationSpec{})
				if err != nil {
					return err
				}
				return a.done("disk", e.Disk, "Disk "+e.Disk+" takes copies again.")
			}
			e, err := c.Evacuate(ctx, args[0], v1.EvacuationSpec{On: true})
			if err != nil {
				return err
			}
			return a.followEvacuation(ctx, c, e, w.noWait, "Disk "+e.Disk+" is evacuated: nothing stands on it.")
		})}
	w.flags(c)
	c.Flags().BoolVar(&undo, "undo", false, "let the disk have copies again")
	return c
}

func (a *app) diskRemoveCmd() *cobra.Command {
	var w waiting
	c := &cobra.Command{Use: "remove DISK", Short: "Evacuate a disk and take it back", Args: args("DISK"),
		Long: `Take a disk back: what stands on it is moved elsewhere first, as by 'disk evacuate'.
A disk that has failed is taken back when its copies have been built anew.
Interrupting the command leaves it to be removed; 'disk evacuate --undo' takes
that back.
` + diskArg,
		Example: "  holdfast disk remove alpha:/dev/sdb --plan\n  holdfast disk remove alpha:/dev/sdb",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if w.plan {
				return a.planEvacuation(ctx, c, args[0])
			}
			e, err := c.EvacuationPlan(ctx, args[0])
			if err == nil {
				err = c.RemoveDisk(ctx, e.ID)
			}
			if err != nil {
				return err
			}
			e.Evacuating, e.Remove = true, true
			return a.followEvacuation(ctx, c, e, w.noWait, "Disk "+e.Disk+" is not used any more.")
		})}
	w.flags(c)
	return c
}

func (a *app) diskReplaceCmd() *cobra.Command {
	var w waiting
	var bytes sizeFlag
	c := &cobra.Command{Use: "replace DISK PATH", Short: "Put a new disk of the same host in a disk's place", Args: args("DISK", "PATH"),
		Long: `Give the disk at PATH, on the host of DISK, to the cluster; its content is lost.
What stands on DISK moves to it, as far as it has room, and DISK is taken back.
` + diskArg,
		Example: "  holdfast disk replace alpha:/dev/sdb /dev/sdc --plan\n  holdfast disk replace alpha:/dev/sdb /dev/sdc",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			e, err := c.EvacuationPlan(ctx, args[0])
			if err != nil {
				return err
			}
			if w.plan {
				return a.planned(fmt.Sprintf("The content of %s on host %s would be lost.", args[1], strings.SplitN(e.Disk, ":", 2)[0]),
					fmt.Sprintf("%s on %s would move to it, as far as it has room, and the old disk would be taken back.", copies(len(e.Moves)), e.Disk))
			}
			if _, err := c.ReplaceDisk(ctx, e.ID, v1.DiskSpec{Path: args[1], Size: int64(bytes)}); err != nil {
				return err
			}
			e.Evacuating, e.Remove = true, true
			over := "Disk " + e.Disk + " is replaced by " + args[1] + "."
			if a.dry {
				return a.done("disk", e.Disk, over)
			}
			return a.followEvacuation(ctx, c, e, w.noWait, over)
		})}
	w.flags(c)
	c.Flags().Var(&bytes, "size", "make a file of this size")
	return c
}

func (a *app) planEvacuation(ctx context.Context, c *client.Client, disk string) error {
	e, err := c.EvacuationPlan(ctx, disk)
	if err != nil {
		return err
	}
	if a.structured() {
		return a.encode(e)
	}
	for _, m := range e.Moves {
		what := fmt.Sprintf("The copy of %s (%s)", m.Volume, formatSize(m.Size))
		switch m.Stage {
		case "stays":
			what += " would stay: " + m.Why
		case "waiting":
			what += " would be built on " + m.Why
		default:
			what += " is on its way: " + m.Stage + " " + m.To
		}
		fmt.Fprintln(a.Stdout, plain(what))
	}
	if len(e.Moves) == 0 {
		fmt.Fprintf(a.Stdout, "Nothing stands on disk %s.\n", plain(e.Disk))
	}
	fmt.Fprintln(a.Stdout, "Nothing would be lost.")
	return nil
}

// followEvacuation shows how far a disk's evacuation is until it is over.
func (a *app) followEvacuation(ctx context.Context, c *client.Client, e v1.Evacuation, noWait bool, over string) error {
	if noWait {
		if a.structured() {
			return a.encode(e)
		}
		return a.done("disk", e.Disk, fmt.Sprintf("Disk %s is being evacuated: %s to go. 'holdfast disk evacuate %[1]s --plan' says how far it is.", e.Disk, copies(len(e.Moves))))
	}
	total := left(e)
	bar := a.progress("evacuating "+e.Disk, total)
	said := map[string]string{}
	for {
		next, err := c.EvacuationPlan(ctx, e.ID)
		switch {
		case ctx.Err() != nil:
			bar.done(ctx.Err())
			return a.detached("Disk "+e.Disk+" goes on being evacuated", "holdfast disk evacuate "+e.Disk+" --plan", "holdfast disk evacuate "+e.Disk+" --undo")
		case holdfast.IsKind(err, holdfast.NotFound) && e.Remove, err == nil && len(next.Moves) == 0 && !e.Remove:
			bar.at(total)
			bar.done(nil)
			return a.done("disk", e.Disk, over)
		case err != nil && !holdfast.IsKind(err, holdfast.Unavailable):
			bar.done(err)
			return err
		case err == nil && !next.Evacuating:
			err := holdfast.Errorf(holdfast.Conflict, "disk %s is not evacuated any more: somebody has taken it back", e.Disk)
			bar.done(err)
			return err
		case err == nil:
			bar.at(max(0, total-left(next)))
			if stay := stays(next); stay != nil {
				bar.done(stay)
				return stay
			}
			a.sayDepartures(next, said)
		}
		pause(ctx, movePoll)
	}
}

// left is how many bytes are still to be copied off a disk.
func left(e v1.Evacuation) (n int64) {
	for _, m := range e.Moves {
		n += m.Size / 100 * int64(100-m.Done)
	}
	return n
}

// sayDepartures tells, where it takes a line, what was not told before.
func (a *app) sayDepartures(e v1.Evacuation, said map[string]string) {
	if _, ok := terminal(a.Stderr); ok {
		return // the bar says it
	}
	for _, m := range e.Moves {
		if text := m.Stage + " " + m.To; m.Stage == "copying" && said[m.Volume] != text {
			said[m.Volume] = text
			fmt.Fprintf(a.Stderr, "%s is being copied to %s\n", plain(m.Volume), plain(m.To))
		}
	}
}

// stays is the outcome of an evacuation of which all that is left has no place.
func stays(e v1.Evacuation) error {
	var why []string
	for _, m := range e.Moves {
		if m.Stage != "stays" {
			return nil
		}
		why = append(why, m.Volume+" stays: "+m.Why)
	}
	if len(why) == 0 {
		return nil
	}
	return holdfast.Errorf(holdfast.NoSpace, "disk %s is evacuated, but not everything could go: %s. What stays goes as soon as there is room; add a disk, or take it back with 'holdfast disk evacuate %[1]s --undo'", e.Disk, plain(strings.Join(why, ". ")))
}
