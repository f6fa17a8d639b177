package fleet

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-cloud/holdfast"
)

// Serve adds --serve to `holdfast sim`: a fleet that answers until it is ended.
func Serve(sim *cobra.Command, version string) *cobra.Command {
	o := Options{Version: version}
	var serve bool
	mine := []string{"hosts", "racks", "vms", "listen", "still"}
	fs := sim.Flags()
	fs.BoolVar(&serve, "serve", false, "serve the API and the web interface of a simulated cluster, until Ctrl-C")
	fs.IntVar(&o.Hosts, "hosts", 200, "with --serve: how many hosts it has")
	fs.IntVar(&o.Racks, "racks", 20, "with --serve: in how many racks they stand")
	fs.IntVar(&o.VMs, "vms", 2000, "with --serve: how many VMs there are")
	fs.StringVar(&o.Listen, "listen", DefaultListen, "with --serve: `address` that answers; one that is not of loopback can be reached by others")
	fs.BoolVar(&o.Still, "still", false, "with --serve: nothing happens by itself")
	sim.Example += `
  holdfast sim --serve                 # 200 hosts and 2,000 VMs, in a browser
  holdfast sim --serve --hosts 8 --racks 4 --vms 60`
	sim.Long += `

With --serve nothing is run and checked: a cluster of that many hosts stands
behind the real API and web interface, to look at and to develop against. Its
records and planners are the product's; its hosts are played, and hold nothing.
VMs are started and stopped, and now and then a rack is lost and comes back.`
	run := sim.RunE
	sim.RunE = func(cmd *cobra.Command, args []string) error {
		if !serve {
			if name := given(fs, func(n string) bool { return slices.Contains(mine, n) }); name != "" {
				return holdfast.Errorf(holdfast.Invalid, "sim: --%s goes with --serve", name)
			}
			return run(cmd, args)
		}
		if name := given(fs, func(n string) bool {
			return n != "serve" && n != "seed" && !slices.Contains(mine, n)
		}); name != "" {
			return holdfast.Errorf(holdfast.Invalid, "sim: --%s does not go with --serve", name)
		}
		seed, err := fs.GetUint64("seed")
		if err != nil {
			return err
		}
		o.Seed, o.Out = seed, cmd.OutOrStdout()
		o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		return o.Run(cmd.Context())
	}
	return sim
}

// given is a flag that was given and that is meant, or "".
func given(fs *pflag.FlagSet, meant func(string) bool) (name string) {
	fs.Visit(func(f *pflag.Flag) {
		if meant(f.Name) && name == "" {
			name = f.Name
		}
	})
	return name
}

// Run has a fleet answer until ctx ends.
func (o Options) Run(ctx context.Context) error {
	f, err := Start(o)
	if err != nil {
		return err
	}
	defer f.Close()
	link, err := f.SetupLink()
	if err != nil {
		return err
	}
	f.tell(o.Out, link)
	<-ctx.Done()
	return nil
}

func (f *Fleet) tell(out io.Writer, link string) {
	fmt.Fprintf(out, `A simulated cluster: %d hosts in %d racks, %d VMs. No such host exists.

  pages and API          https://%s
  make the first admin   %s
  command line           holdfast status --socket %s

`, f.o.Hosts, f.o.Racks, f.o.VMs, f.Addr(), link, f.Socket())
	if !strings.HasPrefix(f.Addr(), "127.") && !strings.HasPrefix(f.Addr(), "[::1]") {
		fmt.Fprintf(out, "Others can reach %s: make the first admin before they do.\n", f.Addr())
	}
	fmt.Fprintf(out, "Ctrl-C ends it; nothing of it is kept.\n")
}
