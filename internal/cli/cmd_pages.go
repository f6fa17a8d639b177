package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func pagesColumns() []column[v1.Pages] {
	return []column[v1.Pages]{
		{"NAMES", false, func(p v1.Pages) any { return strings.Join(p.Names, " ") }},
		{"UNTIL", false, func(p v1.Pages) any { return p.Authority.Until }},
		{"SHA-256 OF THE AUTHORITY", false, func(p v1.Pages) any { return p.Authority.SHA256 }},
	}
}

func pagesName(p v1.Pages) string { return p.Names[0] }

func (a *app) pagesCmd() *cobra.Command {
	c := noun("pages", "The names by which people open the pages, and what browsers are to trust for them", a.pagesShowCmd(), a.pagesSetCmd())
	c.Long = `People open the cluster's pages by a name, at first the cluster's own with .local
behind it: phones and computers on the same link find the hosts by it, without
any server of names. Names elsewhere, such as cloud.example.org, are for your
own DNS to answer for.

An authority of their own vouches for the names and for nothing else. Install its
certificate where you open the pages (the page /ui/trust shows how, and has it as
a QR code), and the browser warns no more and offers passkeys. Compare the
SHA-256 there with what is said here.`
	return c
}

func (a *app) pagesShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Show the names, and the authority to trust for them", Args: args(),
		Example: "  holdfast pages show\n  holdfast pages show -o json | jq -r .authority.certificate > field.crt",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := c.Pages(ctx)
			return printed(a, p, err, pagesColumns(), pagesName)
		})}
}

func (a *app) pagesSetCmd() *cobra.Command {
	var s v1.PagesSpec
	c := &cobra.Command{Use: "set NAME [NAME...]", Short: "Give the pages other names, the first for people to be told", Args: atLeast("NAME"),
		Long:    "Give the pages other names, the first for people to be told. Where the authority may not vouch for one of them there is another, which people install anew. Passkeys serve at the name that they were made at.",
		Example: "  holdfast pages set field.local cloud.example.org\n  holdfast pages set field.local --new-authority    # if its key may be in other hands",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			s.Names = args
			p, err := replaced(ctx, "the names of the pages", "pages show", c.Pages, func(ctx context.Context, _ v1.Pages) (v1.Pages, error) { return c.SetPages(ctx, s) })
			return printed(a, p, err, pagesColumns(), pagesName)
		})}
	c.Flags().BoolVar(&s.NewAuthority, "new-authority", false, "have another authority in any case, which people install anew")
	return c
}

func passkeyColumns() []column[v1.Passkey] {
	return []column[v1.Passkey]{
		{"ID", false, func(k v1.Passkey) any { return k.ID }},
		{"NAME", false, func(k v1.Passkey) any { return k.Name }},
		{"AT", false, func(k v1.Passkey) any { return k.Site }},
		{"SYNCED", true, func(k v1.Passkey) any { return k.Synced }},
		{"CREATED", false, func(k v1.Passkey) any { return k.Created }},
		{"USED", false, func(k v1.Passkey) any { return k.Used }},
	}
}

func (a *app) userPasskeysCmd() *cobra.Command {
	return &cobra.Command{Use: "passkeys USER", Short: "List the passkeys of a user, who makes them in Settings", Args: args("USER"),
		Example: "  holdfast user passkeys ann",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Passkeys(ctx, args[0])
			if err != nil {
				return err
			}
			return printAll(a, all, passkeyColumns(), func(k v1.Passkey) string { return k.ID })
		})}
}

func (a *app) userPasskeyRemoveCmd() *cobra.Command {
	return &cobra.Command{Use: "forget-passkey USER ID", Short: "Make a passkey useless; sessions go on", Args: args("USER", "ID"),
		Example: "  holdfast user forget-passkey ann 0a1b2c3d4e5f",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.RemovePasskey(ctx, args[0], args[1]); err != nil {
				return err
			}
			return a.done("passkey", args[1], "Passkey "+args[1]+" of "+args[0]+" opens nothing any more.")
		})}
}
