package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	playDisk    = 1 << 30
	mostPatient = 100
)

// plays are the flags of `holdfast lab play`.
type plays struct {
	getenv   func(string) string
	dir      string
	patience float64
	check    bool
	keep     bool
}

// PlayCommand returns `play`, for `holdfast lab`.
func PlayCommand(getenv func(string) string) *cobra.Command {
	p := plays{getenv: getenv}
	c := &cobra.Command{Use: "play STORY...", Short: "Play stories of the simulator's language on real processes, each in a lab of its own",
		Long: `Play stories (docs/format/story.md) on real processes, one after the other: the
same that 'holdfast sim play' plays in a simulated cluster. Each gets a lab of its
own with the hosts of the story, which goes when the story is over. Its VMs run a
guest that writes numbered blocks, flushes each and verifies all at every boot; its
clients are groups of NBD clients whose history is judged for linearizability. Its
faults are struck by the means of the lab: processes are killed and stopped, cables
cut, disks filled and pulled.

Times of the story are real times. Something expected may take --patience times as
long as the story says; what comes after lines that took longer than the story has
for them happens so much later. A line that has no counterpart on real processes is
refused, with its number, before anything is started; --check says only that.
Stories that cut cables or fail disks need root; where root's rights are missing,
power that goes takes nothing with it that was written.

At the end everything is put right, every guest verifies its disk, every client's
history is judged, and the copies of all volumes are compared. Exit status 0 only if
every line came true and nothing was lost.`,
		Example: `  holdfast lab play rack_loss.txt
  holdfast lab play --patience 3 -o json internal/sim/testdata/stories/power_loss.txt
  holdfast lab play --check internal/sim/testdata/stories/*.txt
  holdfast lab play --keep --dir /tmp/l split.txt && holdfast lab status --dir /tmp/l`,
		Args: cobra.MinimumNArgs(1),
		RunE: p.run,
	}
	f := c.Flags()
	f.Float64Var(&p.patience, "patience", 1, "how many times as long as the story says something expected may take")
	f.BoolVar(&p.check, "check", false, "say whether the stories can be played, and play none")
	f.BoolVar(&p.keep, "keep", false, "leave the lab as it is in the end (one story only)")
	return c
}

func (p *plays) run(cmd *cobra.Command, args []string) error {
	switch {
	case p.patience < 1 || p.patience > mostPatient:
		return holdfast.Errorf(holdfast.Invalid, "--patience %v: give 1 to %d", p.patience, mostPatient)
	case p.keep && len(args) > 1:
		return holdfast.Errorf(holdfast.Invalid, "--keep leaves one lab; give one story")
	}
	p.dir, _ = cmd.Flags().GetString("dir") // of every lab command
	var stories []*story.Story
	var stages []staging
	for _, path := range args { // all of them before anything is started
		s, err := story.Read(path)
		if err != nil {
			return err
		}
		st, err := stage(s)
		if err == nil && !p.check {
			err = st.possible(s)
		}
		if err != nil {
			return err
		}
		stories, stages = append(stories, s), append(stages, st)
	}
	failed := 0
	for i, s := range stories {
		if p.check {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: a lab can play it\n", s.Name)
			continue
		}
		r, err := p.play(cmd, s, stages[i])
		if perr := show(cmd, r); perr != nil {
			return perr
		}
		if err != nil && (r.Begun.IsZero() || cmd.Context().Err() != nil) {
			return err
		}
		if !r.OK {
			failed++
		}
	}
	if failed > 0 {
		return holdfast.Errorf(holdfast.Damaged, "lab play: %d of %d stories did not end as they should; see the checks above", failed, len(stories))
	}
	return nil
}

// play plays one story in a lab that is made for it.
func (p *plays) play(cmd *cobra.Command, s *story.Story, st staging) (r PlayReport, err error) {
	scratch, err := os.MkdirTemp("/tmp", "hfplay") // a short path, for sockets
	if err != nil {
		return r, holdfast.Errorf(holdfast.IO, "the lab of the story: %w", err)
	}
	defer os.Remove(scratch) // it goes with what is in it
	dir := filepath.Join(scratch, "l")
	if p.dir != "" {
		if dir, err = filepath.Abs(p.dir); err != nil {
			return r, err
		}
		if _, err := lab.Open(dir); !holdfast.IsKind(err, holdfast.NotFound) {
			return r, holdfast.Errorf(holdfast.Exists, "there is a lab in %s; a story is played in a lab of its own, in another --dir", dir)
		}
	}
	state := filepath.Join(scratch, "state") // the current lab stays what it is
	getenv := func(key string) string {
		if key == "XDG_STATE_HOME" {
			return state
		}
		return p.getenv(key)
	}
	binary, err := os.Executable()
	if err != nil {
		return r, err
	}
	o := lab.Options{Dir: dir, Racks: st.racks, PerRack: st.perRack, DiskSize: playDisk, Binary: binary, Progress: cmd.ErrOrStderr(), Getenv: getenv,
		Netns: st.cables > 0, Bays: st.bays > 0, Volatile: st.power > 0 && lab.CanVolatile() == nil}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", s.Name, s.Title)
	r, err = playIn(cmd.Context(), o, s, p.patience, p.keep && err == nil)
	if p.keep {
		fmt.Fprintf(cmd.ErrOrStderr(), "the lab is left in %s; 'holdfast lab down --wipe --dir %s' ends it\n", dir, dir)
		return r, err
	}
	return r, errors.Join(err, os.RemoveAll(state))
}

// playIn brings a lab up, plays a story in it, and ends it unless it is kept.
func playIn(ctx context.Context, o lab.Options, s *story.Story, patience float64, keep bool) (r PlayReport, err error) {
	if !keep {
		defer func() {
			l, oerr := lab.Open(o.Dir)
			if oerr == nil {
				oerr = l.Down(true, o.Getenv)
			}
			if err == nil {
				err = oerr
			}
		}()
	}
	l, err := lab.Up(ctx, o)
	if err != nil {
		return r, err
	}
	return Play(ctx, PlayOptions{Site: Site{Lab: l, Binary: o.Binary, Progress: o.Progress}, Story: s, Patience: patience})
}

// print prints the report for people.
func (r PlayReport) print(out io.Writer) error {
	if r.Begun.IsZero() {
		return nil // nothing was played
	}
	fmt.Fprintf(out, "%s: %s\n\n", r.Story, r.Title)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	fmt.Fprintln(out)
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintf(out, "\nThe story came true on real processes, in %.0f s: nothing was lost, all copies are equal.\n", r.Seconds)
	}
	return nil
}
