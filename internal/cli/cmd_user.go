package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func userColumns() []column[v1.User] {
	return []column[v1.User]{
		{"NAME", false, func(u v1.User) any { return u.Name }},
		{"ROLE", false, func(u v1.User) any { return u.Role }},
		{"PROJECT", false, func(u v1.User) any { return orAll(u.Project) }},
		{"STATE", false, func(u v1.User) any { return userState(u) }},
		{"SESSIONS", false, func(u v1.User) any { return u.Sessions }},
		{"TOKENS", false, func(u v1.User) any { return u.Tokens }},
		{"CREATED", true, func(u v1.User) any { return u.Created }},
	}
}

// orAll says what no project stands for.
func orAll(project string) string {
	if project == "" {
		return "(all)"
	}
	return project
}

func userState(u v1.User) string {
	switch {
	case u.Disabled:
		return "disabled"
	case u.OIDC != nil:
		return "by OpenID Connect"
	case !u.HasPassword:
		return "no password"
	}
	return "ok"
}

func userName(u v1.User) string { return u.Name }

func users() resource[v1.User] {
	return resource[v1.User]{noun: "user", many: "the users", cols: userColumns(), name: userName, all: (*client.Client).Users, one: (*client.Client).User}
}

func (a *app) userCmd() *cobra.Command {
	c := noun("user", "Who may log in", listCmd(a, users()), showCmd(a, users(), "ann"), a.userAddCmd(), a.userSetCmd(), a.userPasswdCmd(), a.userPasskeysCmd(), a.userPasskeyRemoveCmd(), a.userDeleteCmd(), a.setupLinkCmd())
	c.Long = `Users log in with a name and a password, in a browser or with 'holdfast login'.
In a browser that trusts the pages' name ('holdfast pages --help') they may add
passkeys, which serve in place of the password there.

viewer         looks
operator       runs what is there: starts, stops, consoles, snapshots, drains
tenant-admin   everything of one project, its users too
cluster-admin  everything

Whoever may open a host's socket is a cluster admin without an account, and so
is the certificate that 'cluster init' wrote: with either of them a forgotten
password is set anew.`
	return c
}

func (a *app) userAddCmd() *cobra.Command {
	var s v1.UserSpec
	var in passwordFlag
	c := &cobra.Command{Use: "add USER --role ROLE", Aliases: []string{"create"}, Short: "Make a user", Args: args("USER"),
		Long:    "Make a user. The password is asked for, or read from a file or standard input: never from the command line, which others can see.",
		Example: "  holdfast user add ann --role operator\n  holdfast user add ann --role operator --password-file - < password.txt",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) (err error) {
			if s.Name = args[0]; s.Role == "" {
				return usageError{errors.New("--role is missing; see 'holdfast user --help' for what there is")}
			}
			if s.Password, err = in.read(a, "Password of "+s.Name, true); err != nil {
				return err
			}
			u, err := c.CreateUser(ctx, s)
			return printed(a, u, err, userColumns(), userName)
		})}
	c.Flags().StringVar(&s.Role, "role", "", "viewer, operator, tenant-admin or cluster-admin")
	c.Flags().StringVar(&s.Project, "project", "", "`name` of the project that the user belongs to; default: the whole cluster")
	in.add(c)
	return c
}

func (a *app) userSetCmd() *cobra.Command {
	var role, project string
	var disabled, enabled bool
	c := &cobra.Command{Use: "set USER", Short: "Change what a user may; it holds at once", Args: args("USER"),
		Example: "  holdfast user set ann --role viewer\n  holdfast user set ann --disabled\n  holdfast user set ann --enabled",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s v1.UserChange
			if cmd.Flags().Changed("role") {
				s.Role = &role
			}
			if cmd.Flags().Changed("project") {
				s.Project = &project
			}
			switch {
			case disabled && enabled:
				return usageError{fmt.Errorf("give --disabled or --enabled, not both; see '%s --help'", cmd.CommandPath())}
			case disabled || enabled:
				s.Disabled = &disabled
			case s == v1.UserChange{}:
				return usageError{fmt.Errorf("nothing is to be changed; see '%s --help'", cmd.CommandPath())}
			}
			return a.with(func(ctx context.Context, c *client.Client, args []string) error {
				u, err := c.SetUser(ctx, args[0], s)
				return printed(a, u, err, userColumns(), userName)
			})(cmd, args)
		}}
	c.Flags().StringVar(&role, "role", "", "viewer, operator, tenant-admin or cluster-admin")
	c.Flags().StringVar(&project, "project", "", "`name` of a project; \"\" for the whole cluster")
	c.Flags().BoolVar(&disabled, "disabled", false, "let the user log in no more, and end the user's sessions")
	c.Flags().BoolVar(&enabled, "enabled", false, "let the user log in again")
	return c
}

func (a *app) userPasswdCmd() *cobra.Command {
	var in passwordFlag
	c := &cobra.Command{Use: "passwd USER", Short: "Give a user another password; the user's other sessions end", Args: args("USER"),
		Long:    "Give a user another password; the user's other sessions end. Who is logged in as that user is asked for the old one, too; with --password-file it is the first of two lines.",
		Example: "  holdfast user passwd ann\n  holdfast user passwd ann --password-file - < password.txt",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			me, err := c.Session(ctx)
			if err != nil {
				return err
			}
			var s v1.PasswordSpec
			if me.Kind == "user" && me.User == args[0] {
				if s.Old, err = in.read(a, "Old password", false); err != nil {
					return err
				}
			}
			if s.Password, err = in.read(a, "New password of "+args[0], true); err != nil {
				return err
			}
			if err := c.SetPassword(ctx, args[0], s); err != nil {
				return err
			}
			return a.done("user", args[0], "User "+args[0]+" has a new password.")
		})}
	in.add(c)
	return c
}

func (a *app) userDeleteCmd() *cobra.Command {
	return &cobra.Command{Use: "delete USER", Short: "Delete a user, with its sessions and tokens", Args: args("USER"),
		Example: "  holdfast user delete ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteUser(ctx, args[0]); err != nil {
				return err
			}
			return a.done("user", args[0], "User "+args[0]+" is deleted.")
		})}
}

func (a *app) setupLinkCmd() *cobra.Command {
	return &cobra.Command{Use: "setup-link", Short: "Print the link that makes the first cluster admin, in a browser", Args: args(),
		Long:    "Print the link that makes the first cluster admin, in a browser. It can be used once, and only while there is no cluster admin who can log in; one that was printed before is void.",
		Example: "  holdfast user setup-link",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			l, err := c.SetupLink(ctx)
			if err != nil {
				return err
			}
			if a.structured() {
				return a.encode(l)
			}
			fmt.Fprintln(a.Stdout, plain(l.URL))
			return nil
		})}
}
