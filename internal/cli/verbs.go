package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast/client"
)

// resource is a kind of thing that is listed and shown in the same way as the
// others.
type resource[T any] struct {
	noun string // as on the command line
	many string // for texts: "the volumes"
	cols []column[T]
	name func(T) string
	all  func(*client.Client, context.Context) ([]T, error)
	one  func(*client.Client, context.Context, string) (T, error) // nil: not shown alone
}

// listCmd is `NOUN list`.
func listCmd[T any](a *app, r resource[T]) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List " + r.many, Args: args(),
		Example: fmt.Sprintf("  holdfast %[1]s list\n  holdfast %[1]s list -o wide\n  holdfast %[1]s list -o json", r.noun),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			v, err := r.all(c, ctx)
			if err != nil {
				return err
			}
			return printAll(a, v, r.cols, r.name)
		})}
}

// showCmd is `NOUN show NAME`.
func showCmd[T any](a *app, r resource[T], example string) *cobra.Command {
	arg := strings.ToUpper(r.noun)
	return &cobra.Command{Use: "show " + arg, Short: "Show one " + r.noun, Args: args(arg),
		Example: fmt.Sprintf("  holdfast %[1]s show %[2]s\n  holdfast %[1]s show %[2]s -o json", r.noun, example),
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := r.one(c, ctx, args[0])
			return printed(a, v, err, r.cols, r.name)
		})}
}

// printed prints what a call answered, unless it failed.
func printed[T any](a *app, v T, err error, cols []column[T], name func(T) string) error {
	if err != nil {
		return err
	}
	return printOne(a, v, cols, name)
}

// structured reports whether the chosen format is for programs.
func (a *app) structured() bool { return a.format == "json" || a.format == "yaml" }

// forPeople reports whether the chosen format is a table, which may have more
// below it.
func (a *app) forPeople() bool { return a.format == "table" || a.format == "wide" }

// done prints what was done to a thing: a sentence for people, its name with
// -o name, and an object for programs.
func (a *app) done(what, name, sentence string) error {
	sentence = a.wouldBe(sentence)
	switch {
	case a.structured():
		return a.encode(map[string]string{what: name, "done": sentence})
	case a.format == "name":
		fmt.Fprintln(a.Stdout, plain(name))
	case a.forPeople():
		fmt.Fprintln(a.Stdout, plain(sentence))
	}
	return nil
}

// wouldBe says of what was only tried that it was not done.
func (a *app) wouldBe(sentence string) string {
	if a.dry {
		sentence = "If it were done: " + sentence
	}
	return sentence
}

// planned prints what would be done, one line each, or an object of them.
func (a *app) planned(lines ...string) error {
	if a.structured() {
		return a.encode(map[string][]string{"plan": lines})
	}
	for _, l := range lines {
		fmt.Fprintln(a.Stdout, plain(l))
	}
	return nil
}
