package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

func tortureCmd(getenv func(string) string) *cobra.Command {
	var o TortureOptions
	var file string
	c := &cobra.Command{Use: "torture", Short: "Break a lab of its own in every way for a while, and compare everything in the end",
		Long: `Break a lab in every way that it can be broken for some time: racks and hosts are
killed, frozen, cut off and badly connected, single processes killed, all power
lost, the control plane's leader and majority cut off, disks filled and damaged.
Meanwhile guests write numbered blocks and verify them at every boot, groups of NBD
clients write the same blocks side by side and take down what they see, and fio
verifies what it wrote. What is done is drawn by a seed, in episodes of one to three
faults; after each everything has to become whole again by itself. In the end every
disk is scrubbed and all copies of every volume are compared.

It needs a lab of its own, as 'make torture' makes one, and refuses others.

Exit status 0 only if nothing that was acknowledged and flushed was lost, nothing was
read wrong, and everything is whole.`,
		Example: "  make torture MINUTES=60\n  holdfast lab up --netns --volatile --hosts-per-rack 2 --disk-gib 1 --dir /tmp/t && holdfast drill torture --dir /tmp/t --for 10m --seed 7\n  holdfast drill torture --dir /tmp/t --faults 'rack frozen,bytes flipped'",
	}
	f := c.Flags()
	f.DurationVar(&o.Lasts, "for", time.Hour, "how long faults happen")
	f.Uint64Var(&o.Seed, "seed", 0, "of everything that is left to chance (default: a random one)")
	f.IntVar(&o.Guests, "guests", 6, "how many VMs")
	f.IntVar(&o.Groups, "groups", 4, "how many groups of NBD clients, each with a volume of its own")
	f.StringSliceVar(&o.Faults, "faults", nil, "only these `kinds` of faults")
	f.StringVar(&file, "figures", "", "also write the report to this `file`, as JSON, without its timeline")
	return played(c, getenv, func() error { return cmp.Or(checkGuests(o.Guests), checkTorture(o)) }, func(ctx context.Context, at Site) (outcome, error) {
		o.Site = at
		if !f.Changed("seed") {
			o.Seed = rand.Uint64N(1 << 32)
		}
		r, err := Torture(ctx, o)
		if file != "" && !r.Begun.IsZero() {
			err = cmp.Or(keepFigures(file, r), err)
		}
		return r, err
	})
}

const mostGroups = 64

func checkTorture(o TortureOptions) error {
	switch {
	case o.Lasts < time.Second || o.Lasts > maxFor:
		return holdfast.Errorf(holdfast.Invalid, "--for %v: give 1s to %v", o.Lasts, maxFor)
	case o.Groups < 1 || o.Groups > mostGroups:
		return holdfast.Errorf(holdfast.Invalid, "--groups %d: give 1 to %d", o.Groups, mostGroups)
	}
	return nil
}

// keepFigures writes a report without what is long.
func keepFigures(file string, r TortureReport) error {
	r.Timeline = nil
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(b, '\n'), 0o644)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "the figures of the torture: %w", err)
	}
	return nil
}
