// Package story is the language in which runs of a cluster are written down:
// which hosts there are, what is done to them and when, and what must then be
// so. docs/format/story.md describes it. The simulator (internal/sim) plays
// stories and writes its own runs as stories.
//
// A story is lines of words. Each line is one of the forms in forms.go: a form
// has a kind, which players dispatch on, and a pattern of words and places for
// values. To add something that can happen, add its form there and its deed to
// the players.
package story

import (
	"strings"
	"time"
)

// Limits on a text.
const (
	MaxBytes = 1 << 20             // of a text
	MaxLine  = 1000                // bytes
	MaxLines = 20000               // that say something
	MaxTime  = 300_000 * time.Hour // anywhere in it
	MaxEnd   = 1000 * time.Hour    // of a story
)

// Class is the part of a story that a form belongs to.
type Class int

// The classes.
const (
	Topology Class = iota // hosts, racks, sites and what is between them
	Workload              // what is there from the beginning and goes on by itself
	Mix                   // which faults a random run draws, and how often
	Fault                 // something breaks, or is mended
	Order                 // somebody orders something of the cluster
	Flow                  // time passes
	Expect                // something must be so
)

// Form is one kind of line.
type Form struct {
	Kind    string
	Class   Class
	Pattern string // words, {name:type} for values, [what may be left out]
	Says    string // what it does, for people
}

// Command is one line without its time.
type Command struct {
	Kind  string
	Class Class

	words  string
	values []value
}

type value struct{ slot, text string }

// Line is a command of a text and when it happens.
type Line struct {
	N  int           // its number in the text; 0: it is from no text
	At time.Duration // from the beginning of what happens; zero for what is there before
	Command
}

// Story is a whole text.
type Story struct {
	Name  string // of the file, for messages
	Title string // the first comment
	Setup []Line // topology, workload and mix
	Lines []Line // the rest, in the order of time
	End   time.Duration
}

// Has reports whether a value was given.
func (c Command) Has(slot string) bool { return c.Text(slot) != "" }

// Text is a value as it is printed; "" if it was left out.
func (c Command) Text(slot string) string {
	for _, v := range c.values {
		if v.slot == slot {
			return v.text
		}
	}
	return ""
}

// String is the command as it is written in a story.
func (c Command) String() string { return c.words }

// String is the line as it is written in a story.
func (l Line) String() string {
	if l.Class < Fault {
		return l.words
	}
	return "at " + l.At.String() + " " + l.words
}

// String is the story's text. Parsed, it is the same story, its comments aside.
func (s *Story) String() string {
	var b strings.Builder
	if s.Title != "" {
		b.WriteString("# " + s.Title + "\n")
	}
	for _, l := range s.Setup {
		b.WriteString(l.String() + "\n")
	}
	for _, l := range s.Lines {
		b.WriteString(l.String() + "\n")
	}
	if n := len(s.Lines); s.End > 0 && (n == 0 || s.Lines[n-1].At < s.End) {
		b.WriteString("at " + s.End.String() + " end\n")
	}
	return b.String()
}

// Of returns the lines of the setup that are of one kind; none of no story.
func (s *Story) Of(kind string) (out []Line) {
	if s == nil {
		return nil
	}
	for _, l := range s.Setup {
		if l.Kind == kind {
			out = append(out, l)
		}
	}
	return out
}

// String is the class's name, for people.
func (c Class) String() string {
	return []string{"Hosts", "What uses them", "What a random run draws", "Faults", "Orders", "Time", "Expectations"}[c]
}
