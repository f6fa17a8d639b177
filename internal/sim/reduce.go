package sim

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

// reducer makes a failing run smaller: it leaves parts of its story out, or makes
// them less, as long as the run still fails in the same way. It tries in a fixed
// order, so that the same run always ends as the same story.
type reducer struct {
	lang  *story.Language
	out   io.Writer
	tries int // left
	tried int
	best  *story.Story
	ops   int    // operations of the best run
	why   string // the way it fails
}

// reduction is what came of reducing a run.
type reduction struct {
	before, after size
	story         *story.Story
	why           string // the finding
	tried         int    // runs
}

// size is how much there is to a run.
type size struct{ hosts, lines, operations, clients, vms int }

func (s size) String() string {
	return fmt.Sprintf("%d hosts, %d clients, %d VMs, %d lines, %d operations", s.hosts, s.clients, s.vms, s.lines, s.operations)
}

func sizeOf(s *story.Story, ops int) (z size) {
	z.hosts, z.lines, z.operations = len(s.Of("host")), len(s.Lines), ops
	for _, l := range s.Setup {
		switch l.Kind {
		case "clients":
			z.clients = l.Count("clients")
		case "vms":
			z.vms = l.Count("vms")
		}
	}
	return z
}

// operations are how many a story's clients are to do.
func operations(s *story.Story) int {
	for _, l := range s.Of("operations") {
		return l.Count("operations")
	}
	return 0
}

// way is a finding without what changes from run to run: its words.
func way(finding string) string {
	var out []string
	for _, w := range strings.Fields(finding) {
		if !strings.ContainsAny(w, "0123456789[]/") {
			out = append(out, w)
		}
		if len(out) == 12 {
			break
		}
	}
	return strings.Join(out, " ")
}

// reduce makes the run smaller in at most so many runs. Kind NotFound: it does not
// fail.
func reduce(o Options, tries int, out io.Writer) (*reduction, error) {
	first := Run(o)
	if len(first.Failures) == 0 {
		return nil, holdfast.Errorf(holdfast.NotFound, "seed %d breaks no promise: there is nothing to reduce", first.Seed)
	}
	r := &reducer{lang: story.NewLanguage(), out: out, tries: tries, best: first.Story, ops: first.Ops, why: way(first.Failures[0])}
	red := &reduction{before: sizeOf(first.Story, first.Ops)}
	r.say("it fails: %s", first.Failures[0])
	r.say("%v", red.before)
	if again := Run(Options{Story: r.read(r.best.String())}); len(again.Failures) == 0 || way(again.Failures[0]) != r.why {
		return nil, holdfast.Errorf(holdfast.Other, "seed %d does not fail in the same way when its story is played; this is a fault of the simulator", first.Seed)
	}
	for size := -1; size != r.weight() && r.tries > 0; {
		size = r.weight()
		r.fewerOperations()
		r.leaveOut()
		r.fewerLines()
		r.fewerHosts()
		r.shorter()
	}
	last := Run(Options{Story: r.best})
	red.after, red.story, red.tried = sizeOf(r.best, last.Ops), r.best, r.tried
	if len(last.Failures) > 0 {
		red.why = last.Failures[0]
	}
	r.say("%v, after %d runs", red.after, r.tried)
	return red, nil
}

// Reduce makes a seed that fails smaller in at most so many runs. Kind NotFound: it
// does not fail.
func Reduce(seed uint64, tries int, out io.Writer) (*Reduced, error) {
	red, err := reduce(Options{Seed: seed}, tries, out)
	if err != nil {
		return nil, err
	}
	return &Reduced{Before: red.before.String(), After: red.after.String(), Runs: red.tried, Finding: red.why, Story: red.story.String()}, nil
}

func (r *reducer) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// weight is what is to become less.
func (r *reducer) weight() int {
	return len(r.best.String()) + operations(r.best)
}

func (r *reducer) read(text string) *story.Story {
	s, err := r.lang.Parse("reduced", text)
	if err != nil {
		panic("sim: a reduced story is none: " + err.Error())
	}
	return s
}

// try plays lines of setup and of what happens, and keeps them if they still fail
// in that way.
func (r *reducer) try(setup, lines []string) bool {
	if r.tries <= 0 {
		return false
	}
	s, err := r.lang.Parse("reduced", strings.Join(append(slices.Clone(setup), lines...), "\n"))
	if err != nil || (Options{Story: s}).Check() != nil {
		return false
	}
	r.tries--
	r.tried++
	res := Run(Options{Story: s})
	if len(res.Failures) == 0 || way(res.Failures[0]) != r.why {
		return false
	}
	r.best = s
	r.say("run %d: %v", r.tried, sizeOf(s, res.Ops))
	return true
}

// parts are the best story's lines.
func (r *reducer) parts() (setup, lines []string) {
	for _, l := range r.best.Setup {
		setup = append(setup, l.String())
	}
	for _, l := range r.best.Lines {
		lines = append(lines, l.String())
	}
	if n := len(r.best.Lines); n > 0 && r.best.End > r.best.Lines[n-1].At {
		lines = append(lines, "at "+r.best.End.String()+" end")
	}
	if len(lines) == 0 { // else the faults would be drawn anew
		lines = []string{"at 0s heal"}
	}
	return setup, lines
}

// replace has one line of the setup be another.
func (r *reducer) replace(kind, format string, n int) bool {
	setup, lines := r.parts()
	for i, l := range r.best.Setup {
		if l.Kind == kind {
			setup[i] = fmt.Sprintf(format, n)
		}
	}
	return r.try(setup, lines)
}

// fewerOperations ends the run as soon as it still fails: half, then three
// quarters, then nine tenths of what there are.
func (r *reducer) fewerOperations() {
	for _, by := range []int{2, 4, 10} {
		for n := operations(r.best); n > 50 && r.replace("operations", "operations %d", n-max(1, n/by)); n = operations(r.best) {
		}
	}
}

// leaveOut drops what the seed has going on beside clients and faults, and
// clients and VMs.
func (r *reducer) leaveOut() {
	for _, what := range []string{"last-resort", "damage", "observer", "groups", "second-disks", "limits", "drains", "operator"} {
		setup, lines := r.parts()
		if line := "without " + what; !slices.Contains(setup, line) {
			r.try(append(setup, line), lines)
		}
	}
	for z := sizeOf(r.best, 0); z.vms > 0 && r.replace("vms", "vms %d", z.vms-1); z = sizeOf(r.best, 0) {
	}
	for z := sizeOf(r.best, 0); z.clients > 1 && r.replace("clients", "clients %d", z.clients-1); z = sizeOf(r.best, 0) {
	}
}

// fewerLines is delta debugging: pieces of what happens are left out, ever
// smaller ones.
func (r *reducer) fewerLines() {
	_, lines := r.parts()
	for piece := max(1, len(lines)/2); ; piece /= 2 {
		for at := 0; at < len(lines) && len(lines) > 1; {
			setup, _ := r.parts()
			rest := slices.Delete(slices.Clone(lines), at, min(at+piece, len(lines)))
			if len(rest) > 0 && r.try(setup, rest) {
				lines = rest
			} else {
				at += piece
			}
		}
		if piece <= 1 {
			return
		}
	}
}

// fewerHosts takes hosts away, with the lines that name them.
func (r *reducer) fewerHosts() {
	for _, h := range r.best.Of("host") {
		name := h.Text("host")
		setup, lines := r.parts()
		without := func(all []string) []string {
			return slices.DeleteFunc(slices.Clone(all), func(l string) bool { return names(l, name) })
		}
		if rest := without(lines); len(rest) > 0 {
			r.try(without(setup), rest)
		}
	}
}

// names reports whether a line speaks of a host or of a disk of it.
func names(line, host string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == ',' || c == '/' }), func(w string) bool { return w == host })
}

// shorter has what happens last half as long.
func (r *reducer) shorter() {
	for i := range r.best.Lines {
		for range 3 {
			l := r.best.Lines[i]
			times := l.Times("for")
			if len(times) == 0 {
				break
			}
			var half []string
			for _, d := range times {
				half = append(half, (d / 2).Round(time.Millisecond).String())
			}
			setup, lines := r.parts()
			lines[i] = strings.Replace(lines[i], " for "+l.Text("for"), " for "+strings.Join(half, ","), 1)
			if lines[i] == l.String() || !r.try(setup, lines) {
				break
			}
		}
	}
}

const corpus = "internal/sim/testdata/stories/found"

// reduceCommand is `holdfast sim reduce`.
func reduceCommand() *cobra.Command {
	var o Options
	var tries int
	var file, out string
	c := &cobra.Command{
		Use:   "reduce [FILE]",
		Short: "Make a run that breaks a promise as small as it can be, and write it as a story",
		Long: `Play a seed, or a story from a file, that breaks a promise, and leave out of it
what can be left out while it still breaks that promise: operations, faults,
hosts, clients, VMs, an operator's work; and make what is left shorter. The
story is written into the corpus of regressions, which every test run plays.

The same run is always made into the same story. Progress goes to standard error.`,
		Example: `  holdfast sim reduce --seed 7
  holdfast sim reduce --tries 1000 --out small.txt seven.txt`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if tries < 1 || o.Steps < 0 {
				return holdfast.Errorf(holdfast.Invalid, "sim reduce: --tries must be at least 1")
			}
			name := fmt.Sprintf("seed-%d", o.Seed)
			if len(args) > 0 {
				if cmd.Flags().Changed("seed") {
					return holdfast.Errorf(holdfast.Invalid, "sim reduce: give a seed or a file, not both")
				}
				if o.Story, err = story.Read(args[0]); err != nil {
					return err
				}
				o.Seed, name = 0, strings.TrimSuffix(filepath.Base(args[0]), ".txt")
			}
			if err := o.Check(); err != nil {
				return err
			}
			red, err := reduce(o, tries, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if file = out; file == "" {
				file = filepath.Join(corpus, name+".txt")
			}
			red.story.Title = red.why
			if err := writeStory(file, red.story); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%sbefore: %v\nafter:  %v, by %d runs\nwritten to %s\n", red.story, red.before, red.after, red.tried, file)
			return nil
		},
	}
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "the run")
	c.Flags().IntVar(&o.Steps, "steps", 0, "client operations (default: those of the story, or 10000)")
	c.Flags().IntVar(&tries, "tries", 400, "runs at most")
	c.Flags().StringVar(&out, "out", "", "`file` for the story (default: in "+corpus+")")
	return c
}
