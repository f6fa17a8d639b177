package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// commands holds what the lab's commands share.
type commands struct {
	getenv func(string) string
	dir    string
}

// Command returns `holdfast lab`.
func Command(getenv func(string) string) *cobra.Command {
	c := &commands{getenv: getenv}
	root := &cobra.Command{Use: "lab", Short: "A small data centre on this machine, to try out and to break",
		Example: `  holdfast lab up --racks 3
  holdfast status
  holdfast lab kill b        # pull the plug of rack b
  holdfast lab start b
  holdfast lab down --wipe`,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	root.PersistentFlags().StringVar(&c.dir, "dir", "", "`directory` of the lab (default: the current lab, or ~/.local/state/holdfast/lab)")
	root.AddCommand(c.up(), c.status(), c.rack("kill", "Pull the plug of a rack: SIGKILL for all its processes", Kill),
		c.start(), c.restart(), c.rack("freeze", "Stop all processes of a rack where they stand (SIGSTOP)", Freeze),
		c.rack("thaw", "Let a frozen rack go on", Thaw), c.cut(), c.heal(), c.link(), c.links(), c.down())
	return root
}

func (c *commands) where() (string, error) {
	if c.dir == "" {
		return DefaultDir(c.getenv), nil
	}
	return filepath.Abs(c.dir)
}

func (c *commands) open() (*Lab, error) {
	dir, err := c.where()
	if err != nil {
		return nil, err
	}
	return Open(dir)
}

func (c *commands) up() *cobra.Command {
	o := Options{Getenv: c.getenv}
	var gib int64
	cmd := &cobra.Command{Use: "up", Short: "Bring a lab up, or up again", Args: cobra.NoArgs,
		Long: `Bring a lab up, or up again where it stopped.

With --netns, which needs root, the lab has a network of its own: each host
lives in a network namespace and is connected to the others by a router of the
lab, which can cut them off ('holdfast lab cut') or connect them badly
('holdfast lab link'). Nothing leads out of it; this machine reaches the hosts
by their sockets, as all commands do.

With --volatile, which needs root, the data directory of each host lies on a
file system of its own. When a host's power goes ('holdfast lab kill', 'holdfast
drill power-loss'), what its processes had written and not synced is gone, the
control plane's log included, as if the kernel had died with them.`,
		Example: "  holdfast lab up --racks 3\n  holdfast lab up --racks 2 --witness\n  holdfast lab up --etcd https://127.0.0.1:2379 --etcd-ca ca.pem --etcd-cert host.pem --etcd-key host.key --etcd-prefix lab1\n  holdfast lab up --netns && holdfast lab cut a && holdfast lab links\n  holdfast lab up --volatile && holdfast drill power-loss",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Dir, err = c.where(); err != nil {
				return err
			}
			if gib < 1 || gib > 1<<20 {
				return holdfast.Errorf(holdfast.Invalid, "--disk-gib %d: give 1 or more", gib)
			}
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			for _, f := range []*string{&o.Etcd.CA, &o.Etcd.Cert, &o.Etcd.Key, &o.Etcd.PasswordFile} {
				if *f == "" {
					continue
				}
				if *f, err = filepath.Abs(*f); err != nil {
					return err
				}
			}
			o.DiskSize = gib << 30
			o.Progress = cmd.ErrOrStderr()
			l, err := Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			return l.printStatus(cmd)
		}}
	cmd.Flags().IntVar(&o.Racks, "racks", 3, "how many racks")
	cmd.Flags().BoolVar(&o.Witness, "witness", false, "with a witness beside them, in rack "+WitnessRack+": of two racks either can be lost then")
	cmd.Flags().IntVar(&o.PerRack, "hosts-per-rack", 1, "how many hosts in each")
	cmd.Flags().BoolVar(&o.Netns, "netns", false, "give the lab a network of its own, whose cables can be cut (root only)")
	cmd.Flags().BoolVar(&o.Volatile, "volatile", false, "have hosts forget what they have not synced when their power goes (root only)")
	cmd.Flags().BoolVar(&o.OwnPrograms, "own-programs", false, "give each host a copy of the program, so that 'holdfast upgrade' can be tried")
	cmd.Flags().StringSliceVar(&o.Etcd.Endpoints, "etcd", nil, "put the control plane into an external etcd at these https `URLs`; its keys stay there when the lab is wiped")
	cmd.Flags().StringVar(&o.Etcd.CA, "etcd-ca", "", "PEM `file` with the authority of its certificates")
	cmd.Flags().StringVar(&o.Etcd.Cert, "etcd-cert", "", "PEM `file` with the certificate that the hosts show it")
	cmd.Flags().StringVar(&o.Etcd.Key, "etcd-key", "", "PEM `file` with the key of that")
	cmd.Flags().StringVar(&o.Etcd.Prefix, "etcd-prefix", "", "what all keys begin with; give each lab in one etcd another")
	cmd.Flags().StringVar(&o.Etcd.User, "etcd-user", "", "`name` of the hosts' user in it")
	cmd.Flags().StringVar(&o.Etcd.PasswordFile, "etcd-password-file", "", "`file` with the password of that")
	cmd.Flags().Int64Var(&gib, "disk-gib", DefaultDiskSize>>30, "size of each host's disk in GiB; the file is sparse")
	return cmd
}

func (c *commands) status() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show the hosts and what they do", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			return l.printStatus(cmd)
		}}
}

// rack makes a command that does something to a rack's processes.
func (c *commands) rack(verb, short string, do func([]Host) error) *cobra.Command {
	return &cobra.Command{Use: verb + " RACK", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			hosts, err := l.Rack(args[0])
			if err != nil {
				return err
			}
			return do(hosts)
		}}
}

func (c *commands) start() *cobra.Command {
	return &cobra.Command{Use: "start RACK", Short: "Start a rack that was killed", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			return l.Start(cmd.Context(), binary, args[0])
		}}
}

func (c *commands) restart() *cobra.Command {
	return &cobra.Command{Use: "restart RACK", Short: "Stop and start the hosts of a rack in order, as an upgrade does; VMs go on", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			hosts, err := l.Rack(args[0])
			if err != nil {
				return err
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			return l.Restart(cmd.Context(), binary, hosts)
		}}
}

func (c *commands) down() *cobra.Command {
	var wipe bool
	cmd := &cobra.Command{Use: "down", Short: "End everything in the lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := c.where()
			if err != nil {
				return err
			}
			l, err := read(dir)
			if err != nil {
				return err
			}
			return l.Down(wipe, c.getenv)
		}}
	cmd.Flags().BoolVar(&wipe, "wipe", false, "remove its data, too")
	return cmd
}

// view is the lab for people and scripts.
type view struct {
	Dir        string     `json:"dir"`
	Credential string     `json:"credential"`
	Hosts      []hostView `json:"hosts"`
	Status     *v1.Status `json:"status,omitempty"`
}

type hostView struct {
	Host
	State     string `json:"state"`
	Processes int    `json:"processes"`
	Socket    string `json:"socket"`
	API       string `json:"api"`
	Log       string `json:"log"`
}

func (l *Lab) view(ctx context.Context) view {
	v := view{Dir: l.Dir, Credential: l.Credential()}
	for _, h := range l.Hosts {
		word, n := h.condition()
		v.Hosts = append(v.Hosts, hostView{h, word, n, h.Socket(), h.API(), h.Log()})
		if word != isRunning || v.Status != nil {
			continue
		}
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		c := client.Socket(h.Socket())
		if st, err := c.Status(try); err == nil {
			v.Status = &st
		}
		c.Close()
		cancel()
	}
	return v
}

func (l *Lab) printStatus(cmd *cobra.Command) error {
	v := l.view(cmd.Context())
	out := cmd.OutOrStdout()
	if format, err := cmd.Flags().GetString("output"); err == nil && format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	return v.print(out)
}

func (v view) print(out io.Writer) error {
	if v.Status != nil {
		fmt.Fprintf(out, "%s\n\n", v.Status.Sentence)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tRACK\tSTATE\tPROCESSES\tADDRESS\tLOG")
	for _, h := range v.Hosts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", h.Name, h.Rack, h.State, h.Processes, h.Addr, h.Log)
	}
	return w.Flush()
}
