package sim

import (
	"fmt"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

// playLines has the lines of the story happen at their times, in the place of
// the random player.
func (f *faults) playLines(lines []story.Line) {
	defer f.ended.Set()
	for _, l := range lines {
		if d := f.s.begun + l.At - f.s.w.Now(); d > 0 {
			f.wake.Wait(d)
		}
		if f.over {
			return
		}
		if f.s.quiet && len(f.s.res.Failures) > 0 {
			break // what comes after it means nothing
		}
		f.s.play1(l)
	}
	if f.s.quiet {
		if d := f.s.begun + f.s.story.End - f.s.w.Now(); d > 0 && len(f.s.res.Failures) == 0 {
			f.wake.Wait(d)
		}
		f.s.toldAll = true
		f.told.Set()
	}
	for !f.over {
		f.wake.Wait(clock.Forever)
	}
}

// wait lets a story that goes on without a number of operations end.
func (f *faults) wait() {
	if f.s.quiet {
		f.told.Wait(clock.Forever)
	}
}

// with reports whether a part of what the seed has going on does.
func (s *simulation) with(part string) bool {
	for _, l := range s.story.Of("without") {
		if l.Text("what") == part {
			return false
		}
	}
	return !s.quiet && s.plan.clients > 0
}

// say reads a line that the simulator itself wrote.
func (s *simulation) say(format string, args ...any) story.Command {
	c, err := s.lang.Command(fmt.Sprintf(format, args...))
	if err != nil {
		panic("sim: " + fmt.Sprintf(format, args...) + ": " + err.Error())
	}
	return c
}

// written is the run as a story: what it was made of and all that was done.
func (s *simulation) written() *story.Story {
	out := &story.Story{Title: fmt.Sprintf("what seed %d did", s.o.Seed), Setup: s.setup, Lines: s.struck, End: max(s.o.Lasts, s.over)}
	return out
}
