package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func racks() resource[v1.Rack] {
	words := func(f func(v1.Rack) []string) func(v1.Rack) any {
		return func(r v1.Rack) any { return strings.Join(f(r), ",") }
	}
	return resource[v1.Rack]{noun: "rack", many: "the racks", name: func(r v1.Rack) string { return r.Name },
		all: (*client.Client).Racks, one: (*client.Client).Rack,
		cols: []column[v1.Rack]{
			{"NAME", false, func(r v1.Rack) any { return r.Name }},
			{"HOSTS", false, words(func(r v1.Rack) []string { return r.Hosts })},
			{"ALIVE", false, func(r v1.Rack) any { return len(r.Alive) }},
			{"VOTERS", false, words(func(r v1.Rack) []string { return r.Voters })},
			{"VMS", false, func(r v1.Rack) any { return len(r.VMs) }},
			{"WITNESS", false, func(r v1.Rack) any { return r.Witness }},
			{"CAN BE LOST", false, func(r v1.Rack) any { return r.CanLose }},
		}}
}

func (a *app) rackCmd() *cobra.Command {
	return noun("rack", "What is lost together: hosts with one power supply, one switch", listCmd(a, racks()), showCmd(a, racks(), "b"), a.rackRemoveCmd())
}

// removal are the flags of what strikes hosts.
type removal struct {
	lost, plan, yes bool
	giveUp          []string
}

func (r *removal) flags(c *cobra.Command) {
	c.Flags().BoolVar(&r.lost, "lost", false, "it will not come back")
	c.Flags().BoolVar(&r.plan, "plan", false, "only say what that would mean")
	c.Flags().BoolVar(&r.yes, "yes", false, "do not ask for the name; volumes that would be unreachable must then be given up by name")
	c.Flags().StringSliceVar(&r.giveUp, "give-up", nil, "`volumes` that may be unreachable afterwards")
}

const removalText = `

The plan comes first: which VMs start elsewhere, which volumes have fewer copies
or cannot be reached by anybody any more, what becomes of the control plane. Then
the name is asked for. Copies that were there are built elsewhere, votes go to
other hosts. Certificates that were given out open nothing any more: a removed
host that comes back says so, and neither serves nor writes.`

func (a *app) hostRemoveCmd() *cobra.Command {
	var r removal
	c := &cobra.Command{Use: "remove HOST", Short: "Strike a host: drained and empty, or lost for good", Args: args("HOST"),
		Long: `Strike a host from the membership: one that is drained and holds nothing, or with
--lost one that does not answer and will not come back.` + removalText,
		Example: "  holdfast host remove beta --lost --plan\n  holdfast host remove beta --lost\n" +
			"  holdfast host remove beta --lost --yes --give-up scratch1,scratch2\n  holdfast host drain beta && holdfast disk remove beta:/dev/sdb && holdfast host remove beta",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.remove("host", args[0], r,
				func(lost bool) (v1.Removal, error) { return c.HostRemoval(ctx, args[0], lost) },
				func(s v1.RemovalSpec) (v1.Removal, error) { return c.RemoveHost(ctx, args[0], s) })
		})}
	r.flags(c)
	return c
}

func (a *app) rackRemoveCmd() *cobra.Command {
	var r removal
	c := &cobra.Command{Use: "remove RACK", Short: "Strike all hosts of a rack: drained and empty, or lost for good", Args: args("RACK"),
		Long: `Strike all hosts of a rack from the membership: such that are drained and hold
nothing, or with --lost such that do not answer and will not come back.` + removalText,
		Example: "  holdfast rack remove b --lost --plan\n  holdfast rack remove b --lost\n  holdfast rack remove b --lost --yes -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.remove("rack", args[0], r,
				func(lost bool) (v1.Removal, error) { return c.RackRemoval(ctx, args[0], lost) },
				func(s v1.RemovalSpec) (v1.Removal, error) { return c.RemoveRack(ctx, args[0], s) })
		})}
	r.flags(c)
	return c
}

// remove shows the plan, asks, and carries it out.
func (a *app) remove(what, name string, r removal, plan func(bool) (v1.Removal, error), do func(v1.RemovalSpec) (v1.Removal, error)) error {
	p, err := plan(r.lost)
	if err != nil {
		return err
	}
	switch {
	case r.plan && a.structured():
		return a.encode(p)
	case r.plan:
		a.printRemoval(a.Stdout, p, true)
		return nil
	case !r.yes || !a.structured():
		a.printRemoval(a.Stderr, p, false)
	}
	spec := v1.RemovalSpec{Lost: r.lost, GiveUp: r.giveUp}
	if !r.yes && !a.dry && len(p.Refused) == 0 {
		if err := a.askToType(name, "Type the name of the "+what+" to remove it: ", "nothing was removed", "--yes does not ask"); err != nil {
			return err
		}
		for _, v := range p.Volumes {
			if v.State == "unreachable" {
				spec.GiveUp = append(spec.GiveUp, v.Volume)
			}
		}
	}
	if p, err = do(spec); err != nil {
		return err
	}
	if a.structured() {
		return a.encode(p)
	}
	if what == "host" {
		return a.done("host", name, "Host "+name+" is no member any more.")
	}
	return a.done("rack", name, fmt.Sprintf("Rack %s is removed: %s no member any more.", name, areOf(p.Hosts)))
}

func areOf(hosts []string) string {
	if len(hosts) == 1 {
		return "host " + hosts[0] + " is"
	}
	return "hosts " + strings.Join(hosts, ", ") + " are"
}

// askToType has a person type a name; if they do not, the error says that nothing
// was done, and how not to be asked.
func (a *app) askToType(name, prompt, nothing, unasked string) error {
	fmt.Fprint(a.Stderr, prompt)
	line, err := bufio.NewReader(io.LimitReader(a.Stdin, 1024)).ReadString('\n')
	if _, ok := terminal(a.Stdin); !ok || err != nil {
		fmt.Fprintln(a.Stderr) // nobody's key ended the line
	}
	switch typed := strings.TrimSpace(line); typed {
	case name:
		return nil
	case "":
		return holdfast.Errorf(holdfast.Invalid, "%s: the name was not typed; %s", nothing, unasked)
	default:
		return holdfast.Errorf(holdfast.Invalid, "%s: %q is not %q", nothing, plain(typed), plain(name))
	}
}

// printRemoval prints a plan for people.
func (a *app) printRemoval(out io.Writer, p v1.Removal, refusals bool) {
	say := func(format string, args ...any) { fmt.Fprintln(out, plain(fmt.Sprintf(format, args...))) }
	would := "Removed would be "
	if p.Lost {
		would = "Given up for lost would be "
	}
	hosts := "hosts "
	if len(p.Hosts) == 1 {
		hosts = "host "
	}
	say("%s%s%s.", would, hosts, strings.Join(p.Hosts, ", "))
	for _, v := range p.Volumes {
		if v.State == "unreachable" {
			say("UNREACHABLE: volume %s (%s): %s", v.Volume, formatSize(v.Size), v.Why)
		}
	}
	for _, v := range p.VMs {
		if v.To == "" {
			say("VM %s would not run: %s", v.VM, v.Why)
		} else {
			say("VM %s would start on %s", v.VM, v.Why)
		}
	}
	whole := 0
	for _, v := range p.Volumes {
		switch v.State {
		case "degraded":
			say("Volume %s (%s): %s", v.Volume, formatSize(v.Size), v.Why)
		case "whole":
			whole++
		}
	}
	if whole > 0 {
		say("%s with a copy there would have all copies without it.", counted(whole, "volume"))
	}
	if len(p.Voters) > 0 {
		say("Votes of the control plane that would go: %s; %s.", strings.Join(p.Voters, ", "), p.Control)
	}
	if len(p.VMs) == 0 && len(p.Volumes) == 0 {
		say("No VM and no copy of a volume is there.")
	}
	if refusals {
		for _, why := range p.Refused {
			say("Refused: %s", why)
		}
	}
}
