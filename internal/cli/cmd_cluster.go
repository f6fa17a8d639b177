package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func (a *app) statusCmd() *cobra.Command {
	var check bool
	c := &cobra.Command{Use: "status", Short: "How is it? The truth in one line, then what is wrong", Args: args(),
		Example: "  holdfast status\n  holdfast status --check || echo somebody should look\n  holdfast status -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			st, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if check && st.Level != "ok" {
				a.exit = 1
			}
			if a.format != "table" && a.format != "wide" {
				return printOne(a, st, statusColumns(), func(v1.Status) string { return st.Sentence })
			}
			return a.printStatus(st)
		})}
	c.Flags().BoolVar(&check, "check", false, "exit with 1 if anything needs a person")
	return c
}

func statusColumns() []column[v1.Status] {
	return []column[v1.Status]{
		{"LEVEL", false, func(s v1.Status) any { return s.Level }},
		{"SENTENCE", false, func(s v1.Status) any { return s.Sentence }},
	}
}

func (a *app) printStatus(st v1.Status) error {
	fmt.Fprintln(a.Stdout, plain(st.Sentence))
	n := st.Counts
	if st.Cluster != nil {
		fmt.Fprintf(a.Stdout, "\nCluster %s: %d of %d hosts alive, racks: %d, VMs running: %d, volumes: %d, %s of %s free\n",
			plain(st.Cluster.Name), n.HostsAlive, n.Hosts, n.Racks, n.VMsRunning, n.Volumes, formatSize(n.BytesFree), formatSize(n.BytesTotal))
	}
	if len(st.Conditions) > 0 {
		fmt.Fprintln(a.Stdout)
	}
	a.printConditions(st.Conditions, "")
	if h := st.Host; a.format == "wide" {
		fmt.Fprintf(a.Stdout, "\nAnswered by host %s (rack %s), version %s, accelerator %s (%s), sandbox %s\n",
			plain(h.Name), plain(h.Rack), plain(h.Version), plain(h.Accelerator), plain(h.Why), plain(h.Sandbox))
	}
	return nil
}

// printConditions prints causes, and under each what follows from it.
func (a *app) printConditions(cs []v1.Condition, indent string) {
	for _, c := range cs {
		since := ""
		if c.Since != nil {
			since = " (since " + c.Since.UTC().Format("15:04:05Z") + ")"
		}
		fmt.Fprintf(a.Stdout, "%s%-8s %s%s\n", indent, strings.ToUpper(plain(c.Severity)), plain(c.Text), since)
		a.printConditions(c.Effects, indent+"  ")
	}
}

func clusterColumns() []column[v1.Cluster] {
	return []column[v1.Cluster]{
		{"NAME", false, func(c v1.Cluster) any { return c.Name }},
		{"ID", false, func(c v1.Cluster) any { return c.ID }},
		{"LEADER", false, func(c v1.Cluster) any { return c.Leader }},
		{"VOTERS", false, func(c v1.Cluster) any { return c.Voters }},
		{"FORMAT", true, func(c v1.Cluster) any { return c.Format }},
	}
}

func clusterName(c v1.Cluster) string { return c.Name }

func (a *app) clusterCmd() *cobra.Command {
	info := &cobra.Command{Use: "info", Short: "Show the cluster", Args: args(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			v, err := c.Cluster(ctx)
			if err != nil {
				return err
			}
			return printOne(a, v, clusterColumns(), clusterName)
		})}
	return noun("cluster", "Make a cluster, show it", a.clusterInitCmd(), info)
}

func (a *app) clusterInitCmd() *cobra.Command {
	var name, dir string
	c := &cobra.Command{Use: "init --name NAME", Short: "Make a cluster of this host alone; others join it", Args: args(),
		Example: "  holdfast cluster init --name field\n  holdfast host code      # then, on the next host: holdfast host join CODE",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := holdfast.CheckName("cluster", name); err != nil {
				return err
			}
			if dir == "" {
				dir = filepath.Join(a.configDir(), name)
			}
			if _, err := os.Stat(filepath.Join(dir, client.KeyFile)); err == nil {
				return holdfast.Errorf(holdfast.Exists, "%s holds a credential already; give another directory with --save", dir)
			}
			adm, err := c.InitCluster(ctx, v1.ClusterInit{Name: name})
			if err != nil {
				return err
			}
			if err := client.SaveAdmin(dir, adm); err != nil {
				return fmt.Errorf("the cluster was made, but its admin credential is lost: %w", err)
			}
			fmt.Fprintf(a.Stderr, "The admin credential is in %s: keep it safe, it may do everything.\n", dir)
			return printOne(a, adm.Cluster, clusterColumns(), clusterName)
		})}
	c.Flags().StringVar(&name, "name", "", "`name` of the new cluster")
	c.Flags().StringVar(&dir, "save", "", "`directory` for the admin credential; default ~/.config/holdfast/NAME")
	return c
}

func (a *app) configDir() string {
	if d := a.Getenv("XDG_CONFIG_HOME"); d != "" {
		return filepath.Join(d, "holdfast")
	}
	return filepath.Join(a.Getenv("HOME"), ".config", "holdfast")
}

func hostColumns() []column[v1.Host] {
	return []column[v1.Host]{
		{"NAME", false, func(h v1.Host) any { return h.Name }},
		{"RACK", false, func(h v1.Host) any { return h.Rack }},
		{"STATE", false, func(h v1.Host) any { return h.State }},
		{"VMS", false, func(h v1.Host) any { return len(h.VMs) }},
		{"CPUS", false, func(h v1.Host) any { return h.CPUs }},
		{"MEMORY", false, func(h v1.Host) any { return size(int64(h.MemoryMiB) << 20) }},
		{"FREE", false, func(h v1.Host) any { return size(h.BytesFree) }},
		{"LEADER", false, func(h v1.Host) any { return h.Leader }},
		{"ACCELERATOR", true, func(h v1.Host) any { return h.Accelerator }},
		{"SANDBOX", true, func(h v1.Host) any { return h.Sandbox }},
		{"VOTER", true, func(h v1.Host) any { return h.Voter }},
		{"API", true, func(h v1.Host) any { return h.API }},
		{"VERSION", true, func(h v1.Host) any { return h.Version }},
		{"ID", true, func(h v1.Host) any { return h.ID }},
	}
}

func hostName(h v1.Host) string { return h.Name }

func (a *app) hostCmd() *cobra.Command {
	var rack string
	var undo, plan bool
	code := &cobra.Command{Use: "code", Aliases: []string{"join-code"}, Short: "Make a code that admits one host within the hour", Args: args(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			v, err := c.CreateJoinCode(ctx, v1.JoinCodeSpec{Rack: rack})
			if err != nil {
				return err
			}
			if a.format == "json" || a.format == "yaml" {
				return a.encode(v)
			}
			fmt.Fprintln(a.Stdout, v.Code)
			return nil
		})}
	code.Flags().StringVar(&rack, "rack", "", "admit a host of this `rack` only")
	join := &cobra.Command{Use: "join CODE|-", Short: "Make this host a member of a cluster", Args: args("CODE"),
		Long:    "Make this host a member of the cluster that the code is from. With - the code is read from standard input, so that it stays out of the list of processes.",
		Example: "  holdfast host join hf1-eyJhIjpb...",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			text := args[0]
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(a.Stdin, 8192))
				if err != nil {
					return err
				}
				text = string(b)
			}
			if _, err := v1.ParseJoinCode(text); err != nil {
				return err
			}
			self, err := c.JoinSelf(ctx, v1.HostJoin{Code: strings.TrimSpace(text)})
			if err != nil {
				return err
			}
			if a.format == "json" || a.format == "yaml" {
				return a.encode(self)
			}
			fmt.Fprintf(a.Stdout, "Host %s is a member now. Give it a disk: holdfast disk add PATH\n", plain(self.Name))
			return nil
		})}
	list := &cobra.Command{Use: "list", Short: "List the hosts", Args: args(), RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
		v, err := c.Hosts(ctx)
		if err != nil {
			return err
		}
		return printAll(a, v, hostColumns(), hostName)
	})}
	showC := &cobra.Command{Use: "show HOST", Short: "Show one host", Args: args("HOST"), RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
		v, err := c.Host(ctx, args[0])
		if err != nil {
			return err
		}
		return printOne(a, v, hostColumns(), hostName)
	})}
	drain := &cobra.Command{Use: "drain HOST", Short: "Move work off a host", Args: args("HOST"),
		Example: "  holdfast host drain beta --plan\n  holdfast host drain beta\n  holdfast host drain beta --undo",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if plan {
				return a.planDrain(ctx, c, args[0])
			}
			return c.Drain(ctx, args[0], v1.DrainSpec{On: !undo})
		})}
	drain.Flags().BoolVar(&undo, "undo", false, "let the host take work again")
	drain.Flags().BoolVar(&plan, "plan", false, "only say what would move")
	remove := &cobra.Command{Use: "remove HOST", Short: "Strike a host that will not come back", Args: args("HOST"),
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error { return c.RemoveHost(ctx, args[0]) })}
	return noun("host", "The computers", list, showC, code, join, drain, remove)
}

func (a *app) planDrain(ctx context.Context, c *client.Client, host string) error {
	h, err := c.Host(ctx, host)
	if err != nil {
		return err
	}
	vols, err := c.Volumes(ctx)
	if err != nil {
		return err
	}
	for _, vm := range h.VMs {
		fmt.Fprintf(a.Stdout, "VM %s would move to another host\n", plain(vm))
	}
	n := 0
	for _, v := range vols {
		for _, r := range v.Replicas {
			if r.Host == h.Name {
				n++
			}
		}
	}
	fmt.Fprintf(a.Stdout, "Replicas to be rebuilt elsewhere: %d. Nothing would be lost.\n", n)
	return nil
}

func (a *app) incidentCmd() *cobra.Command {
	cols := []column[v1.Incident]{
		{"ID", false, func(i v1.Incident) any { return i.ID }},
		{"OPENED", false, func(i v1.Incident) any { return i.Opened }},
		{"CLOSED", false, func(i v1.Incident) any {
			if i.Closed == nil {
				return "open"
			}
			return *i.Closed
		}},
		{"RACKS", false, func(i v1.Incident) any { return strings.Join(i.Racks, ",") }},
		{"HOSTS", false, func(i v1.Incident) any { return strings.Join(i.Hosts, ",") }},
		{"STEPS", false, func(i v1.Incident) any { return len(i.Steps) }},
	}
	id := func(i v1.Incident) string { return i.ID }
	list := &cobra.Command{Use: "list", Short: "List losses of hosts, newest first", Args: args(), RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
		v, err := c.Incidents(ctx)
		if err != nil {
			return err
		}
		return printAll(a, v, cols, id)
	})}
	showC := &cobra.Command{Use: "show [INCIDENT]", Short: "Show a loss and its timeline; the newest if none is named", Args: cobra.MaximumNArgs(1),
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := pickIncident(ctx, c, args)
			if err != nil {
				return err
			}
			if err := printOne(a, v, cols, id); err != nil || a.format != "table" && a.format != "wide" {
				return err
			}
			fmt.Fprintln(a.Stdout)
			return timeline(a, v)
		})}
	return noun("incident", "Losses of hosts and what was done", list, showC)
}

func pickIncident(ctx context.Context, c *client.Client, args []string) (v1.Incident, error) {
	if len(args) == 1 {
		return c.Incident(ctx, args[0])
	}
	all, err := c.Incidents(ctx)
	if err != nil {
		return v1.Incident{}, err
	}
	if len(all) == 0 {
		return v1.Incident{}, holdfast.Errorf(holdfast.NotFound, "there has been no incident")
	}
	return all[0], nil
}

// timeline prints the timeline, in seconds since the incident opened.
func timeline(a *app, i v1.Incident) error {
	return table(a.Stdout, i.Steps, []column[v1.Step]{
		{"AFTER", false, func(s v1.Step) any {
			return fmt.Sprintf("%+.1fs", s.At.Sub(i.Opened).Round(100*time.Millisecond).Seconds())
		}},
		{"WHAT", false, func(s v1.Step) any { return s.What }},
		{"", false, func(s v1.Step) any { return s.Text }},
	}, false)
}
