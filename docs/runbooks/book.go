// Package runbooks is the pages for a bad night: one for each health condition,
// for each drill, and for what is seen when nobody answers. They are part of the
// program, so that 'holdfast runbook' shows them where there is no network.
//
// A page is called as its condition is, up to the first / or @ of the
// condition's identity: "rack-away/b" and "clock@b1" have the pages rack-away
// and clock. That name is stable. How a page is written, and how its commands
// are played by a test, says README.md beside it.
package runbooks

import (
	"embed"
	"io/fs"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

//go:embed *.md
var files embed.FS

// index is the page that is no page: what is seen, and which page that is.
const index = "README"

// Page is one page.
type Page struct {
	Name  string // of its condition; drills begin with "drill-"
	Title string // what is the matter, in a few words
	Text  string // Markdown, as it is in the file
}

// Pages returns all pages by name.
func Pages() []Page {
	names, _ := fs.Glob(files, "*.md") // the pattern is well formed
	var pages []Page
	for _, file := range names {
		text, err := files.ReadFile(file)
		if name := strings.TrimSuffix(file, ".md"); err == nil && name != index {
			pages = append(pages, parse(name, string(text)))
		}
	}
	return pages
}

// parse reads the title of a page: "# name: title".
func parse(name, text string) Page {
	head, _, _ := strings.Cut(text, "\n")
	_, title, _ := strings.Cut(strings.TrimPrefix(head, "# "), ": ")
	return Page{Name: name, Title: title, Text: text}
}

// Name returns the name of the page for a condition, by the condition's
// identity. Whether there is one, Find tells.
func Name(condition string) string {
	if i := strings.IndexAny(condition, "/@"); i >= 0 {
		return condition[:i]
	}
	return condition
}

// Find returns the page of a name, or of a condition's identity. NotFound: there
// is none.
func Find(name string) (Page, error) {
	pages := Pages()
	if i := slices.IndexFunc(pages, func(p Page) bool { return p.Name == Name(name) }); i >= 0 {
		return pages[i], nil
	}
	return Page{}, holdfast.Errorf(holdfast.NotFound, "there is no runbook %q; 'holdfast runbook' lists them", name)
}

// Search returns the pages with all these words, in any case: those that have
// them in name and title if there are any, otherwise those that have them
// anywhere.
func Search(words ...string) []Page {
	pages := Pages()
	if heads := having(pages, words, func(p Page) string { return p.Name + " " + p.Title }); len(heads) > 0 {
		return heads
	}
	return having(pages, words, func(p Page) string { return p.Text })
}

func having(pages []Page, words []string, in func(Page) string) (out []Page) {
	for _, p := range pages {
		text := strings.ToLower(in(p))
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, strings.ToLower(w)) }) {
			out = append(out, p)
		}
	}
	return out
}

// Plain is a page for a terminal: without what the test reads, and what is typed
// and printed indented.
func (p Page) Plain() string {
	var out []string
	hidden, fenced := false, false
	for line := range strings.Lines(p.Text) {
		empty := strings.TrimSpace(line) == ""
		switch {
		case hidden:
			hidden = !strings.Contains(line, "-->")
		case strings.HasPrefix(line, "<!--"):
			hidden = !strings.Contains(line, "-->")
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case empty && len(out) > 0 && strings.TrimSpace(out[len(out)-1]) == "": // one empty line is enough
		case fenced && !empty:
			out = append(out, "    "+line)
		default:
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
