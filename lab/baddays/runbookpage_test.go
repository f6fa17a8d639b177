package baddays

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// block is a fenced block of commands of a runbook, with what they print, or a
// block of output alone, which is what 'holdfast status' prints.
type block struct {
	page      string
	line      int
	scene     string // in which it is played
	notPlayed string // or why it is not
	commands  []typed
	want      []string
}

// typed is a command line, and what is typed when it asks.
type typed struct {
	words []string
	input string
}

func (b block) at() string { return fmt.Sprintf("docs/runbooks/%s.md:%d", b.page, b.line) }

// blocks reads the blocks of a page (docs/runbooks/README.md says how they are
// written).
func blocks(p runbooks.Page) (out []block, err error) {
	var mark block
	fence, follows := "", false // follows: nothing but empty lines since a block of commands
	for i, line := range strings.Split(p.Text, "\n") {
		last := len(out) - 1
		comment := strings.TrimSuffix(strings.TrimPrefix(line, "<!-- "), " -->")
		switch {
		case fence != "" && line == "```":
			follows, fence = fence == "sh", ""
		case fence == "sh" && strings.HasPrefix(line, "> "):
			if n := len(out[last].commands); n > 0 {
				out[last].commands[n-1].input += line[2:] + "\n"
			}
		case fence == "sh":
			out[last].commands = append(out[last].commands, typed{words: strings.Fields(line)})
		case fence == "text":
			out[last].want = append(out[last].want, line)
		case line == "```sh", line == "```text" && !follows:
			fence = line[3:]
			b := block{page: p.Name, line: i + 1, scene: mark.scene, notPlayed: mark.notPlayed}
			if fence == "text" {
				b.commands = []typed{{words: []string{"holdfast", "status"}}}
			}
			if b.scene == "" && b.notPlayed == "" {
				return nil, fmt.Errorf("%s: neither a scene nor why it is not played stands above this block", b.at())
			}
			out = append(out, b)
		case line == "```text":
			fence = "text"
		case strings.HasPrefix(comment, "lab: "):
			mark = block{scene: comment[len("lab: "):]}
		case strings.HasPrefix(comment, "not played: "):
			mark = block{notPlayed: comment[len("not played: "):]}
		case strings.HasPrefix(line, "```"), strings.HasPrefix(line, "<!--"):
			return nil, fmt.Errorf("docs/runbooks/%s.md:%d: %q is none of ```sh, ```text, <!-- lab: … -->, <!-- not played: … -->", p.Name, i+1, line)
		case line != "":
			follows = false
		}
	}
	return out, nil
}

// allBlocks are the blocks of all pages.
func allBlocks(t *testing.T) (out []block) {
	t.Helper()
	for _, p := range runbooks.Pages() {
		bs, err := blocks(p)
		if err != nil {
			t.Error(err)
		}
		if len(bs) == 0 {
			t.Errorf("runbook %s has nothing to type", p.Name)
		}
		out = append(out, bs...)
	}
	return out
}

// scenery is a state that the lab is brought into, one after the other.
type scenery struct {
	name  string
	long  bool // only at length
	steps []string
}

// scenes reads testdata/runbooks.txt: "scene NAME" or "scene NAME, at length",
// and its steps below it.
func scenes(text string) (out []scenery) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, isScene := strings.CutPrefix(line, "scene ")
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case isScene:
			name, long := strings.CutSuffix(name, ", at length")
			out = append(out, scenery{name: name, long: long})
		case len(out) > 0:
			out[len(out)-1].steps = append(out[len(out)-1].steps, line)
		}
	}
	return out
}

// lookup reports whether a command only looks, so that it may be asked again
// until it says what is waited for.
func lookup(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		return slices.Contains([]string{"status", "list", "show", "faults", "runbook", "--plan"}, w)
	}) && !slices.Contains(words, "--acknowledge")
}

// said reports whether the lines that are wanted stand in a text, in order.
// Between them there may be others; … in a line stands for anything.
func said(text string, want []string) bool {
	lines := strings.Split(text, "\n")
	for _, w := range want {
		i := slices.IndexFunc(lines, func(l string) bool { return fits(l, w) })
		if i < 0 {
			return false
		}
		lines = lines[i+1:]
	}
	return true
}

// fits reports whether a line is what a pattern says; spaces count as one.
func fits(line, pattern string) bool {
	one := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	line = one(line)
	parts := strings.Split(pattern, "…")
	for i, part := range parts {
		part = one(part)
		at := strings.Index(line, part)
		if i == len(parts)-1 && i > 0 { // the end, as late as it may be
			return strings.HasSuffix(line, part)
		}
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		line = strings.TrimSpace(line[at+len(part):])
	}
	return line == ""
}

func TestLinesFit(t *testing.T) {
	for _, c := range []struct {
		line, pattern string
		want          bool
	}{
		{"  WARNING  rack b is away (b1): 1 volume short (since 13:04:09Z)", "WARNING  rack b is away (b1)… (since …)", true},
		{"WARNING  rack b is away (b1) (since 13:04:09Z)", "WARNING  rack b is away (b1)… (since …)", true},
		{"WARNING  rack c is away (c1)", "WARNING  rack b is away…", false},
		{"copies:  1/2", "copies: … 1/2", true},
		{"copies:  1/2", "copies: 1/2", true},
		{"copies:  1/23", "copies: 1/2", false},
		{"state:   degraded", "…ok", false},
		{"", "…", true},
	} {
		if got := fits(c.line, c.pattern); got != c.want {
			t.Errorf("%q fits %q: %v", c.line, c.pattern, got)
		}
	}
	if said("a\nb\nc", []string{"c", "a"}) || !said("a\nb\nc", []string{"a", "c"}) {
		t.Error("the order of lines is not kept")
	}
}
