package runbooks_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// Bounds of a page for a tired person.
const (
	maxLines = 60  // as it is shown
	maxWidth = 114 // but for a line of output
)

// TestPagesAreWrittenAlike: the same four sections, few lines, short ones.
func TestPagesAreWrittenAlike(t *testing.T) {
	sections := map[string][]string{
		"":       {"## What you see", "## What it means", "## What to type", "## When to call for help"},
		"drill-": {"## What it does", "## What to type", "## What the times mean", "## When a check fails"},
	}
	for _, p := range runbooks.Pages() {
		lines := strings.Split(strings.TrimSpace(p.Text), "\n")
		if p.Title == "" || !strings.HasPrefix(lines[0], "# "+p.Name+": ") {
			t.Errorf("%s begins %q, not \"# %s: what is the matter\"", p.Name, lines[0], p.Name)
		}
		if n := strings.Count(p.Plain(), "\n"); n > maxLines {
			t.Errorf("%s has %d lines, more than %d", p.Name, n, maxLines)
		}
		var heads []string
		fenced := false
		for i, line := range lines {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if strings.HasPrefix(line, "## ") {
				heads = append(heads, line)
			}
			if !fenced && len([]rune(line)) > maxWidth {
				t.Errorf("%s:%d is %d characters wide", p.Name, i+1, len([]rune(line)))
			}
		}
		want := sections[""]
		if strings.HasPrefix(p.Name, "drill-") {
			want = sections["drill-"]
		}
		if !slices.Equal(heads, want) {
			t.Errorf("%s has the sections %q, not %q", p.Name, heads, want)
		}
	}
}

// TestTheIndexLeadsToEveryPage, and pages that are named exist.
func TestTheIndexLeadsToEveryPage(t *testing.T) {
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range runbooks.Pages() {
		if !strings.Contains(string(index), "]("+p.Name+".md)") {
			t.Errorf("README.md does not lead to %s", p.Name)
		}
	}
	link := regexp.MustCompile(`\]\(([a-z0-9-]+)\.md\)|holdfast runbook ([a-z0-9-]+)`)
	texts := []string{string(index)}
	for _, p := range runbooks.Pages() {
		texts = append(texts, p.Text)
	}
	for _, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := runbooks.Find(m[1] + m[2]); err != nil {
				t.Errorf("%q: %v", m[0], err)
			}
		}
	}
}

func TestAPageIsFound(t *testing.T) {
	for _, name := range []string{"rack-away", "rack-away/b", "disk-rot/04000000@b1"} {
		if p, err := runbooks.Find(name); err != nil || p.Name != runbooks.Name(name) {
			t.Errorf("%s: %q, %v", name, p.Name, err)
		}
	}
	if _, err := runbooks.Find("rack"); holdfast.KindOf(err) != holdfast.NotFound {
		t.Errorf("a word that is no page: %v", err)
	}
	names := func(words ...string) (out []string) {
		for _, p := range runbooks.Search(words...) {
			out = append(out, p.Name)
		}
		return out
	}
	if got := names("RACK", "away"); !slices.Contains(got, "rack-away") {
		t.Errorf("RACK away: %q", got)
	}
	if got := names("epoch", "unicorn"); len(got) > 0 {
		t.Errorf("what nothing speaks of: %q", got)
	}
}

// TestWhatIsForTheTestIsNotShown: a person sees no comments and no fences.
func TestWhatIsForTheTestIsNotShown(t *testing.T) {
	for _, p := range runbooks.Pages() {
		if text := p.Plain(); strings.Contains(text, "<!--") || strings.Contains(text, "```") || strings.Contains(text, "\n\n\n") || len(text) < 300 {
			t.Errorf("%s is shown as\n%s", p.Name, text)
		}
	}
}
