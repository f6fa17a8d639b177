package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
			if !a.forPeople() {
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
		fmt.Fprintf(a.Stdout, "\nCluster %s: %d of %d hosts alive, racks: %s, VMs running: %d, volumes: %d, %s of %s free\n",
			plain(st.Cluster.Name), n.HostsAlive, n.Hosts, racksText(n), n.VMsRunning, n.Volumes, formatSize(n.BytesFree), formatSize(n.BytesTotal))
	}
	if len(st.Conditions) > 0 {
		fmt.Fprintln(a.Stdout)
	}
	a.printConditions(st.Conditions, "")
	a.printWhatToDo(st)
	if len(st.Work) > 0 {
		fmt.Fprintln(a.Stdout)
	}
	a.printWork(st.Work)
	if h := st.Host; a.format == "wide" {
		fmt.Fprintf(a.Stdout, "\nAnswered by host %s (rack %s), version %s, accelerator %s (%s), sandbox %s\n",
			plain(h.Name), plain(h.Rack), plain(h.Version), plain(h.Accelerator), plain(h.Why), plain(h.Sandbox))
	}
	return nil
}

// racksText counts the racks with data, and names the witness.
func racksText(n v1.Counts) string {
	text := strconv.Itoa(n.Racks - n.Witnesses)
	switch {
	case n.Witnesses == 1:
		text += " and a witness"
	case n.Witnesses > 1:
		text += fmt.Sprintf(" and %d witnesses", n.Witnesses)
	}
	return text
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
		{"EXTERNAL", true, func(c v1.Cluster) any { return c.External }},
		{"FORMAT", true, func(c v1.Cluster) any { return c.Format }},
	}
}

func clusterName(c v1.Cluster) string { return c.Name }

func (a *app) clusterCmd() *cobra.Command {
	info := &cobra.Command{Use: "info", Short: "Show the cluster", Args: args(),
		Example: "  holdfast cluster info\n  holdfast cluster info -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			v, err := c.Cluster(ctx)
			return printed(a, v, err, clusterColumns(), clusterName)
		})}
	return noun("cluster", "Make a cluster, show it", a.clusterInitCmd(), info, a.keyCmd(), a.clusterBackupCmd(), a.recoverCmd(), a.moveKVCmd())
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
			if l, err := c.SetupLink(ctx); err == nil {
				fmt.Fprintf(a.Stderr, "Make the first cluster admin, in a browser: %s\nIt can be used once; 'holdfast user setup-link' prints another.\n", plain(l.URL))
			}
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
	list := listCmd(a, resource[v1.Incident]{noun: "incident", many: "losses of hosts, newest first", cols: cols, name: id, all: (*client.Client).Incidents})
	showC := &cobra.Command{Use: "show [INCIDENT]", Short: "Show a loss and its timeline; the newest if none is named", Args: atMostOne("INCIDENT"),
		Example: "  holdfast incident show\n  holdfast incident show -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := pickIncident(ctx, c, args)
			if err != nil {
				return err
			}
			if err := printOne(a, v, cols, id); err != nil || !a.forPeople() {
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
