package sim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

// Campaign is many seeds, one after the other on every processor.
type Campaign struct {
	First uint64        // seed
	Seeds uint64        // at most; 0: as many as there is time for
	Lasts time.Duration // no seed is begun after it; 0: until Seeds are played
	Steps int           // client operations a seed; 0: 10000
	Jobs  int           // seeds at once; 0: one a processor

	Version  string          // of the binary, for the summary
	Protocol string          // of the sources it was built from (ADR 0081); "" if they are not known
	End      <-chan struct{} // closed: no seed is begun any more; nil: never
	Keep     func(*Summary)  // is given what there is every minute, so that a campaign that is cut short counts; nil: nobody
	Out      io.Writer       // progress, and what every failed seed found
}

// Summary is what a campaign came to. Those that are kept stand in
// docs/campaigns and are added up.
type Summary struct {
	Version string `json:"version"` // of the binary, which names its commit
	// Protocol is a hash of the sources that decide what becomes of a write. Seeds
	// count as evidence for the protocol that they were played with.
	Protocol string `json:"protocol,omitempty"`
	Begun    string `json:"begun"`      // RFC 3339
	Jobs     int    `json:"jobs"`       // seeds at once
	First    uint64 `json:"first_seed"` // and those after it
	Steps    int    `json:"steps"`      // client operations of a seed, at least
	// Next is the first seed that was not begun, where that is not the one after
	// Seeds: the campaign was cut short, with seeds under way.
	Next uint64 `json:"next_seed,omitempty"`
	Counts
}

// Counts are what adds up.
type Counts struct {
	Hours     float64 `json:"hours"` // by the wall clock
	Seeds     uint64  `json:"seeds"`
	Simulated float64 `json:"simulated_hours"` // clusters' time, all seeds together
	Busy      float64 `json:"busy_hours"`      // of it, with clients and faults going on

	Operations  int `json:"operations"` // of clients
	Faults      int `json:"faults"`
	TakeOvers   int `json:"take_overs"`       // sessions that a client opened at a new epoch over one that was there
	Recoveries  int `json:"crash_recoveries"` // of disks, after their process or power had gone
	Partitions  int `json:"partitions"`       // of the network, whole or in one direction
	CacheLosses int `json:"cache_losses"`     // all power was lost, and with it what was not flushed
	Reads       int `json:"reads_beside"`     // by others than the volume's client
	Judged      int `json:"reads_judged"`     // by Porcupine too

	Kinds  map[string]int    `json:"faults_by_kind,omitempty"`
	Visits map[string]uint64 `json:"visits,omitempty"` // of the protocol's machines: how often an event met a state

	Failed []Failed `json:"failed,omitempty"`
}

// Failed is a seed that broke a promise.
type Failed struct {
	Seed uint64 `json:"seed"`
	Why  string `json:"why"` // the first finding
	// Again is the version of a binary of the same protocol in which the seed breaks
	// no promise: what was wrong was a check, or the simulator.
	Again string `json:"passes_in,omitempty"`
}

// broken is how many seeds broke a promise, and not only in the eyes of a check
// that was wrong.
func (c *Counts) broken() (n int) {
	for _, f := range c.Failed {
		if f.Again == "" {
			n++
		}
	}
	return n
}

// countsOf are those of one seed.
func countsOf(r *Result) Counts {
	c := Counts{Seeds: 1, Simulated: r.Time.Hours(), Busy: r.Busy.Hours(), Operations: r.Ops, Faults: r.Faults,
		TakeOvers: r.TakeOvers, Recoveries: r.Recoveries, Partitions: r.Partitions, CacheLosses: r.Lost, Reads: r.Observed, Judged: r.Judged, Visits: r.Visits, Kinds: r.Kinds}
	if len(r.Failures) > 0 {
		c.Failed = []Failed{{Seed: r.Seed, Why: r.Failures[0]}}
	}
	return c
}

// Add adds others up with these.
func (c *Counts) Add(o Counts) {
	c.Hours += o.Hours
	c.Seeds += o.Seeds
	c.Simulated += o.Simulated
	c.Busy += o.Busy
	c.Operations += o.Operations
	c.Faults += o.Faults
	c.TakeOvers += o.TakeOvers
	c.Recoveries += o.Recoveries
	c.Partitions += o.Partitions
	c.CacheLosses += o.CacheLosses
	c.Reads += o.Reads
	c.Judged += o.Judged
	c.Kinds, c.Visits = sum(c.Kinds, o.Kinds), sum(c.Visits, o.Visits)
	c.Failed = append(c.Failed, o.Failed...)
}

// sum adds counts by their names, in a map of its own.
func sum[N int | uint64](a, b map[string]N) map[string]N {
	out := maps.Clone(a)
	if out == nil {
		out = make(map[string]N, len(b))
	}
	for k, n := range b {
		out[k] += n
	}
	return out
}

// String is one line.
func (c *Counts) String() string {
	rate := func(n int) float64 { return float64(n) / max(c.Busy*3600, 1) }
	return fmt.Sprintf("%d seeds, %d failed, %.2f hours: %.1f simulated, %.0f operations and %.2f faults a simulated second, %d take-overs, %d crash recoveries, %d partitions",
		c.Seeds, len(c.Failed), c.Hours, c.Simulated, rate(c.Operations), rate(c.Faults), c.TakeOvers, c.Recoveries, c.Partitions)
}

const (
	tellEvery = 10 * time.Second
	keepEvery = time.Minute
)

// Run plays the seeds. A seed that was begun is played to its end.
func (c Campaign) Run() Summary {
	if c.Jobs == 0 {
		c.Jobs = runtime.GOMAXPROCS(0)
	}
	if c.Steps == 0 {
		c.Steps = defaultSteps
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a world's garbage is short-lived
	begun := time.Now()
	sum := Summary{Version: c.Version, Protocol: c.Protocol, Begun: begun.UTC().Format(time.RFC3339), Jobs: c.Jobs, First: c.First, Steps: c.Steps}
	var mu sync.Mutex // guards sum, next, told, kept
	next, told, kept := c.First, begun, begun
	take := func() (seed uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		select {
		case <-c.End:
			return 0, false
		default:
		}
		if c.Seeds > 0 && next-c.First >= c.Seeds || c.Lasts > 0 && time.Since(begun) >= c.Lasts {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var all sync.WaitGroup
	for range c.Jobs {
		all.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				r := Run(Options{Seed: seed, Steps: c.Steps})
				mu.Lock()
				sum.Add(countsOf(&r))
				sum.Hours = time.Since(begun).Hours()
				if len(r.Failures) > 0 {
					fmt.Fprintf(c.Out, "seed %d: %s; again with: holdfast sim --seed %d --steps %d\n", seed, r.Failures[0], seed, c.Steps)
				}
				if time.Since(told) >= tellEvery {
					told = time.Now()
					fmt.Fprintln(c.Out, &sum.Counts)
				}
				if c.Keep != nil && time.Since(kept) >= keepEvery {
					kept, sum.Next = time.Now(), next
					c.Keep(&sum)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	sum.Hours, sum.Next = time.Since(begun).Hours(), 0
	return sum
}

// next is the first seed of a campaign after this one.
func (s *Summary) next() uint64 { return max(s.Next, s.First+s.Seeds) }

// Save puts the summary beside those of other campaigns, or in the place of what
// was kept of this one, and returns the file.
func (s *Summary) Save(dir string) (path string, err error) {
	path = filepath.Join(dir, fmt.Sprintf("seed-%09d.json", s.First))
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o777)
	}
	if err == nil {
		err = os.WriteFile(path+".new", append(b, '\n'), 0o666)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return "", holdfast.Errorf(holdfast.IO, "the summary of a campaign: %w", err)
	}
	return path, nil
}

// Summaries reads those that were saved in a directory, which need not be there,
// by their first seeds.
func Summaries(dir string) (all []Summary, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "seed-*.json"))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "summaries of campaigns in %q: %w", dir, err)
	}
	for _, path := range paths {
		var s Summary
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "%s is no summary of a campaign: %w", path, err)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Summary) int { return cmp.Compare(a.First, b.First) })
	return all, nil
}

// campaignCommand is `holdfast sim campaign`.
func campaignCommand(version string) *cobra.Command {
	c := Campaign{Version: version}
	var dir, page string
	var hours float64
	var again bool
	cmd := &cobra.Command{
		Use:   "campaign",
		Short: "Play seeds on every processor for some hours, and count what happened",
		Long: `Play seed after seed on every processor, go on when one breaks a promise, and
write a summary: how many seeds of which binary, and how many take-overs, crash
recoveries and partitions there were in them. Summaries stay beside each other
in a directory. A campaign begins with the seed after the last one of them, so
that no seed counts twice. What there is is kept every minute.

With --again no new seeds are played but those that broke a promise in the
summaries, if this binary is of the same protocol: where a seed passes now, the
check was wrong and not the protocol, and the summary says in which version.

Ctrl-C ends it after the seeds under way. Exit status 1 if one broke a promise.`,
		Example: `  holdfast sim campaign --hours 2
  holdfast sim campaign --again
  holdfast sim campaign --seeds 1000 --first-seed 1 --summaries /tmp/try`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if again {
				if c.Protocol, err = builtProtocol(version); err != nil {
					return holdfast.Errorf(holdfast.Invalid, "sim campaign --again: %w", err)
				}
				return errors.Join(playAgain(cmd.OutOrStdout(), version, c.Protocol, dir), renewProof(page, dir))
			}
			if hours <= 0 && c.Seeds == 0 || hours < 0 || hours > 24*365 || c.Jobs < 0 || c.Steps < 0 {
				return holdfast.Errorf(holdfast.Invalid, "sim campaign: say for how long (--hours, up to a year) or how many (--seeds)")
			}
			before, err := Summaries(dir)
			if err != nil {
				return err
			}
			next := uint64(1)
			for _, s := range before {
				next = max(next, s.next())
			}
			if c.First == 0 {
				c.First = next
			}
			if c.First < next {
				return holdfast.Errorf(holdfast.Invalid, "sim campaign: seeds up to %d count in %s; begin after them, or name another directory for --summaries", next-1, dir)
			}
			if c.Protocol, err = builtProtocol(version); err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "These seeds will count as evidence for no sources: %v\n", err)
			}
			c.Lasts, c.End, c.Out = time.Duration(hours*float64(time.Hour)), cmd.Context().Done(), cmd.ErrOrStderr()
			c.Keep = func(s *Summary) {
				if _, err := s.Save(dir); err != nil {
					fmt.Fprintln(c.Out, err)
				}
			}
			sum := c.Run()
			if sum.Seeds == 0 {
				return holdfast.Errorf(holdfast.Other, "sim campaign: ended before the first seed")
			}
			path, err := sum.Save(dir)
			if err == nil {
				err = renewProof(page, dir)
			}
			if err != nil {
				return err
			}
			all := sum.Counts
			for _, b := range before {
				all.Add(b.Counts)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\nwritten to %s; with those before it:\n%s\n", &sum.Counts, path, &all)
			if n := len(sum.Failed); n > 0 {
				return holdfast.Errorf(holdfast.Other, "sim campaign: %d of %d seeds broke a promise, the first of them %d", n, sum.Seeds, sum.Failed[0].Seed)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Float64Var(&hours, "hours", 0, "no seed is begun after so many `hours`")
	f.BoolVar(&again, "again", false, "play only what broke a promise, and say in the summaries what does not any more")
	f.Uint64Var(&c.Seeds, "seeds", 0, "at most so many seeds")
	f.Uint64Var(&c.First, "first-seed", 0, "the first one (default: after those that were played)")
	f.IntVar(&c.Jobs, "jobs", 0, "seeds at once (default: one a processor)")
	f.IntVar(&c.Steps, "steps", defaultSteps, "client operations of each seed")
	f.StringVar(&dir, "summaries", "docs/campaigns", "`directory` of the summaries")
	f.StringVar(&page, "page", "docs/PROOF.md", "the page whose figures are made of them, if it is there")
	return cmd
}
