package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func hostColumns() []column[v1.Host] {
	return []column[v1.Host]{
		{"NAME", false, func(h v1.Host) any { return h.Name }},
		{"RACK", false, func(h v1.Host) any { return h.Rack }},
		{"STATE", false, func(h v1.Host) any { return h.State }},
		{"ROLE", false, func(h v1.Host) any { return role(h) }},
		{"VMS", false, func(h v1.Host) any { return len(h.VMs) }},
		{"CPUS", false, func(h v1.Host) any { return h.CPUs }},
		{"MEMORY", false, func(h v1.Host) any { return size(int64(h.MemoryMiB) << 20) }},
		{"RAM-DISKS", true, func(h v1.Host) any { return size(h.BytesRAM) }},
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

// role says what a host does.
func role(h v1.Host) string {
	switch {
	case h.Witness:
		return "witness"
	case h.Voter:
		return "votes"
	}
	return "-"
}

func hostName(h v1.Host) string { return h.Name }

func hosts() resource[v1.Host] {
	return resource[v1.Host]{noun: "host", many: "the hosts", cols: hostColumns(), name: hostName, all: (*client.Client).Hosts, one: (*client.Client).Host}
}

func (a *app) hostCmd() *cobra.Command {
	return noun("host", "The computers", listCmd(a, hosts()), a.hostShowCmd(), a.codeCmd(), a.joinCmd(), a.drainCmd(), a.undrainCmd(), a.hostRemoveCmd())
}

// hostShowCmd shows a host; of a drained one also what is still to be moved.
func (a *app) hostShowCmd() *cobra.Command {
	c := showCmd(a, hosts(), "beta")
	c.RunE = a.with(func(ctx context.Context, c *client.Client, args []string) error {
		h, err := c.Host(ctx, args[0])
		if err := printed(a, h, err, hostColumns(), hostName); err != nil || !h.Drained || !a.forPeople() {
			return err
		}
		d, err := c.DrainPlan(ctx, h.ID)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Stdout)
		return a.printDrain(d)
	})
	return c
}

func (a *app) codeCmd() *cobra.Command {
	var rack string
	var life time.Duration
	code := &cobra.Command{Use: "code", Aliases: []string{"join-code"}, Short: "Make a code that admits one host within the hour",
		SuggestionsMinimumDistance: 2, Args: known("holdfast host code", "is not something to do with a code"),
		Long:    "Make a code that admits one host within the hour. Who has it can become a member: hand it over like a key. 'list' shows the codes that are open, 'revoke' makes one useless.",
		Example: "  holdfast host code --rack b --expires 10m\n  holdfast host code list\n  holdfast host code revoke 3fa94c01b2d7",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if life < time.Second || life > time.Hour {
				return holdfast.Errorf(holdfast.Invalid, "--expires %v: give 1s to 1h", life)
			}
			v, err := c.CreateJoinCode(ctx, v1.JoinCodeSpec{Rack: rack, Seconds: int(life / time.Second)})
			if err != nil {
				return err
			}
			if a.structured() {
				return a.encode(v)
			}
			fmt.Fprintln(a.Stdout, v.Code)
			return nil
		})}
	code.Flags().DurationVar(&life, "expires", time.Hour, "how long it may be used, at most an hour")
	code.Flags().StringVar(&rack, "rack", "", "admit a host of this `rack` only")
	id := func(j v1.JoinCodeInfo) string { return j.ID[:min(12, len(j.ID))] }
	list := listCmd(a, resource[v1.JoinCodeInfo]{noun: "host code", many: "the codes that may still be used", name: id, all: (*client.Client).JoinCodes,
		cols: []column[v1.JoinCodeInfo]{
			{"ID", false, func(j v1.JoinCodeInfo) any { return id(j) }},
			{"RACK", false, func(j v1.JoinCodeInfo) any { return orAny(j.Rack) }},
			{"CREATED", false, func(j v1.JoinCodeInfo) any { return j.Created }},
		}})
	revoke := &cobra.Command{Use: "revoke ID|CODE", Short: "Make a code useless", Args: args("ID"),
		Example: "  holdfast host code revoke 3fa94c01b2d7",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			ref := strings.ToLower(strings.TrimSpace(args[0]))
			if code, err := v1.ParseJoinCode(args[0]); err == nil {
				ref = code.ID()
			} else if len(ref) < 8 || strings.Trim(ref, "0123456789abcdef") != "" {
				return holdfast.Errorf(holdfast.Invalid, "%q is neither a join code nor the id of one; 'holdfast host code list' shows the ids", plain(args[0]))
			}
			if err := c.RevokeJoinCode(ctx, ref); err != nil {
				return err
			}
			return a.done("code", ref[:min(12, len(ref))], "Code "+ref[:min(12, len(ref))]+" admits nobody any more.")
		})}
	code.AddCommand(list, revoke)
	return code
}

func orAny(rack string) string {
	if rack == "" {
		return "any"
	}
	return rack
}

func (a *app) joinCmd() *cobra.Command {
	return &cobra.Command{Use: "join CODE|-", Short: "Make this host a member of a cluster", Args: args("CODE"),
		Long:    "Make this host a member of the cluster that the code is from. With - the code is read from standard input, so that it stays out of the list of processes.",
		Example: "  holdfast host join hf1-04t3k9...\n  holdfast host join - < code.txt",
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
			if a.structured() {
				return a.encode(self)
			}
			then := "Give it a disk: holdfast disk add PATH"
			if self.Witness {
				then = "It is a witness: it votes, and needs nothing more. 'holdfast status' says what can be lost now."
			}
			return a.done("host", self.Name, "Host "+self.Name+" is a member now. "+then)
		})}
}
