package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// runbookView is a page as programs get it.
type runbookView struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Text  string `json:"text,omitempty"` // Markdown; only of one that is shown
}

func runbookColumns() []column[runbookView] {
	return []column[runbookView]{
		{"NAME", false, func(v runbookView) any { return v.Name }},
		{"WHAT IS THE MATTER", false, func(v runbookView) any { return v.Title }},
	}
}

func (a *app) runbookCmd() *cobra.Command {
	return &cobra.Command{Use: "runbook [NAME | WORDS...]", Short: "What to do when something is wrong: a page for each condition of 'status'",
		Long: `Show what to do when something is wrong: what is seen, what it means, what is
safe meanwhile, what to type, and when to call for help. There is a page for each
condition that 'holdfast status' tells, and for each drill. They are part of the
program: no network and no host is needed.

Without an argument the pages are listed. A word that is no page's name is
searched for.`,
		Example: "  holdfast runbook\n  holdfast runbook rack-away\n  holdfast runbook disk full",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listRunbooks(runbooks.Pages())
			}
			if len(args) == 1 {
				if p, err := runbooks.Find(args[0]); err == nil {
					return a.showRunbook(p)
				}
			}
			switch found := runbooks.Search(args...); len(found) {
			case 0:
				return holdfast.Errorf(holdfast.NotFound, "no runbook speaks of %q; 'holdfast runbook' lists them", plain(strings.Join(args, " ")))
			case 1:
				return a.showRunbook(found[0])
			default:
				return a.listRunbooks(found)
			}
		}}
}

func (a *app) listRunbooks(pages []runbooks.Page) error {
	views := make([]runbookView, len(pages))
	for i, p := range pages {
		views[i] = runbookView{Name: p.Name, Title: p.Title}
	}
	return printAll(a, views, runbookColumns(), func(v runbookView) string { return v.Name })
}

func (a *app) showRunbook(p runbooks.Page) error {
	if a.forPeople() {
		_, err := fmt.Fprint(a.Stdout, p.Plain())
		return err
	}
	return printOne(a, runbookView{p.Name, p.Title, p.Text}, runbookColumns(), func(v runbookView) string { return v.Name })
}

// printWhatToDo names the pages for what a status tells, each once: for causes,
// and for what does not work because of them.
func (a *app) printWhatToDo(st v1.Status) {
	var names []string
	add := func(c v1.Condition) {
		name := runbooks.Name(c.ID)
		if _, err := runbooks.Find(name); err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, c := range st.Conditions {
		if c.Severity != "info" {
			add(c)
		}
		for _, e := range c.Effects {
			if e.Severity == "error" {
				add(e)
			}
		}
	}
	for i, name := range names {
		if i == 0 {
			fmt.Fprintln(a.Stdout)
		}
		fmt.Fprintf(a.Stdout, "What to do: holdfast runbook %s\n", name)
	}
}
