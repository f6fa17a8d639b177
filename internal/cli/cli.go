// Package cli is the command line of Holdfast. Its words are nouns and verbs
// (`holdfast vm create`), with the daily verbs at the top (`status`, `list`,
// `console`). It knows the cluster only through the REST API.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

// Env is what the command line finds around itself. Main fills it in, and
// tests fill it in differently.
type Env struct {
	Version        string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string

	// Serve runs a host until ctx ends.
	Serve func(ctx context.Context, c config.Config) error
	// Helpers are subcommands that other processes of Holdfast run. They get
	// their arguments unparsed, are not shown, and return the exit status.
	Helpers []Helper
	// Extra are whole commands from packages that the command line may not
	// import (lab, drill, sim). They print errors by returning them.
	Extra []*cobra.Command
}

// Helper is a hidden subcommand.
type Helper struct {
	Name string
	Run  func(args []string) int
}

// app is one run of the command line.
type app struct {
	Env
	choice client.Choice
	format string
	exit   int
	dry    bool // what is done is only tried
}

// Run runs a command line and returns the exit status. SIGINT and SIGTERM end
// the context that commands run under.
func Run(env Env, args []string) int {
	for _, h := range env.Helpers {
		if len(args) > 0 && args[0] == h.Name {
			return h.Run(args[1:])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root, a := commands(env)
	root.SetArgs(args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return a.exit
	}
	var status ExitError
	if errors.As(err, &status) {
		return int(status)
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(env.Stderr, "Interrupted. What was asked for goes on where it had begun; 'holdfast status' shows how it is.")
		return 130
	}
	fmt.Fprintf(env.Stderr, "Error: %v\n", err)
	return ExitStatus(err)
}

// Commands returns the whole tree of commands, for what is written about them.
func Commands(env Env) *cobra.Command {
	root, _ := commands(env)
	return root
}

func commands(env Env) (*cobra.Command, *app) {
	a := &app{Env: env}
	a.choice.Getenv = env.Getenv
	return a.root(), a
}

// ExitError ends the command line with a status and prints nothing more.
type ExitError int

// Error implements error.
func (e ExitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError marks errors of the command line itself.
type usageError struct{ error }

// ExitStatus returns the exit status for an error: scripts may rely on it.
func ExitStatus(err error) int {
	var u usageError
	if errors.As(err, &u) {
		return 2
	}
	switch holdfast.KindOf(err) {
	case holdfast.Invalid:
		return 2
	case holdfast.NotFound:
		return 3
	case holdfast.Exists, holdfast.Conflict, holdfast.Busy, holdfast.Fenced:
		return 4
	case holdfast.Unavailable, holdfast.Unknown, holdfast.Closed:
		return 5
	case holdfast.Denied:
		return 6
	case holdfast.NoSpace:
		return 7
	}
	return 1
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "A private cloud that keeps virtual machines and their data alive when a rack is lost",
		Long: `Holdfast turns a few racks of ordinary computers into one private cloud that
keeps virtual machines and their data alive when a rack is lost.

Exit status: 0 done, 1 failed, 2 not understood, 3 not found, 4 in conflict with
what is there, 5 not reachable now, 6 not allowed, 7 no space, 130 interrupted.`,
		Example: `  holdfast status
  holdfast image import debian.raw --name debian
  holdfast vm create db1 --image debian --memory 1GiB --publish 5432:5432/tcp
  holdfast console db1`,
		SilenceErrors: true, SilenceUsage: true, Version: a.Version,
		Args: known("holdfast", "is not a command"), RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())}
	})
	f := root.PersistentFlags()
	f.StringVar(&a.choice.Socket, "socket", "", "talk to the host whose API socket is at this `path`")
	f.StringVar(&a.choice.Host, "host", "", "talk to the host whose HTTPS API is at this `address:port`")
	f.StringVar(&a.choice.Credential, "credential", "", "`directory` with the admin credential, a token or a session, for --host")
	f.StringVarP(&a.format, "output", "o", "table", "`format`: table, wide, json, yaml, csv or name")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp))
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return checkFormat(a.format) }
	root.AddCommand(a.serveCmd(), a.statusCmd(), a.clusterCmd(), a.hostCmd(), a.rackCmd(), a.diskCmd(), a.poolCmd(), a.volumeCmd(), a.imageCmd(),
		a.vmCmd(), a.exportCmd(), a.backupCmd(), a.taskCmd(), a.incidentCmd(), a.eventsCmd(), a.listCmd(), a.consoleCmd(), a.topCmd(), a.debugCmd())
	root.AddCommand(a.runbookCmd(), a.userCmd(), a.tokenCmd(), a.sessionCmd(), a.oidcCmd(), a.pagesCmd(), a.auditCmd(), a.projectCmd(), a.alertCmd(), a.loginCmd(), a.logoutCmd(), a.upgradeCmd())
	root.AddCommand(a.Extra...)
	a.addDryRun(root)
	return root
}

// noun makes a command that only holds verbs; a word that is no verb is an
// error, not a help page.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, SuggestionsMinimumDistance: 2,
		Args: known("holdfast "+name, "is not something to do with a "+name),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(verbs...)
	return c
}

// known refuses a word that is no subcommand, with the one that was probably
// meant.
func known(path, isNot string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("%q %s", plain(args[0]), isNot)
		if s := c.SuggestionsFor(args[0]); len(s) > 0 {
			text += "; did you mean '" + s[0] + "'?"
		}
		return usageError{fmt.Errorf("%s; see '%s --help'", text, path)}
	}
}

// args demands certain arguments, and says which are missing.
func args(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, got []string) error {
		if len(got) == len(names) {
			return nil
		}
		if len(got) < len(names) {
			return usageError{fmt.Errorf("%s is missing; usage: %s", names[len(got)], c.UseLine())}
		}
		return usageError{fmt.Errorf("%q is one argument too many; usage: %s", got[len(names)], c.UseLine())}
	}
}

// atMostOne allows one argument and needs none.
func atMostOne(name string) cobra.PositionalArgs {
	one := args(name)
	return func(c *cobra.Command, got []string) error {
		if len(got) == 0 {
			return nil
		}
		return one(c, got)
	}
}

// with runs f with a client of the chosen host.
func (a *app) with(f func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := client.Connect(cmd.Context(), a.choice)
		if err != nil {
			return err
		}
		defer c.Close()
		ctx := cmd.Context()
		if a.dry {
			ctx = client.DryRun(ctx)
		}
		if err := f(ctx, c, args); err != nil || !a.dry {
			return err
		}
		fmt.Fprintln(a.Stderr, "Nothing was changed: this was only tried.")
		return nil
	}
}

func (a *app) serveCmd() *cobra.Command {
	var file string
	var mapMemory sizeFlag
	var witness, check bool
	var kv config.KV
	c := &cobra.Command{Use: "serve --config FILE", Short: "Run this host", Args: args(),
		Long: `Run this host until it is told to stop (SIGTERM). VMs go on running without it and are taken over again when it returns.

With --witness it is the third voice of a cluster of two racks: it votes in the
control plane and has no disks and no VMs, so that any small computer will do
(an old laptop, a router; under 64 MB of memory). With it either rack can be
lost and the other goes on. Its configuration gives it a rack of its own; it
joins like every host: 'holdfast host code' on a member, 'holdfast host join
CODE' on the witness.

With --etcd the cluster's records are in an etcd that somebody else runs, and no
host votes. It is decided when the cluster is made, and every host is started so,
each with a client certificate that the etcd accepts. Several clusters share one
etcd under different prefixes. Where the certificate's common name is no user of
the etcd's, --etcd-user and --etcd-password-file say who the host is. Its compaction, backups and room are its owner's
business; 'holdfast status' tells when a member of it is away or it is full.`,
		Example: "  holdfast serve --config /etc/holdfast.yaml\n" +
			"  holdfast serve --config /etc/holdfast.yaml --check\n" +
			"  holdfast serve --config /etc/holdfast.yaml --map-memory 1GiB\n" +
			"  holdfast serve --config /etc/holdfast.yaml --witness\n" +
			"  holdfast serve --config /etc/holdfast.yaml --etcd https://etcd1:2379,https://etcd2:2379,https://etcd3:2379 \\\n" +
			"      --etcd-ca /etc/etcd/ca.pem --etcd-cert /etc/etcd/host.pem --etcd-key /etc/etcd/host.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("--config is missing; usage: holdfast serve --config FILE")}
			}
			conf, err := config.Load(file)
			if err != nil {
				return err
			}
			if mapMemory != 0 {
				conf.MapMemory = config.Size(mapMemory)
				if err := conf.MapMemory.CheckMapMemory("--map-memory"); err != nil {
					return err
				}
			}
			if conf.Witness = conf.Witness || witness; witness {
				if err := conf.CheckWitness(); err != nil {
					return err
				}
			}
			if err := overrideKV(&conf, kv); err != nil {
				return err
			}
			if check {
				fmt.Fprintf(a.Stdout, "%s is good: host %s in rack %s\n", plain(file), plain(conf.Name), plain(conf.Rack))
				return nil
			}
			if a.Serve == nil {
				return holdfast.Errorf(holdfast.Unavailable, "this build cannot serve")
			}
			return a.Serve(cmd.Context(), conf)
		}}
	c.Flags().StringVar(&file, "config", "", "configuration `file`, YAML")
	c.Flags().BoolVar(&witness, "witness", false, "vote in the control plane and do nothing else (also: witness: true in the configuration)")
	c.Flags().BoolVar(&check, "check", false, "only look whether the configuration is good for this version")
	c.Flags().StringSliceVar(&kv.Endpoints, "etcd", nil, "the control plane is an external etcd at these https `URLs` (also: kv.endpoints in the configuration, and so on)")
	c.Flags().StringVar(&kv.CA, "etcd-ca", "", "PEM `file` with the authority of its certificates")
	c.Flags().StringVar(&kv.Cert, "etcd-cert", "", "PEM `file` with the certificate that this host shows it")
	c.Flags().StringVar(&kv.Key, "etcd-key", "", "PEM `file` with the key of that")
	c.Flags().StringVar(&kv.Prefix, "etcd-prefix", "", "what all keys begin with, for an etcd that several clusters share")
	c.Flags().StringVar(&kv.User, "etcd-user", "", "`name` of this host's user, if the etcd asks for more than the certificate")
	c.Flags().StringVar(&kv.PasswordFile, "etcd-password-file", "", "`file` with the password of that, which nobody else may read")
	c.Flags().Var(&mapMemory, "map-memory", "memory for pages of block maps, over all disks of the host (default: map_memory of the configuration, else 256MiB)")
	return c
}
