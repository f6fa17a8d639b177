package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// proved prints when each copy was last proved good.
func proved(v v1.Volume) string {
	var out []string
	known := false
	for _, r := range v.Replicas {
		at := "never"
		if r.Proved != nil {
			at = people(*r.Proved)
		}
		known = known || r.Proved != nil || r.Scrub != nil
		out = append(out, r.Host+" "+at)
	}
	if !known {
		return ""
	}
	return strings.Join(out, ", ")
}

// scrubs prints the scrubs of a volume's copies that are under way.
func scrubs(v v1.Volume) string {
	var out []string
	for _, r := range v.Replicas {
		if r.Scrub != nil {
			out = append(out, r.Host+" "+scrubProgress(*r.Scrub))
		}
	}
	return strings.Join(out, ", ")
}

// scrubProgress prints how far a scrub has come: "25 %, 64MiB/s, 48s left".
func scrubProgress(s v1.Scrub) string {
	text := "begins"
	if s.Total > 0 {
		text = fmt.Sprintf("%d %%", min(s.Done*100/s.Total, 100))
	}
	return text + pace(s.Rate, s.LeftSecs)
}

// pace prints how fast something goes on: ", 64MiB/s, 48s left".
func pace(rate, leftSecs int64) (text string) {
	if rate > 0 {
		text += ", " + formatSize(rate>>10<<10) + "/s"
	}
	if leftSecs > 0 {
		text += ", " + (time.Duration(leftSecs) * time.Second).String() + " left"
	}
	return text
}

// rebuilds prints which copies are being built or brought up to date.
func rebuilds(v v1.Volume) string {
	var out []string
	for _, r := range v.Replicas {
		switch b := r.Rebuild; {
		case b == nil:
		case b.Waits:
			out = append(out, fmt.Sprintf("%s waits for %s", r.Host, others(b.Ahead)))
		default:
			out = append(out, r.Host+" "+rebuildText(*b))
		}
	}
	return strings.Join(out, ", ")
}

// rebuildText prints how far a copy has come: "41 %, 64MiB/s, 48s left, at most
// 20MiB/s by the foreground at its disk".
func rebuildText(b v1.Rebuild) string {
	text := fmt.Sprintf("%d %%", int(b.Done*100))
	if b.Total > 0 {
		text += " of " + formatSize(b.Total)
	}
	text += pace(b.Rate, b.LeftSecs)
	if b.Parts > 1 && b.Part > 0 {
		text += fmt.Sprintf(", part %d of %d", b.Part, b.Parts)
	}
	if b.Limit > 0 {
		text += fmt.Sprintf(", at most %s/s by %s", formatSize(b.Limit>>20<<20), b.LimitedBy)
	}
	return text
}

func others(n int) string {
	if n == 1 {
		return "1 other"
	}
	return fmt.Sprintf("%d others", n)
}

// badBlocks prints where blocks do not match their hash now.
func badBlocks(v v1.Volume) string {
	var out []string
	for _, r := range v.Replicas {
		if r.Bad > 0 {
			out = append(out, fmt.Sprintf("%s %d", r.Host, r.Bad))
		}
	}
	return strings.Join(out, ", ")
}

// volumesProved lists the volumes; where there is room for it, with what the
// hosts know of their copies.
func (a *app) volumesProved(c *client.Client, ctx context.Context) ([]v1.Volume, error) {
	list, err := c.Volumes(ctx)
	if err != nil || a.format == "table" || a.format == "name" {
		return list, err
	}
	all, err := c.Integrity(ctx, false)
	if err != nil {
		return nil, err
	}
	known := make(map[string]v1.ReplicaIntegrity)
	for _, r := range all.Replicas {
		known[r.Replica] = r
	}
	for i := range list {
		for k := range list[i].Replicas {
			r := &list[i].Replicas[k]
			x := known[r.ID]
			r.Proved, r.Scrub = x.Proved, x.Scrub
			for _, f := range x.Faults {
				if f.State == "bad" || f.State == "lost" {
					r.Bad++
				}
			}
		}
	}
	return list, nil
}

func (a *app) volumeScrubCmd() *cobra.Command {
	return &cobra.Command{Use: "scrub VOLUME", Short: "Verify every copy of a volume now", Args: args("VOLUME"),
		Long: "Read every block of every copy, snapshots included, from the medium, and compare it with the block map's hash.\n" +
			"What is bad is restored from another copy at once. 'holdfast volume show' tells how it goes. Every disk is scrubbed\nwithout being asked, too: scrub_every of the configuration says how often.",
		Example: "  holdfast volume scrub data\n  holdfast volume scrub debian    # an image\n  holdfast volume show data",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.ScrubVolume(ctx, args[0], false); err != nil {
				return err
			}
			return a.done("volume", args[0], "Every copy of volume "+args[0]+" is being verified; 'holdfast volume show "+args[0]+"' tells how it goes.")
		})}
}

func (a *app) diskScrubCmd() *cobra.Command {
	return &cobra.Command{Use: "scrub DISK", Short: "Verify everything on a disk now", Args: args("DISK"),
		Long:    "Verify everything on a disk now, as 'holdfast volume scrub' does for a volume. DISK is the identity that\n'holdfast disk list -o wide' shows; that also tells how it goes.",
		Example: "  holdfast disk scrub 0a1b2c3d-0000-4000-8000-000000000001",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.ScrubDisk(ctx, args[0]); err != nil {
				return err
			}
			return a.done("disk", args[0], "Disk "+args[0]+" is being verified; 'holdfast disk list -o wide' tells how it goes.")
		})}
}

func faultColumns() []column[v1.Fault] {
	return []column[v1.Fault]{
		{"HOST", false, func(f v1.Fault) any { return f.Host }},
		{"OFFSET", false, func(f v1.Fault) any { return fmt.Sprint(f.Offset) }},
		{"STATE", false, func(f v1.Fault) any { return f.State }},
		{"SEEN FIRST BY", false, func(f v1.Fault) any { return f.Hop }},
		{"FIRST", false, func(f v1.Fault) any { return f.First }},
		{"LAST", true, func(f v1.Fault) any { return f.Last }},
		{"ACKNOWLEDGED", true, func(f v1.Fault) any {
			if f.Known {
				return "yes"
			}
			return "no"
		}},
		{"LSN", true, func(f v1.Fault) any { return f.LSN }},
		{"DISK", true, func(f v1.Fault) any { return f.Disk }},
	}
}

func (a *app) faultsCmd() *cobra.Command {
	var acknowledge bool
	c := &cobra.Command{Use: "faults VOLUME", Short: "Blocks that did not match their hash, and who saw it first", Args: args("VOLUME"),
		Long: "List the blocks of a volume's copies that did not match their hash, the newest first: where, which hop saw it first\n" +
			"(and so what to suspect), and what became of it. A disk remembers its last 192.\n\n" +
			"  bad        not restored yet: no copy that has it could be asked\n  lost       no copy has it: reading it is an I/O error until it is written anew\n" +
			"  repaired   restored from another copy, or refused on arrival and sent again\n  gone       overwritten or let go since",
		Example: "  holdfast volume faults data\n  holdfast volume faults data --acknowledge",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if acknowledge {
				if err := c.AcknowledgeFaults(ctx, args[0], false); err != nil {
					return err
				}
				return a.done("volume", args[0], "The faults of volume "+args[0]+" that are known by now are out of the status.")
			}
			list, err := c.Faults(ctx, args[0])
			if err != nil {
				return err
			}
			return printAll(a, list, faultColumns(), func(f v1.Fault) string { return fmt.Sprint(f.Offset) })
		})}
	c.Flags().BoolVar(&acknowledge, "acknowledge", false, "take what is known by now out of the status; what is wrong stays wrong")
	return c
}
