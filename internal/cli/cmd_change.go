package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// What can be changed about a volume while it is used.

func (a *app) volumeGrowCmd() *cobra.Command {
	var bytes sizeFlag
	var plan bool
	c := &cobra.Command{Use: "grow VOLUME SIZE", Short: "Make a volume larger, while it is used", Args: cobra.RangeArgs(1, 2),
		Long: `Make a volume larger. It is never made smaller: what stands at its end would be
lost. A VM that runs on it sees the new size, and so does whoever attaches it
anew; the file system in it is the guest's to grow.`,
		Example: "  holdfast volume grow data 200GiB --plan\n  holdfast volume grow data 200GiB",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 2 {
				if bytes != 0 {
					return holdfast.Errorf(holdfast.Invalid, "give the size once: holdfast volume grow %s %s", plain(args[0]), plain(args[1]))
				}
				if err := bytes.Set(args[1]); err != nil {
					return holdfast.Errorf(holdfast.Invalid, "size %q: %w", plain(args[1]), err)
				}
			}
			if bytes == 0 {
				return holdfast.Errorf(holdfast.Invalid, "SIZE is missing; usage: holdfast volume grow VOLUME SIZE")
			}
			if plan {
				v, err := c.Volume(ctx, args[0])
				if err != nil {
					return err
				}
				if int64(bytes) < v.Size {
					return holdfast.Errorf(holdfast.Invalid, "volume %s has %s and is never made smaller", v.Name, formatSize(v.Size))
				}
				return a.planned(fmt.Sprintf("Volume %s would grow from %s to %s. Nothing would be lost.", v.Name, formatSize(v.Size), formatSize(int64(bytes))))
			}
			v, err := c.GrowVolume(ctx, args[0], v1.GrowSpec{Size: int64(bytes)})
			return printed(a, v, err, volumeColumns(), volumeName)
		})}
	c.Flags().Var(&bytes, "size", "new size, as the second argument")
	c.Flags().BoolVar(&plan, "plan", false, "only say what would be done")
	return c
}

func (a *app) volumeSetCmd() *cobra.Command {
	var copies, least, iops, mbps, burst, weight int
	var durability, reads string
	var plan, shared bool
	c := &cobra.Command{Use: "set VOLUME", Short: "Change a volume while it is used", Args: args("VOLUME"),
		Long: `Change a volume while it is used. Copies that are added are built in the
background; those that are too many are let go of, rather such as share a rack
and never the last in one.

--iops and --mbps limit what is read and written, by all who use the volume
together: a request of more than 256 KiB counts as several operations, a trim as
one, a flush as none. What a volume does not use it saves up, as much as --burst
says. What is too much waits, never longer than 20 s. Rebuilds and scrubs are
not limited.

--weight is its share of a disk while several volumes write more than the disk
takes: twice the weight is twice as much. A volume that is alone gets all of it,
and one that writes little need not wait for those that write much.

--reads=confirmed has every read wait until all copies in sync have confirmed
that no other host writes the volume: a round trip, shared by the reads of a
moment. Without it a read is served under leases, which trust that the clocks of
two hosts run alike to a fiftieth: they do not where a host is itself a virtual
machine that somebody suspends.

With --shared several NBD connections may write the volume at a time, all at the
host that is its writer: those of one program that works with many (nbdcopy), or
of a file system made for that, like OCFS2. Any other file system would be
destroyed by a second mount. --shared=false takes it back.`,
		Example: "  holdfast volume set data --copies 3 --plan\n  holdfast volume set data --copies 3 --min 2\n  holdfast volume set ledger --durability always --reads confirmed\n  holdfast volume set data --iops 500 --mbps 20 --burst 2s\n  holdfast volume set data --iops none\n  holdfast volume set quorum --shared\n  holdfast volume set orders --weight 400",
	}
	c.RunE = a.with(func(ctx context.Context, cl *client.Client, args []string) error {
		s := v1.VolumeSet{Plan: plan}
		if c.Flags().Changed("copies") {
			s.Copies = &copies
		}
		if c.Flags().Changed("min") {
			s.Min = &least
		}
		if c.Flags().Changed("durability") {
			s.Durability = &durability
		}
		if c.Flags().Changed("reads") {
			s.Reads = &reads
		}
		if c.Flags().Changed("iops") {
			s.IOPS = &iops
		}
		if c.Flags().Changed("mbps") {
			s.MBps = &mbps
		}
		if c.Flags().Changed("burst") {
			s.BurstMS = &burst
		}
		if c.Flags().Changed("shared") {
			s.Shared = &shared
		}
		if c.Flags().Changed("weight") {
			s.Weight = &weight
		}
		out, err := cl.SetVolume(ctx, args[0], s)
		if err != nil {
			return err
		}
		if plan {
			return a.planned(planLines(out.Steps)...)
		}
		if !a.forPeople() {
			return printOne(a, out.Volume, volumeColumns(), volumeName)
		}
		return a.planned(append([]string{"Volume " + out.Volume.Name + " is changed."}, out.Steps...)...)
	})
	c.Flags().IntVar(&copies, "copies", 0, "copies in distinct racks, 1 to 8")
	c.Flags().IntVar(&least, "min", 0, "fewest in-sync copies that may take writes")
	c.Flags().StringVar(&durability, "durability", "", "flush or always: when a write is acknowledged")
	c.Flags().StringVar(&reads, "reads", "", "leased or confirmed: whether a read asks every copy first")
	limitFlags(c, &iops, &mbps, &burst)
	c.Flags().BoolVar(&shared, "shared", false, "let several NBD clients write it at a time; false: one")
	weightFlag(c, &weight)
	c.Flags().BoolVar(&plan, "plan", false, "only say what it would lead to")
	return c
}

func planLines(steps []string) []string {
	if len(steps) == 0 {
		return []string{"Nothing would change."}
	}
	return append(steps, "Nothing would be lost.")
}

func (a *app) volumeMoveCmd() *cobra.Command {
	var s v1.VolumeMoveSpec
	var noWait bool
	c := &cobra.Command{Use: "move VOLUME --from HOST[/DISK]", Short: "Move a copy of a volume to another host or disk", Args: args("VOLUME"),
		Long: `Move a copy of a volume, or of an image, to another host or disk while it is
used: the new copy is built first, then the old one is let go. At no time are
there fewer good copies. DISK is the path on the host. Interrupting the command
leaves the copy to move; --stop takes that back.`,
		Example: "  holdfast volume move data --from alpha --to gamma --plan\n  holdfast volume move data --from alpha/dev/sdb --to alpha/dev/sdc\n  holdfast volume move data --stop",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			m, err := c.MoveVolume(ctx, args[0], s)
			switch {
			case err != nil:
				return err
			case s.Stop:
				return a.done("volume", m.Volume, "The copies of volume "+m.Volume+" stay where they are.")
			case s.Plan && !a.structured():
				return a.planned(fmt.Sprintf("The copy of volume %s on %s would be built on %s, then let go.", m.Volume, m.From, m.Why), "Nothing would be lost.")
			case s.Plan || noWait && a.structured():
				return a.encode(m)
			case noWait:
				return a.done("volume", m.Volume, fmt.Sprintf("The copy of volume %s on %s moves to %s. 'holdfast volume show %[1]s' says how far it is.", m.Volume, m.From, m.To))
			}
			return a.awaitMove(ctx, c, m)
		})}
	c.Flags().StringVar(&s.From, "from", "", "`HOST[/DISK]` that it goes from")
	c.Flags().StringVar(&s.To, "to", "", "`HOST[/DISK]` that it goes to; default: where there is most room")
	c.Flags().BoolVar(&s.Stop, "stop", false, "let the copies stay where they are after all")
	c.Flags().BoolVar(&s.Plan, "plan", false, "only say where it would go")
	c.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	return c
}

const movePoll = 300 * time.Millisecond

// awaitMove follows a move until no copy of the volume is on its way any more.
func (a *app) awaitMove(ctx context.Context, c *client.Client, m v1.VolumeMove) error {
	var bar *bar
	for {
		v, err := c.Volume(ctx, m.Volume)
		if holdfast.IsKind(err, holdfast.NotFound) {
			v, err = c.Image(ctx, m.Volume)
		}
		if bar == nil {
			bar = a.progress("moving "+m.Volume, v.Size)
		}
		if act, err := c.Activity(ctx, m.Volume); err == nil {
			bar.at(int64(act.ResyncDone * 0.99 * float64(v.Size)))
		}
		if ctx.Err() != nil {
			bar.done(ctx.Err())
			return a.detached("The copy goes on moving", "holdfast volume show "+m.Volume, "holdfast volume move "+m.Volume+" --stop")
		}
		if err == nil && !going(v) {
			bar.at(v.Size)
			bar.done(nil)
			return a.done("volume", m.Volume, fmt.Sprintf("The copy of volume %s on %s is on %s now.", m.Volume, m.From, m.To))
		}
		if err != nil && !holdfast.IsKind(err, holdfast.Unavailable) {
			bar.done(err)
			return err
		}
		pause(ctx, movePoll)
	}
}

func going(v v1.Volume) bool {
	for _, r := range v.Replicas {
		if r.Going {
			return true
		}
	}
	return false
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// detached says what goes on after Ctrl-C, how to see it and how to stop it.
func (a *app) detached(what, see, stop string) error {
	fmt.Fprintf(a.Stderr, "%s. '%s' says how far it is, '%s' takes it back.\n", what, plain(see), plain(stop))
	return context.Canceled
}
