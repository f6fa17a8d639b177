package story

import (
	"io"
	"os"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Read reads a story file, and no more of it than a story may have.
func Read(path string) (*Story, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "the story: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "the story: %w", err)
	}
	return NewLanguage().Parse(path, string(b))
}

// Command reads one command, without a time. Kind Invalid says what is wrong.
func (l *Language) Command(text string) (Command, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Command{}, holdfast.Errorf(holdfast.Invalid, "it says nothing")
	}
	c, why := l.command(words)
	if why != "" {
		return Command{}, holdfast.Errorf(holdfast.Invalid, "%s", why)
	}
	return c, nil
}

// Parse reads a story. Errors are of kind Invalid and begin with name:line.
func (l *Language) Parse(name, text string) (*Story, error) {
	if len(text) > MaxBytes {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s: a story has at most %d bytes, this one %d", name, MaxBytes, len(text))
	}
	r := reader{l: l, s: &Story{Name: name}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if why := r.line(n, line); why != "" {
			return nil, holdfast.Errorf(holdfast.Invalid, "%s:%d: %s", name, n, why)
		}
	}
	return r.s, nil
}

// reader reads a story line by line.
type reader struct {
	l   *Language
	s   *Story
	now time.Duration
}

// line takes one line in and returns what is wrong with it.
func (r *reader) line(n int, text string) string {
	if len(text) > MaxLine {
		return "the line is too long"
	}
	if said, comment, is := strings.Cut(text, "#"); is {
		if r.s.Title == "" && len(r.s.Setup)+len(r.s.Lines) == 0 && strings.TrimSpace(said) == "" {
			r.s.Title = strings.Join(strings.Fields(comment), " ")
			r.s.Title = strings.TrimSpace(r.s.Title[:min(len(r.s.Title), maxTitle)])
		}
		text = said
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return ""
	}
	if len(r.s.Setup)+len(r.s.Lines) >= MaxLines {
		return "the story is too long"
	}
	timed := words[0] == "at" && len(words) > 2
	if timed {
		at, ok := duration(words[1])
		switch {
		case !ok:
			return "after \"at\" stands a time such as 12.4s"
		case at > MaxEnd:
			return "the story lasts too long"
		case at < r.now:
			return "it happens at " + at.String() + ", and what stands before it at " + r.now.String()
		}
		r.now, words = at, words[2:]
	}
	c, why := r.l.command(words)
	if why == "" {
		why = r.take(n, c, timed)
	}
	r.s.End = r.now
	return why
}

const maxTitle = 200

func (r *reader) take(n int, c Command, timed bool) string {
	switch {
	case len(c.words) > MaxLine-50:
		return "the line is too long"
	case c.Class == Flow:
		if r.now += c.Time("for"); r.now > MaxEnd {
			return "the story lasts too long"
		}
	case c.Class < Fault && (timed || len(r.s.Lines) > 0 || r.now > 0):
		return "that is said before anything happens"
	case c.Class < Fault:
		r.s.Setup = append(r.s.Setup, Line{N: n, Command: c})
	default:
		r.s.Lines = append(r.s.Lines, Line{N: n, At: r.now, Command: c})
	}
	return ""
}
