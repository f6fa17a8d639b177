package sim

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

// Command returns `holdfast sim`. Standard output is the same for the same
// seed, steps and build; what the run took by the wall clock goes to standard
// error. version is the binary's.
func Command(version string) *cobra.Command {
	var o Options
	var seeds int
	var trace bool
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run a whole cluster in simulation, with faults, and check its promises",
		Long: `Run a cluster of the product's own host code over simulated disks, networks,
clocks, control plane and machines. The seed decides the topology, what the
clients do and what breaks; everything that was acknowledged is checked.

A run prints its history and one line of figures. It ends with status 1 if a
promise was broken, and with the line that plays the same history again.`,
		Example: `  holdfast sim --seed 7
  holdfast sim --seed 7 --trace | less
  holdfast sim campaign --hours 2    # as many seeds as there is time for`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Steps < 1 || seeds < 1 {
				return holdfast.Errorf(holdfast.Invalid, "sim: --steps and --count must be at least 1")
			}
			o.Out = cmd.OutOrStdout()
			if trace {
				o.Log, o.Trace = cmd.OutOrStdout(), slog.LevelDebug
			}
			failed := 0
			for range seeds {
				start := time.Now()
				r := Run(o)
				took := time.Since(start)
				fmt.Fprintf(cmd.ErrOrStderr(), "seed %d took %.2f s, %.0f times as fast as the clock\n", o.Seed, took.Seconds(), r.Time.Seconds()/took.Seconds())
				if len(r.Failures) > 0 {
					failed++
				}
				o.Seed++
			}
			if failed > 0 {
				return holdfast.Errorf(holdfast.Other, "sim: %d of %d runs broke a promise", failed, seeds)
			}
			return nil
		},
	}
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "what decides everything")
	c.Flags().IntVar(&o.Steps, "steps", defaultSteps, "client operations")
	c.Flags().IntVar(&seeds, "count", 1, "how many seeds to play, one after the other")
	c.Flags().BoolVar(&trace, "trace", false, "print the hosts' logs too, between the lines of the history")
	c.AddCommand(campaignCommand(version), proofCommand())
	return c
}
