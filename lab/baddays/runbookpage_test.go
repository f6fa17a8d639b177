package baddays

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// block is a fenced block of commands of a runbook, with what they print, or a
// block of output alone, which is what 'holdfast status' prints.
type block struct {
	page string
	line int
	place
	commands []typed
	want     []string
}

// place is where the blocks below a mark are played, and how they end.
type place struct {
	scene     string // in which it is played
	on        string // the host at which it is typed, "" any
	exit      int    // the status with which one of the commands may end
	notPlayed string // or why it is not
}

// typed is a command line, and what is typed when it asks.
type typed struct {
	line  string
	input string
}

func (c typed) words() []string { return strings.Fields(c.line) }

func (b block) at() string { return fmt.Sprintf("docs/runbooks/%s.md:%d", b.page, b.line) }

// blocks reads the blocks of a page (docs/runbooks/README.md says how they are
// written).
func blocks(p runbooks.Page) (out []block, err error) {
	var mark place
	fence, follows := "", false // follows: nothing but empty lines since a block of commands
	for i, line := range strings.Split(p.Text, "\n") {
		last := len(out) - 1
		switch {
		case fence != "" && line == "```":
			follows, fence = fence == "sh", ""
		case fence == "sh" && strings.HasPrefix(line, "> "):
			if n := len(out[last].commands); n > 0 {
				out[last].commands[n-1].input += line[2:] + "\n"
			}
		case fence == "sh":
			out[last].commands = append(out[last].commands, typed{line: line})
		case fence == "text":
			out[last].want = append(out[last].want, line)
		case line == "```sh", line == "```text" && !follows:
			fence = line[3:]
			b := block{page: p.Name, line: i + 1, place: mark}
			if fence == "text" {
				b.commands, b.exit = []typed{{line: "holdfast status"}}, 0
			}
			if b.scene == "" && b.notPlayed == "" {
				return nil, fmt.Errorf("%s: neither a scene nor why it is not played stands above this block", b.at())
			}
			out = append(out, b)
		case line == "```text":
			fence = "text"
		case strings.HasPrefix(line, "```"), strings.HasPrefix(line, "<!--"):
			if mark, err = marked(line); err != nil {
				return nil, fmt.Errorf("docs/runbooks/%s.md:%d: %w", p.Name, i+1, err)
			}
		case line != "":
			follows = false
		}
	}
	return out, nil
}

// marked reads what stands above blocks.
func marked(line string) (m place, err error) {
	text := strings.TrimSuffix(strings.TrimPrefix(line, "<!-- "), " -->")
	if why, ok := strings.CutPrefix(text, "not played: "); ok {
		return place{notPlayed: why}, nil
	}
	lab, ok := strings.CutPrefix(text, "lab: ")
	parts := strings.Split(lab, ", ")
	m.scene = parts[0]
	for _, p := range parts[1:] {
		word, rest, _ := strings.Cut(p, " ")
		switch word {
		case "on":
			m.on = rest
		case "exit":
			m.exit, err = strconv.Atoi(rest)
			ok = ok && err == nil
		default:
			ok = false
		}
	}
	if !ok {
		return m, fmt.Errorf("%q is none of ```sh, ```text, <!-- lab: SCENE, on HOST, exit STATUS -->, <!-- not played: … -->", line)
	}
	return m, nil
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
