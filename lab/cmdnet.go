package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab/link"
)

// between explains what the commands of this file take.
const between = `
  a       rack a and everything else (or a host: a1)
  a-b     both ways between a and b
  'a>b'   only what a sends to b (quoted: > means something to a shell)
  'a>*'   only what a sends, to whomever`

// parts explains what else commands about cuts take.
const parts = `

With :kv behind it only the control plane's connections are meant, with :data
only those between volumes and replicas: a:kv, 'a>b:data'.`

func (c *commands) cut() *cobra.Command {
	return &cobra.Command{Use: "cut WHAT", Short: "Cut racks off from others, or one way only", Args: cobra.ExactArgs(1),
		Long: `Cut what is between racks of a lab that was made with --netns. What is sent
there is lost without a word, as if a cable were cut; hosts go on, and this
machine reaches all of them by their sockets. WHAT is
` + between + parts,
		Example: "  holdfast lab cut a\n  holdfast lab cut a-b\n  holdfast lab cut 'a>b'\n  holdfast lab cut a:kv\n  holdfast lab links",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			return l.Cut(args[0])
		}}
}

func (c *commands) heal() *cobra.Command {
	return &cobra.Command{Use: "heal [WHAT]", Short: "Undo cuts, all of them or some", Args: cobra.MaximumNArgs(1),
		Long:    "Undo what 'holdfast lab cut' did: all of it, or what is between some racks. WHAT is\n" + between + parts,
		Example: "  holdfast lab heal\n  holdfast lab heal a-b",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			what := ""
			if len(args) > 0 {
				what = args[0]
			}
			return l.Heal(what)
		}}
}

func (c *commands) link() *cobra.Command {
	var rate, loss string
	var s link.Shape
	cmd := &cobra.Command{Use: "link WHAT", Short: "Make a connection slow, long or lossy", Args: cobra.ExactArgs(1),
		Long: `Lay a bad line between racks of a lab that was made with --netns: with a rate,
a delay, a jitter, a loss. Without any of them the line is taken away. It is
the same both ways unless WHAT says otherwise; where lines overlap the last one
counts. WHAT is
` + between,
		Example: "  holdfast lab link a-b --rate 1mbit --delay 600ms --loss 2%\n  holdfast lab link c --delay 20ms --jitter 5ms\n  holdfast lab link a-b      # as it was",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if rate != "" {
				if s.Rate, err = link.ParseRate(rate); err != nil {
					return err
				}
			}
			if loss != "" {
				if s.Loss, err = link.ParseLoss(loss); err != nil {
					return err
				}
			}
			if s.Jitter > 0 && s.Delay == 0 {
				return holdfast.Errorf(holdfast.Invalid, "--jitter comes on top of a delay; give --delay, too")
			}
			l, err := c.open()
			if err != nil {
				return err
			}
			return l.Shape(args[0], s)
		}}
	cmd.Flags().StringVar(&rate, "rate", "", "`bits` a second: 512kbit, 1.5mbit, 1gbit")
	cmd.Flags().DurationVar(&s.Delay, "delay", 0, "how long a packet is under way, one way")
	cmd.Flags().DurationVar(&s.Jitter, "jitter", 0, "up to so much more delay, by chance; packets keep their order")
	cmd.Flags().StringVar(&loss, "loss", "", "`share` of packets that is lost: 2%")
	return cmd
}

func (c *commands) links() *cobra.Command {
	return &cobra.Command{Use: "links", Short: "Show how the racks are connected", Args: cobra.NoArgs,
		Long: `Show what is between the racks of a lab that was made with --netns, one way a
line; where the hosts of a rack differ, host by host.`,
		Example: "  holdfast lab links\n  holdfast lab links -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			all, err := l.Connections()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if format, err := cmd.Flags().GetString("output"); err == nil && format == "json" {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(all)
			}
			return printConnections(out, all)
		}}
}

func printConnections(out io.Writer, all []Connection) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FROM\tTO\tSTATE\tRATE\tDELAY\tLOSS\tCARRIED\tLOST\tDROPPED")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%s\t%s", c.From, c.To, c.State)
		if c.Line == nil {
			fmt.Fprint(w, "\t-\t-\t-\t-\t-\t-\n")
			continue
		}
		rate, delay := "-", c.Line.Delay.String()
		if c.Line.Rate > 0 {
			rate = link.FormatRate(c.Line.Rate)
		}
		if c.Line.Jitter > 0 {
			delay += "+" + c.Line.Jitter.String()
		}
		fmt.Fprintf(w, "\t%s\t%s\t%s%%", rate, delay, strconv.FormatFloat(c.Line.Loss*100, 'f', -1, 64))
		if n := c.Count; n != nil {
			fmt.Fprintf(w, "\t%d\t%d\t%d\n", n.Carried, n.Lost, n.Dropped)
		} else {
			fmt.Fprint(w, "\t-\t-\t-\n")
		}
	}
	return w.Flush()
}
