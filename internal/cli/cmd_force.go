package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// forcing are the flags of 'volume force-open'.
type forcing struct {
	plan, lost, acknowledge bool
	confirm, from           string
}

func (a *app) volumeForceOpenCmd() *cobra.Command {
	var f forcing
	c := &cobra.Command{Use: "force-open VOLUME", Short: "Open a volume or image from a stale copy, when no copy in sync is left", Args: args("VOLUME"),
		Long: `Open a volume or image from a copy that is not up to date, because every copy in
sync is lost. WHAT WAS WRITTEN AND FLUSHED SINCE THAT COPY WAS LEFT BEHIND MAY BE
MISSING: the plan comes first and says from where on, since when, which snapshots,
and which copies are lost. Then the volume's name is asked for.

It is refused while a copy in sync can be reached. If one may still come back, say
that it will not: --lost.

Nothing is thrown away for a later merge by hand. The volume as it is at this point
is kept as its snapshot forced-DATE. If a lost copy comes back after all, its content
becomes a volume of its own, VOLUME-lost-DATE, which can be exported or given to a
VM; 'volume show' tells which blocks it has that this one lacks.

The volume is marked, and status says so, until --acknowledge.`,
		Example: "  holdfast volume force-open db1 --plan\n  holdfast volume force-open db1 --lost\n  holdfast volume force-open db1 --lost --confirm db1\n" +
			"  holdfast volume export db1-lost-2026-11-22 db1-lost.qcow2\n  holdfast volume force-open db1 --acknowledge",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.forceOpen(ctx, c, args[0], f)
		})}
	c.Flags().BoolVar(&f.plan, "plan", false, "only say what that would mean")
	c.Flags().BoolVar(&f.lost, "lost", false, "the copies in sync will not come back")
	c.Flags().StringVar(&f.from, "from", "", "`host` whose copy is used (default: that which holds most)")
	c.Flags().StringVar(&f.confirm, "confirm", "", "the volume's `name`, instead of being asked for it")
	c.Flags().BoolVar(&f.acknowledge, "acknowledge", false, "it was dealt with: have status no longer tell of it")
	c.MarkFlagsMutuallyExclusive("acknowledge", "plan")
	c.MarkFlagsMutuallyExclusive("acknowledge", "confirm")
	return c
}

func (a *app) forceOpen(ctx context.Context, c *client.Client, volume string, f forcing) error {
	if f.acknowledge {
		v, err := c.AcknowledgeForce(ctx, volume)
		if err != nil {
			return err
		}
		return a.done("volume", v.Name, "It is no longer told that volume "+v.Name+" was forced open. Lost copies that come back are set aside all the same.")
	}
	p, err := c.ForcePlan(ctx, volume, f.from)
	if err != nil {
		return err
	}
	switch {
	case f.plan && a.structured():
		return a.encode(p)
	case f.plan:
		a.printForce(a.Stdout, p)
		return nil
	case f.confirm == "" || !a.structured():
		a.printForce(a.Stderr, p)
	}
	// What is done is what was shown: no other copy, should that one have gone
	// away meanwhile, and not less of it.
	spec := v1.ForceSpec{Lost: f.lost, From: cmp.Or(p.From, f.from), Holds: p.Holds, Confirm: f.confirm, By: who()}
	if f.confirm == "" && p.Refused == "" && (f.lost || !p.NeedsLost) { // otherwise the host says why not
		if err := a.askToType(p.Volume, "Type the name of the volume to open it from the stale copy: ", "nothing was opened", "--confirm "+p.Volume+" does not ask"); err != nil {
			return err
		}
		spec.Confirm = p.Volume
	}
	if spec.Confirm == "" {
		spec.Confirm = p.Volume // it is refused, with the reason
	}
	v, err := c.ForceOpen(ctx, volume, spec)
	if err != nil {
		return err
	}
	return a.done("volume", v.Name, "Volume "+v.Name+" is opened from the copy on host "+p.From+". What may be missing stands in 'holdfast volume show "+v.Name+" -o yaml'.")
}

// who is whoever runs the command, for the record.
func who() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); err == nil && name == "" {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name[:min(len(name), 128)]
}

// printForce prints a plan for people.
func (a *app) printForce(out io.Writer, p v1.Force) {
	say := func(format string, args ...any) { fmt.Fprintln(out, plain(fmt.Sprintf(format, args...))) }
	if p.From != "" {
		say("Volume %s (%s) would be opened from the stale copy on host %s.", p.Volume, formatSize(p.Size), p.From)
		say("It has all writes up to LSN %s, and none after.", p.Holds)
		say("MAY BE MISSING: %s.", p.Missing)
	} else {
		say("Volume %s (%s) cannot be opened from a stale copy.", p.Volume, formatSize(p.Size))
	}
	for _, s := range p.Snapshots {
		say("Snapshot %s would be gone: only the lost copies have it.", s)
	}
	for _, l := range p.Lost {
		text := "Copy in sync on host " + l.Host
		if l.Disk != "" {
			text += ":" + l.Disk
		}
		text += ": " + l.Why
		if l.Since != nil {
			text += ", since " + l.Since.UTC().Format(time.DateTime) + " UTC"
		}
		if l.Back {
			text += ". Should it come back, its content is set aside as a volume of its own"
		}
		say("%s.", text)
	}
	for _, s := range p.Stale {
		switch {
		case s.Unfit != "":
			say("Stale copy on host %s: %s.", s.Host, s.Unfit)
		case s.Host != p.From:
			say("Stale copy on host %s: it ends at LSN %s; --from %s uses it instead.", s.Host, s.Holds, s.Host)
		}
	}
	if p.Refused != "" {
		say("Refused: %s", p.Refused)
	} else if p.NeedsLost {
		say("It has to be said that the copies in sync will not come back: --lost.")
	}
}

// forced says in a few words that a volume was forced open, and what came back.
func forced(v v1.Volume) string {
	if v.Forced == nil {
		return ""
	}
	text := fmt.Sprintf("%s, from what stood up to LSN %s", people(v.Forced.At), v.Forced.Holds)
	for _, c := range v.Forced.Copies {
		if c.Volume != "" {
			text += fmt.Sprintf("; %s has %s more", c.Volume, counted(int(c.Blocks), "block"))
		}
	}
	return text
}
