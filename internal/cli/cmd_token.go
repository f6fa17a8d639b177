package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

func (a *app) tokenCmd() *cobra.Command {
	id := func(t v1.Token) string { return t.ID }
	cols := []column[v1.Token]{
		{"ID", false, func(t v1.Token) any { return t.ID }},
		{"NAME", false, func(t v1.Token) any { return t.Name }},
		{"OWNER", false, func(t v1.Token) any { return t.Owner }},
		{"ROLE", false, func(t v1.Token) any { return t.Role }},
		{"PROJECT", false, func(t v1.Token) any { return orAll(t.Project) }},
		{"EXPIRES", false, func(t v1.Token) any { return t.Expires }},
		{"CREATED", true, func(t v1.Token) any { return t.Created }},
	}
	list := listCmd(a, resource[v1.Token]{noun: "token", many: "your tokens, and those of whom you administer", cols: cols, name: id, all: (*client.Client).Tokens})
	return noun("token", "Keys of programs", list, a.tokenCreateCmd(), revokeCmd(a, "token", "a token useless", "5c1e90aa3f12", (*client.Client).RevokeToken))
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var s v1.TokenSpec
	var life string
	c := &cobra.Command{Use: "create TOKEN --role ROLE", Short: "Make a token; it is printed once", Args: args("TOKEN"),
		Long:    "Make a token for a program; it is printed once and cannot be shown again. It is no more than who makes it, and ends with the user who did. A program sends it as 'Authorization: Bearer TOKEN'; the command line finds it in the file 'token' of a --credential directory, beside the cluster's ca.pem.",
		Example: "  holdfast token create grafana --role viewer --expires 90d\n  holdfast token create ci --role operator --expires 8h > ~/.config/holdfast/ci/token",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if s.Role == "" {
				return usageError{errors.New("--role is missing; see 'holdfast user --help' for what there is")}
			}
			d, err := config.ParsePeriod(life)
			if err != nil {
				return holdfast.Errorf(holdfast.Invalid, "--expires %s: %w", plain(life), err)
			}
			s.Name, s.Seconds = args[0], int64(d/time.Second)
			t, err := c.CreateToken(ctx, s)
			if err != nil {
				return err
			}
			if a.structured() {
				return a.encode(t)
			}
			fmt.Fprintln(a.Stdout, plain(t.Token))
			return nil
		})}
	c.Flags().StringVar(&s.Role, "role", "", "viewer, operator, tenant-admin or cluster-admin")
	c.Flags().StringVar(&s.Project, "project", "", "`name` of a project; default: the whole cluster")
	c.Flags().StringVar(&life, "expires", "90d", "how long it lasts, at most a year")
	return c
}

func (a *app) sessionCmd() *cobra.Command {
	id := func(s v1.SessionInfo) string { return s.ID }
	cols := []column[v1.SessionInfo]{
		{"ID", false, func(s v1.SessionInfo) any { return s.ID }},
		{"USER", false, func(s v1.SessionInfo) any { return s.User }},
		{"FROM", false, func(s v1.SessionInfo) any { return s.From }},
		{"CREATED", false, func(s v1.SessionInfo) any { return s.Created }},
		{"EXPIRES", false, func(s v1.SessionInfo) any { return s.Expires }},
		{"CURRENT", true, func(s v1.SessionInfo) any { return s.Current }},
	}
	list := listCmd(a, resource[v1.SessionInfo]{noun: "session", many: "your sessions, and those of whom you administer", cols: cols, name: id, all: (*client.Client).Sessions})
	return noun("session", "Who is logged in", list, revokeCmd(a, "session", "a session useless: who holds it is logged out", "9f02c7714be0a1d3", (*client.Client).RevokeSession))
}

// revokeCmd is `NOUN revoke ID`.
func revokeCmd(a *app, noun, what, example string, f func(*client.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{Use: "revoke ID", Short: "Make " + what, Args: args("ID"),
		Example: "  holdfast " + noun + " revoke " + example,
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := f(c, ctx, args[0]); err != nil {
				return err
			}
			return a.done(noun, args[0], "The "+noun+" lets nobody in any more.")
		})}
}
