package sim

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

// runs are the flags by which runs are chosen.
type runs struct {
	o                Options
	seeds            int
	minutes          float64
	trace            bool
	topology, faults string
	record           string
}

// Command returns `holdfast sim`. Standard output is the same for the same
// seed, story and build; what the run took by the wall clock goes to standard
// error. version is the binary's.
func Command(version string) *cobra.Command {
	var r runs
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run a whole cluster in simulation, with faults, and check its promises",
		Long: `Run a cluster of the product's own host code over simulated disks, networks,
clocks, control plane and machines. The seed decides the topology, what the
clients do and what breaks; everything that was acknowledged is checked.

A run prints its history and one line of figures. It ends with status 1 if a
promise was broken, and with the line that plays the same history again. What
was done to the cluster stands in the history as lines of a story
(docs/format/story.md); --record writes the whole run as one, and 'sim play'
plays it again, or one that somebody has written.

--topology takes hosts, racks, sites and links from a story file. --faults takes
from one what breaks: exact lines ("at 12.4s cut rack b for 3s"), or which kinds
are drawn how often ("faults kill weight 10"; "faults every 1s lasting 3s").`,
		Example: `  holdfast sim --seed 7
  holdfast sim --seed 7 --trace | less
  holdfast sim --seed 7 --record seven.txt && holdfast sim play seven.txt
  holdfast sim --count 100 --minutes 10 --topology field.txt --faults mostly-cuts.txt
  holdfast sim reduce --seed 7         # the least that still fails
  holdfast sim campaign --hours 2      # as many seeds as there is time for`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	c.Flags().Uint64Var(&r.o.Seed, "seed", 1, "what decides everything")
	c.Flags().IntVar(&r.o.Steps, "steps", defaultSteps, "client operations")
	c.Flags().Float64Var(&r.minutes, "minutes", 0, "simulated minutes in place of steps: so long clients and faults go on")
	c.Flags().IntVar(&r.seeds, "count", 1, "how many seeds to play, one after the other")
	c.Flags().StringVar(&r.topology, "topology", "", "story `file` with the hosts and what is between them")
	c.Flags().StringVar(&r.faults, "faults", "", "story `file` with what breaks, or how often what does")
	c.Flags().StringVar(&r.record, "record", "", "write the run as a story into this `file`; with several seeds the last one that failed")
	c.Flags().BoolVar(&r.trace, "trace", false, "print the hosts' logs too, between the lines of the history")
	c.AddCommand(campaignCommand(version), proofCommand(), playCommand(), reduceCommand())
	return c
}

// run plays the seeds.
func (r *runs) run(cmd *cobra.Command) (err error) {
	switch {
	case r.o.Steps < 1 || r.seeds < 1:
		return holdfast.Errorf(holdfast.Invalid, "sim: --steps and --count must be at least 1")
	case r.minutes < 0 || r.minutes > runLimit.Minutes()/2:
		return holdfast.Errorf(holdfast.Invalid, "sim: --minutes is up to %.0f", runLimit.Minutes()/2)
	case r.minutes > 0:
		r.o.Steps, r.o.Lasts = 0, time.Duration(r.minutes*float64(time.Minute))
	}
	if r.o.Story, err = r.story(); err != nil {
		return err
	}
	failed := 0
	for range r.seeds {
		res, err := play(cmd, r.o, r.trace)
		if err != nil {
			return err
		}
		if len(res.Failures) > 0 {
			failed++
		}
		if r.record != "" && (len(res.Failures) > 0 || failed == 0) {
			if err := writeStory(r.record, res.Story); err != nil {
				return err
			}
		}
		r.o.Seed++
	}
	if failed > 0 {
		return holdfast.Errorf(holdfast.Other, "sim: %d of %d runs broke a promise", failed, r.seeds)
	}
	return nil
}

// story puts the files together that were named.
func (r *runs) story() (*story.Story, error) {
	if r.topology == "" && r.faults == "" {
		return nil, nil
	}
	all := &story.Story{}
	for _, path := range []string{r.topology, r.faults} {
		if path == "" {
			continue
		}
		s, err := story.Read(path)
		if err != nil {
			return nil, err
		}
		for _, l := range s.Setup {
			switch {
			case path == r.topology && l.Class != story.Topology && r.topology != r.faults:
				return nil, holdfast.Errorf(holdfast.Invalid, "%s:%d: a topology has hosts, racks and links only", path, l.N)
			case path == r.faults && l.Class == story.Topology && r.topology != "":
				return nil, holdfast.Errorf(holdfast.Invalid, "%s:%d: --topology says what hosts there are", path, l.N)
			case l.Kind != "seed":
				all.Setup = append(all.Setup, l)
			}
		}
		if path == r.faults {
			all.Lines, all.End = s.Lines, s.End
		} else if s.End > 0 {
			return nil, holdfast.Errorf(holdfast.Invalid, "%s: a topology says nothing of what happens; give that by --faults", path)
		}
		all.Name = path
	}
	// The seed's own clients go on beside what the files say.
	seed, err := story.NewLanguage().Command("seed 1")
	all.Setup = append(all.Setup, story.Line{Command: seed})
	return all, err
}

// play plays one run and says how fast it was.
func play(cmd *cobra.Command, o Options, trace bool) (Result, error) {
	if err := o.Check(); err != nil {
		return Result{}, err
	}
	o.Out = cmd.OutOrStdout()
	if trace {
		o.Log, o.Trace = cmd.OutOrStdout(), slog.LevelDebug
	}
	start := time.Now()
	r := Run(o)
	took := time.Since(start)
	fmt.Fprintf(cmd.ErrOrStderr(), "seed %d took %.2f s, %.0f times as fast as the clock\n", r.Seed, took.Seconds(), r.Time.Seconds()/took.Seconds())
	return r, nil
}

// playCommand is `holdfast sim play`.
func playCommand() *cobra.Command {
	var trace bool
	c := &cobra.Command{
		Use:   "play FILE...",
		Short: "Play stories in the simulator: runs that were recorded, and ones with expectations",
		Long: `Play stories (docs/format/story.md) in the simulator, one after the other. One
that was recorded is the same run again, byte for byte, with the same build. One
without a seed does what it says and nothing else; what it expects must be so.
At its end everything is put right, and every promise is checked.`,
		Example: `  holdfast sim play rack_loss.txt
  holdfast sim play --trace seven.txt | less`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			failed := 0
			for _, path := range args {
				s, err := story.Read(path)
				if err != nil {
					return err
				}
				r, err := play(cmd, Options{Story: s}, trace)
				if err != nil {
					return err
				}
				if len(r.Failures) > 0 {
					failed++
				}
			}
			if failed > 0 {
				return holdfast.Errorf(holdfast.Other, "sim play: %d of %d stories did not end as they should", failed, len(args))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&trace, "trace", false, "print the hosts' logs too, between the lines of the history")
	return c
}

func writeStory(path string, s *story.Story) error {
	err := os.MkdirAll(filepath.Dir(path), 0o777)
	var f *os.File
	if err == nil {
		f, err = os.Create(path)
	}
	if err == nil {
		_, err = io.WriteString(f, s.String())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "the story of the run: %w", err)
	}
	return nil
}
