package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func oidcColumns() []column[v1.OIDC] {
	return []column[v1.OIDC]{
		{"NAME", false, func(o v1.OIDC) any { return o.Name }},
		{"ISSUER", false, func(o v1.OIDC) any { return o.Issuer }},
		{"CLIENT", false, func(o v1.OIDC) any { return o.ClientID }},
		{"SECRET", false, func(o v1.OIDC) any { return map[bool]string{true: "kept", false: "none"}[o.HasSecret] }},
		{"SCOPES", false, func(o v1.OIDC) any { return strings.Join(append([]string{"openid"}, o.Scopes...), " ") }},
		{"DOMAINS", false, func(o v1.OIDC) any { return strings.Join(o.Domains, " ") }},
		{"RULES", false, func(o v1.OIDC) any {
			var out []string
			for _, r := range o.Rules {
				out = append(out, ruleText(r))
			}
			return strings.Join(out, ", ")
		}},
		{"CHANGED", true, func(o v1.OIDC) any { return o.Changed }},
	}
}

func oidcName(o v1.OIDC) string { return o.Name }

func ruleText(r v1.OIDCRule) string {
	out := r.Claim + "=" + r.Value + ":" + r.Role
	if r.Project != "" {
		out += ":" + r.Project
	}
	return out
}

// parseRule reads CLAIM=VALUE:ROLE or CLAIM=VALUE:ROLE:PROJECT. A value may have
// colons of its own.
func parseRule(text string) (v1.OIDCRule, error) {
	roles := []string{"viewer", "operator", "tenant-admin", "cluster-admin"}
	claim, rest, ok := strings.Cut(text, "=")
	parts := strings.Split(rest, ":")
	n := len(parts)
	r := v1.OIDCRule{Claim: claim}
	switch {
	case ok && claim != "" && n >= 2 && slices.Contains(roles, parts[n-1]):
		r.Value, r.Role = strings.Join(parts[:n-1], ":"), parts[n-1]
	case ok && claim != "" && n >= 3 && slices.Contains(roles, parts[n-2]):
		r.Value, r.Role, r.Project = strings.Join(parts[:n-2], ":"), parts[n-2], parts[n-1]
	}
	if r.Value == "" {
		return r, usageError{fmt.Errorf("--rule %q: write CLAIM=VALUE:ROLE or CLAIM=VALUE:ROLE:PROJECT, as in groups=field-ops:operator", text)}
	}
	return r, nil
}

func (a *app) oidcCmd() *cobra.Command {
	c := noun("oidc", "Log-in by OpenID Connect, at an issuer that you have", a.oidcShowCmd(), a.oidcSetCmd(), a.oidcDeleteCmd())
	c.Long = `People log in to the pages with the account that they have at an issuer of
OpenID Connect, such as an agency's own. Rules say who is let in, and as what:
the first one that fits. Whom none fits has no access. Passwords go on working,
so that nobody is locked out when the issuer cannot be reached.

At the issuer, register a client for the authorization code flow, with
https://HOST:7440/ui/oidc as redirect URI for each name of a host that people
use. The rest is in docs/OIDC.md.`
	return c
}

func (a *app) oidcShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Show how people log in by OpenID Connect", Args: args(),
		Example: "  holdfast oidc show\n  holdfast oidc show -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			o, err := c.OIDC(ctx)
			return printed(a, o, err, oidcColumns(), oidcName)
		})}
}

// oidcFlags are the settings; what is not given stays.
type oidcFlags struct {
	issuer, client, name, nameClaim, ca string
	scopes, domains, rules              []string
	secret                              passwordFlag
	public                              bool
}

func (a *app) oidcSetCmd() *cobra.Command {
	var f oidcFlags
	c := &cobra.Command{Use: "set", Short: "Set log-in by OpenID Connect up, or change it; what is not given stays", Args: args(),
		Long: "Set log-in by OpenID Connect up, or change it; what is not given stays. The issuer is asked before anything is kept. The client's secret is read from a file or standard input: never from the command line, which others can see.",
		Example: "  holdfast oidc set --issuer https://id.agency.example/realms/field --client-id holdfast --secret-file secret.txt --rule groups=field-ops:operator --rule groups=it:cluster-admin\n" +
			"  holdfast oidc set --rule groups=red-team:tenant-admin:red    # instead of all rules there were\n  holdfast oidc set --issuer https://id.agency.example --client-id holdfast --public --dry-run"}
	c.RunE = a.with(func(ctx context.Context, cl *client.Client, _ []string) error {
		if c.Flags().NFlag() == 0 {
			return usageError{errors.New("nothing is to be changed; see 'holdfast oidc set --help'")}
		}
		o, err := f.set(ctx, a, cl, c.Flags().Changed)
		return printed(a, o, err, oidcColumns(), oidcName)
	})
	c.Flags().StringVar(&f.issuer, "issuer", "", "`URL` of the issuer, exactly as it calls itself")
	c.Flags().StringVar(&f.client, "client-id", "", "what the issuer calls this cluster")
	c.Flags().StringVar(&f.secret.file, "secret-file", "", "`file` with the client's secret, or - for standard input")
	c.Flags().BoolVar(&f.public, "public", false, "the client has no secret")
	c.Flags().StringVar(&f.name, "name", "", "what stands on the button; default: the issuer's host")
	c.Flags().StringSliceVar(&f.scopes, "scope", nil, "`scopes` to ask for beside openid; default: profile,email")
	c.Flags().StringArrayVar(&f.rules, "rule", nil, "CLAIM=VALUE:`ROLE`, or CLAIM=VALUE:ROLE:PROJECT; may be given several times, the first that fits counts")
	c.Flags().StringSliceVar(&f.domains, "domain", nil, "let in only verified e-mail addresses of these `domains`; \"\" for all")
	c.Flags().StringVar(&f.nameClaim, "name-claim", "", "`claim` that names of users are made of; default: preferred_username")
	c.Flags().StringVar(&f.ca, "ca-file", "", "`file` with the CA of the issuer's certificate, PEM; \"\" for those that hosts trust anyway")
	return c
}

// set changes what was given, and keeps the rest as it is at that moment.
func (f *oidcFlags) set(ctx context.Context, a *app, c *client.Client, given func(string) bool) (v1.OIDC, error) {
	return replaced(ctx, "log-in by OpenID Connect", "oidc show", c.OIDC, func(ctx context.Context, o v1.OIDC) (v1.OIDC, error) {
		s, err := f.spec(a, o, given)
		if err != nil {
			return o, err
		}
		return c.SetOIDC(ctx, s)
	})
}

// spec is what is asked for, by what stands.
func (f *oidcFlags) spec(a *app, o v1.OIDC, given func(string) bool) (v1.OIDCSpec, error) {
	s := v1.OIDCSpec{Name: o.Name, Issuer: o.Issuer, ClientID: o.ClientID, Scopes: o.Scopes, CA: o.CA, Domains: o.Domains, NameClaim: o.NameClaim, Rules: o.Rules}
	for flag, x := range map[string]struct{ at, to *string }{"issuer": {&s.Issuer, &f.issuer}, "client-id": {&s.ClientID, &f.client}, "name": {&s.Name, &f.name}, "name-claim": {&s.NameClaim, &f.nameClaim}} {
		if given(flag) {
			*x.at = *x.to
		}
	}
	if given("scope") {
		s.Scopes = f.scopes
	}
	if given("domain") {
		s.Domains = slices.DeleteFunc(slices.Clone(f.domains), func(d string) bool { return d == "" })
	}
	if given("rule") {
		s.Rules = nil
		for _, text := range f.rules {
			r, err := parseRule(text)
			if err != nil {
				return s, err
			}
			s.Rules = append(s.Rules, r)
		}
	}
	if given("ca-file") {
		s.CA = ""
		if f.ca != "" {
			b, err := os.ReadFile(f.ca)
			if err != nil {
				return s, holdfast.Errorf(holdfast.NotFound, "CA: %w", err)
			}
			s.CA = string(b)
		}
	}
	switch {
	case given("secret-file") && f.public:
		return s, usageError{errors.New("give --secret-file or --public, not both; see 'holdfast oidc set --help'")}
	case f.public:
		s.ClientSecret = new(string)
	case given("secret-file"):
		text, err := f.secret.read(a, "The client's secret", false)
		if err != nil {
			return s, err
		}
		s.ClientSecret = &text
	}
	return s, nil
}

func (a *app) oidcDeleteCmd() *cobra.Command {
	return &cobra.Command{Use: "delete", Short: "End log-in by OpenID Connect; who came by it is logged out", Args: args(),
		Example: "  holdfast oidc delete",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := c.DeleteOIDC(ctx); err != nil {
				return err
			}
			return a.done("oidc", "", "People log in with passwords alone.")
		})}
}
