package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

func receiverColumns() []column[v1.AlertReceiver] {
	span := func(secs int64) string {
		if secs == 0 {
			return "never"
		}
		return (time.Duration(secs) * time.Second).String()
	}
	return []column[v1.AlertReceiver]{
		{"NAME", false, func(r v1.AlertReceiver) any { return r.Name }},
		{"KIND", false, func(r v1.AlertReceiver) any { return r.Kind }},
		{"TO", false, func(r v1.AlertReceiver) any { return cmp.Or(r.URL, strings.Join(r.To, ",")) }},
		{"SEVERITY", false, func(r v1.AlertReceiver) any { return r.Severity }},
		{"STATE", false, func(r v1.AlertReceiver) any { return r.State }},
		{"OPEN", false, func(r v1.AlertReceiver) any { return r.Open }},
		{"SENT", false, func(r v1.AlertReceiver) any { return timeOf(r.Sent) }},
		{"BUNDLE", true, func(r v1.AlertReceiver) any { return (time.Duration(r.Bundle) * time.Second).String() }},
		{"REMIND", true, func(r v1.AlertReceiver) any { return span(r.Remind) }},
		{"PRIVATE", true, func(r v1.AlertReceiver) any { return r.Private }},
		{"SERVER", true, func(r v1.AlertReceiver) any { return r.Server }},
		{"TLS", true, func(r v1.AlertReceiver) any { return r.TLS }},
		{"USER", true, func(r v1.AlertReceiver) any { return r.User }},
		{"FROM", true, func(r v1.AlertReceiver) any { return r.From }},
		{"FAILING", true, func(r v1.AlertReceiver) any { return timeOf(r.Failing) }},
		{"ERROR", true, func(r v1.AlertReceiver) any { return r.Error }},
	}
}

func receiverName(r v1.AlertReceiver) string { return r.Name }

func (a *app) alertCmd() *cobra.Command {
	r := resource[v1.AlertReceiver]{noun: "alert receiver", many: "who is told what is wrong", cols: receiverColumns(), name: receiverName, all: (*client.Client).AlertReceivers}
	c := &cobra.Command{Use: "receiver", Short: "Who is told what is wrong", SuggestionsMinimumDistance: 2,
		Args: known("holdfast alert receiver", "is not something to do with a receiver"),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	show := &cobra.Command{Use: "show NAME", Short: "Show one receiver, and whether it is reached", Args: args("NAME"), Example: "  holdfast alert receiver show ops\n  holdfast alert receiver show ops -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.AlertReceiver(ctx, args[0])
			return printed(a, r, err, receiverColumns(), receiverName)
		})}
	remove := &cobra.Command{Use: "remove NAME", Aliases: []string{"delete"}, Short: "Tell a receiver nothing more", Args: args("NAME"), Example: "  holdfast alert receiver remove ops",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteAlertReceiver(ctx, args[0]); err != nil {
				return err
			}
			return a.done("receiver", args[0], "Receiver "+args[0]+" is told nothing more.")
		})}
	c.AddCommand(a.receiverAddCmd(), a.receiverSetCmd(), listCmd(a, r), show, a.receiverTestCmd(), remove)
	top := noun("alert", "Tell people outside of the cluster what is wrong", c)
	top.Args = known("holdfast alert", "is not something to do with alerts")
	top.Long = `Receivers are told what is wrong: by mail, or by a webhook, which is an HTTP
server that gets JSON. They are told when something goes wrong, gets worse and
is over, and reminded of what is still wrong. The host that leads sends it; what
was told is known to the next.`
	return top
}

func (a *app) receiverTestCmd() *cobra.Command {
	return &cobra.Command{Use: "test NAME", Short: "Send a receiver a test message, and say what its server answers", Args: args("NAME"), Example: "  holdfast alert receiver test ops",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			t, err := c.TestAlertReceiver(ctx, args[0])
			if err != nil {
				return err
			}
			if a.structured() {
				if err := a.encode(t); err != nil {
					return err
				}
			} else if t.OK {
				return a.done("receiver", args[0], fmt.Sprintf("Host %s has sent a test message to %s: %s", t.Host, args[0], t.Answer))
			}
			if !t.OK {
				return holdfast.Errorf(holdfast.Unavailable, "host %s could not send a test message to %s: %s", t.Host, args[0], t.Answer)
			}
			return nil
		})}
}

// receiverFlags are what a receiver is made of. Secrets come from files: others see
// the command line.
type receiverFlags struct {
	s                          v1.AlertReceiverSpec
	bundle, remind, ca         string
	url, urlFile, secret, pass string
}

func (f *receiverFlags) add(c *cobra.Command) {
	g := c.Flags()
	g.StringVar(&f.url, "url", "", "`URL` that gets the JSON: a webhook")
	g.StringVar(&f.urlFile, "url-file", "", "`file` with that URL, or - for standard input: many have a key in them, and others see the command line")
	g.StringVar(&f.secret, "secret-file", "", "`file` with the secret that signs a webhook's messages, or -; default: one is made and printed")
	g.StringVar(&f.s.Server, "server", "", "mail `server` and port, like mail.example.org:587")
	g.StringVar(&f.s.TLS, "tls", "", "to the mail server: starttls, tls or none; default: tls for port 465, otherwise starttls")
	g.StringVar(&f.s.User, "user", "", "`name` at the mail server")
	g.StringVar(&f.pass, "password-file", "", "`file` with the password there, or -")
	g.StringVar(&f.s.From, "from", "", "mail `address` that it is from")
	g.StringSliceVar(&f.s.To, "to", nil, "mail `addresses` that it goes to")
	g.StringVar(&f.s.Severity, "severity", "warning", "the least that is told of: error, warning or info")
	g.StringVar(&f.bundle, "bundle", "30s", "how long news is gathered before it is told; ten times as long if all of it is good")
	g.StringVar(&f.remind, "remind", "1d", "how often it is told what is still wrong: 1h, 1d; never")
	g.BoolVar(&f.s.Private, "private", false, "its address may be one that is not public")
	g.StringVar(&f.ca, "ca", "", "`file` with the certificate authorities, in PEM, that alone vouch for its server; none: those of the hosts")
}

// read reads what the flags name.
func (f *receiverFlags) read(a *app) (err error) {
	if f.url != "" && f.urlFile != "" {
		return usageError{errors.New("give --url or --url-file, not both")}
	}
	f.s.URL = f.url
	for _, x := range []struct {
		from, what string
		to         *string
	}{{f.urlFile, "URL", &f.s.URL}, {f.secret, "secret", &f.s.Secret}, {f.pass, "password", &f.s.Password}} {
		if x.from != "" {
			in := passwordFlag{file: x.from}
			if *x.to, err = in.read(a, x.what, false); err != nil {
				return err
			}
		}
	}
	if f.ca != "" && f.ca != "none" {
		if f.s.CA, err = readCA(f.ca); err != nil {
			return err
		}
	}
	if f.s.Bundle, err = span("bundle", f.bundle); err != nil {
		return err
	}
	f.s.Remind, err = span("remind", f.remind)
	return err
}

func readCA(path string) (string, error) {
	return readText("--ca", path, 16<<10, "give the authorities of that server alone")
}

// readText reads a file of no more than so many bytes; what is how people know it.
func readText(what, path string, most int64, advice string) (string, error) {
	r, err := os.Open(path)
	if err != nil {
		return "", holdfast.Errorf(holdfast.NotFound, "%s: %w", what, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return "", holdfast.Errorf(holdfast.IO, "%s: %w", what, err)
	case int64(len(b)) > most:
		return "", holdfast.Errorf(holdfast.Invalid, "%s %s: at most %d bytes are taken; %s", what, path, most, advice)
	}
	return string(b), nil
}

// span reads a time in seconds; never is 0.
func span(flag, text string) (*int64, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = config.ParsePeriod(text)
	}
	if secs := int64(d / time.Second); err == nil && d >= 0 {
		return &secs, nil
	}
	return nil, holdfast.Errorf(holdfast.Invalid, "--%s %q is no time: write it like 30s, 4h or 1d, or never", flag, plain(text))
}

func (a *app) receiverAddCmd() *cobra.Command {
	var f receiverFlags
	c := &cobra.Command{Use: "add NAME --url URL | --server HOST:PORT --from ADDRESS --to ADDRESS,...", Aliases: []string{"create"}, Short: "Have somebody told what is wrong", Args: args("NAME"),
		Long: `Have somebody told what is wrong. A webhook gets JSON, signed with its secret,
which is printed once if none is given. What stands in a URL behind the server
is kept as a secret, too, and not shown again.

Messages go to public addresses; --private lets them go to those of private
networks, and of the hosts themselves.`,
		Example: "  holdfast alert receiver add ops --url https://alerts.example.org/holdfast\n" +
			"  holdfast alert receiver add chat --url-file chat.url --severity error\n" +
			"  holdfast alert receiver add mail --server mail.example.org:587 --user holdfast --password-file pass --from holdfast@example.org --to ops@example.org",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := f.read(a); err != nil {
				return err
			}
			switch {
			case f.s.URL != "" && f.s.Server == "":
				f.s.Kind = "webhook"
			case f.s.Server != "" && f.s.URL == "":
				f.s.Kind = "mail"
			default:
				return usageError{errors.New("give --url or --url-file, for a webhook, or --server, --from and --to, for mail")}
			}
			f.s.Name = args[0]
			r, err := c.CreateAlertReceiver(ctx, f.s)
			if err != nil || a.structured() {
				return printed(a, r, err, receiverColumns(), receiverName)
			}
			if err := printOne(a, r, receiverColumns(), receiverName); err != nil || r.Secret == "" || !a.forPeople() {
				return err
			}
			fmt.Fprintf(a.Stdout, "\nIts messages are signed with this secret, which is not shown again:\n%s\n", plain(r.Secret))
			return nil
		})}
	f.add(c)
	return c
}

func (a *app) receiverSetCmd() *cobra.Command {
	var f receiverFlags
	c := &cobra.Command{Use: "set NAME", Short: "Change a receiver", Args: args("NAME"),
		Long:    "Change a receiver. What is not given stays as it is; --to is given whole. With another server the password is to be given again.",
		Example: "  holdfast alert receiver set ops --severity error --remind 4h\n  holdfast alert receiver set ops --secret-file new-secret\n  holdfast alert receiver set mail --to ops@example.org,night@example.org"}
	c.RunE = a.with(func(ctx context.Context, cl *client.Client, args []string) error {
		if err := f.read(a); err != nil {
			return err
		}
		set := f.change(c.Flags().Changed)
		if set == (v1.AlertReceiverSet{}) {
			return usageError{errors.New("say what is to be changed of the receiver, like --severity error")}
		}
		r, err := cl.SetAlertReceiver(ctx, args[0], set)
		return printed(a, r, err, receiverColumns(), receiverName)
	})
	f.add(c)
	return c
}

// change is what the flags that were given ask for.
func (f *receiverFlags) change(given func(string) bool) (set v1.AlertReceiverSet) {
	s := &f.s
	text := func(to **string, v *string, flags ...string) {
		for _, flag := range flags {
			if given(flag) {
				*to = v
			}
		}
	}
	text(&set.URL, &s.URL, "url", "url-file")
	text(&set.Secret, &s.Secret, "secret-file")
	text(&set.Server, &s.Server, "server")
	text(&set.TLS, &s.TLS, "tls")
	text(&set.User, &s.User, "user")
	text(&set.Password, &s.Password, "password-file")
	text(&set.From, &s.From, "from")
	text(&set.Severity, &s.Severity, "severity")
	text(&set.CA, &s.CA, "ca")
	if given("to") {
		set.To = &s.To
	}
	if given("bundle") {
		set.Bundle = s.Bundle
	}
	if given("remind") {
		set.Remind = s.Remind
	}
	if given("private") {
		set.Private = &s.Private
	}
	return set
}
