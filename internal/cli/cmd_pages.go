package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func pagesColumns() []column[v1.Pages] {
	return []column[v1.Pages]{
		{"NAMES", false, func(p v1.Pages) any { return strings.Join(p.Names, " ") }},
		{"UNTIL", false, func(p v1.Pages) any { return p.Authority.Until }},
		{"SHA-256 OF THE AUTHORITY", false, func(p v1.Pages) any { return p.Authority.SHA256 }},
		{"SITE'S OWN CERTIFICATE", false, func(p v1.Pages) any {
			if p.Site == nil {
				return "none"
			}
			return fmt.Sprintf("%s, until %s", strings.Join(p.Site.Names, " "), p.Site.Until.Format(time.DateOnly))
		}},
	}
}

// What a host takes of a certificate and of its key, in bytes.
const (
	maxCertificates = 64 << 10
	maxKeyFile      = 16 << 10
)

func pagesName(p v1.Pages) string { return p.Names[0] }

func (a *app) pagesCmd() *cobra.Command {
	c := noun("pages", "The names by which people open the pages, and what browsers are to trust for them", a.pagesShowCmd(), a.pagesSetCmd(), a.pagesSetCertificateCmd(), a.pagesRemoveCertificateCmd())
	c.Long = `People open the cluster's pages by a name, at first the cluster's own with .local
behind it: phones and computers on the same link find the hosts by it, without
any server of names. Names elsewhere, such as cloud.example.org, are for your
own DNS to answer for.

An authority of their own vouches for the names and for nothing else. Install its
certificate where you open the pages (the page /ui/trust shows how, and has it as
a QR code), and the browser warns no more and offers passkeys. Compare the
SHA-256 there with what is said here.

A site that has a certificate from an authority that its people's browsers trust
already gives it with 'holdfast pages set-certificate': there is nothing to
install then for who opens the pages by a name of that.`
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

func siteColumns() []column[v1.Pages] {
	return []column[v1.Pages]{
		{"NAMES", false, func(p v1.Pages) any { return strings.Join(p.Site.Names, " ") }},
		{"UNTIL", false, func(p v1.Pages) any { return p.Site.Until }},
		{"ISSUER", false, func(p v1.Pages) any { return p.Site.Issuer }},
		{"SHA-256", false, func(p v1.Pages) any { return p.Site.SHA256 }},
	}
}

func (a *app) pagesSetCertificateCmd() *cobra.Command {
	return &cobra.Command{Use: "set-certificate CERTIFICATE KEY", Short: "Have the pages show a certificate of the site's own", Args: args("CERTIFICATE", "KEY"),
		Long: `Have the pages show a certificate that the site has from elsewhere, for names of
the site's own DNS. Every host shows it to who asks for one of those names, from
the next moment on. The names of before stay, with the authority behind them.

CERTIFICATE and KEY are files, PEM. In the first stands the site's own certificate,
and then each that vouches for the one before; the key is not encrypted. Give
another one the same way before it ends; three weeks before that a condition tells
of it.`,
		Example: "  holdfast pages set-certificate fullchain.pem privkey.pem --dry-run\n  holdfast pages set-certificate fullchain.pem privkey.pem",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) (err error) {
			var s v1.PagesSite
			if s.Certificate, err = readText("CERTIFICATE", args[0], maxCertificates, "give the site's own and those that vouch for it alone"); err != nil {
				return err
			}
			if s.Key, err = readText("KEY", args[1], maxKeyFile, "give the key alone"); err != nil {
				return err
			}
			p, err := c.SetPagesSite(ctx, s)
			return printed(a, p, err, siteColumns(), func(p v1.Pages) string { return p.Site.Names[0] })
		})}
}

func (a *app) pagesRemoveCertificateCmd() *cobra.Command {
	return &cobra.Command{Use: "remove-certificate", Short: "Have the pages show the site's own certificate no more", Args: args(),
		Long:    "Have the pages show the site's own certificate no more. Passkeys that were made at a name that only it stood for serve no more, until it is back.",
		Example: "  holdfast pages remove-certificate",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := c.RemovePagesSite(ctx); err != nil {
				return err
			}
			return a.done("certificate", "pages", "The pages show the site's own certificate no more.")
		})}
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
