package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

const drainPoll = 200 * time.Millisecond

func (a *app) drainCmd() *cobra.Command {
	var undo, plan, noWait bool
	var wait time.Duration
	c := &cobra.Command{Use: "drain HOST", Short: "Move work off a host", Args: args("HOST"),
		Long: `Move work off a host: nothing is placed on it any more, and its VMs go to other
hosts, a few at a time. Each guest is asked to shut down by its power button and
starts again elsewhere; one that does not shut down in time is ended. A VM that
no other host can take goes on where it is.

Copies of volumes stay on the host and go on being kept in sync. Volumes that are
written there for initiators whose sessions other hosts carry, or over iSCSI, get
another host as their writer at once, and the sessions go on. One that is used at
the host's own NBD socket stays until that session ends. Interrupting the command
leaves the host to be drained; --undo takes it back.`,
		Example: "  holdfast host drain beta --plan\n  holdfast host drain beta\n  holdfast host drain beta --guest-timeout 5m --no-wait\n  holdfast host undrain beta",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			switch {
			case plan:
				return a.planDrain(ctx, c, args[0])
			case undo:
				return a.undrain(ctx, c, args[0])
			case wait < time.Second || wait > 24*time.Hour:
				return holdfast.Errorf(holdfast.Invalid, "--guest-timeout %v: give 1s to 24h", wait)
			}
			d, err := c.Drain(ctx, args[0], v1.DrainSpec{On: true, GuestSeconds: int(wait / time.Second)})
			if err != nil {
				return err
			}
			if !noWait {
				return a.awaitDrain(ctx, c, d)
			}
			if a.structured() {
				return a.encode(d)
			}
			return a.done("host", d.Host, fmt.Sprintf("Host %s is being drained: %s to go. 'holdfast host show %[1]s' says how far it is.", d.Host, counted(len(d.Moves), "VM")))
		})}
	c.Flags().BoolVar(&undo, "undo", false, "let the host take work again, like 'host undrain'")
	c.Flags().BoolVar(&plan, "plan", false, "only say what would move, and where to")
	c.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	c.Flags().DurationVar(&wait, "guest-timeout", time.Minute, "how long a guest may take to shut down before it is ended")
	return c
}

func (a *app) undrainCmd() *cobra.Command {
	return &cobra.Command{Use: "undrain HOST", Short: "Let a drained host take work again", Args: args("HOST"),
		Long:    "Let a drained host take work again. VMs that were to leave stay; those that have left are not brought back.",
		Example: "  holdfast host undrain beta",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.undrain(ctx, c, args[0])
		})}
}

func (a *app) undrain(ctx context.Context, c *client.Client, host string) error {
	d, err := c.Drain(ctx, host, v1.DrainSpec{})
	if err != nil {
		return err
	}
	return a.done("host", d.Host, "Host "+d.Host+" takes work again.")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (a *app) planDrain(ctx context.Context, c *client.Client, host string) error {
	d, err := c.DrainPlan(ctx, host)
	if err != nil {
		return err
	}
	if a.structured() {
		return a.encode(d)
	}
	for _, m := range d.Moves {
		if m.To == "" {
			fmt.Fprintf(a.Stdout, "VM %s would stay: %s\n", plain(m.VM), plain(m.Why))
		} else {
			fmt.Fprintf(a.Stdout, "VM %s would be shut down and started on %s\n", plain(m.VM), plain(m.Why))
		}
	}
	if len(d.Moves) == 0 {
		fmt.Fprintf(a.Stdout, "No VM would have to move.\n")
	}
	fmt.Fprintln(a.Stdout, "Copies of volumes would stay where they are. Nothing would be lost.")
	return nil
}

// awaitDrain follows a drain until nothing is left to move, and says each step.
func (a *app) awaitDrain(ctx context.Context, c *client.Client, d v1.Drain) error {
	ours := map[string]bool{}
	said := map[string]string{}
	for {
		for _, m := range d.Moves {
			ours[m.VM] = true
			a.say(said, m.VM, moveText(m))
		}
		starting, err := a.arrived(ctx, c, d, ours, said)
		if err != nil {
			return err
		}
		if starting == 0 && over(d) && d.Noticed {
			return a.drained(d)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(drainPoll):
		}
		if d, err = c.DrainPlan(ctx, d.Host); err != nil {
			return err
		}
		if !d.Drained {
			return holdfast.Errorf(holdfast.Conflict, "host %s is not drained any more: somebody has taken it back", d.Host)
		}
	}
}

// say tells of a VM what was not told before.
func (a *app) say(said map[string]string, vm, text string) {
	if text != "" && said[vm] != text {
		said[vm] = text
		fmt.Fprintf(a.Stderr, "VM %s %s\n", plain(vm), plain(text))
	}
}

func moveText(m v1.Move) string {
	switch m.Stage {
	case "leaving":
		return "is shutting down, to go to " + m.To
	case "shut down":
		return "is shut down, and goes to " + m.To
	}
	return ""
}

// arrived looks after those of our VMs that have left and returns how many of
// them do not run yet.
func (a *app) arrived(ctx context.Context, c *client.Client, d v1.Drain, ours map[string]bool, said map[string]string) (starting int, err error) {
	here := map[string]bool{}
	for _, m := range d.Moves {
		here[m.VM] = true
	}
	if len(ours) == len(here) {
		return 0, nil
	}
	vms, err := c.VMs(ctx)
	if err != nil {
		return 0, err
	}
	for _, v := range vms {
		if !ours[v.Name] || here[v.Name] || v.Host == d.Host || v.Power != "on" {
			continue
		}
		switch v.State {
		case "running":
			a.say(said, v.Name, "runs on "+v.Host+arrival(v))
		case "failed":
			a.say(said, v.Name, "does not start on "+v.Host+" yet: "+v.Reason)
			starting++
		default:
			starting++
		}
	}
	return starting, nil
}

// over reports whether nothing more will move by itself.
func over(d v1.Drain) bool {
	for _, m := range d.Moves {
		if m.Stage != "stays" {
			return false
		}
	}
	return true
}

// drained prints the outcome.
func (a *app) drained(d v1.Drain) error {
	if a.structured() {
		if err := a.encode(d); err != nil {
			return err
		}
	}
	if len(d.Moves) > 0 {
		return errStay(d)
	}
	if a.structured() {
		return nil
	}
	if err := a.done("host", d.Host, "Host "+d.Host+" is drained: no VM runs there."); err != nil || !a.forPeople() {
		return err
	}
	a.printNeeded(d)
	return nil
}

// errStay is the outcome of a drain that could not move everything.
func errStay(d v1.Drain) error {
	var why []string
	for _, m := range d.Moves {
		why = append(why, fmt.Sprintf("VM %s stays: %s", m.VM, m.Why))
	}
	return holdfast.Errorf(holdfast.NoSpace, "host %s is drained, but not everything could go: %s. What stays goes on running there and goes as soon as there is room; add room, or stop it", d.Host, plain(strings.Join(why, ". ")))
}

func (a *app) printNeeded(d v1.Drain) {
	if len(d.Written) > 0 {
		fmt.Fprintf(a.Stdout, "Initiators still use it for %s: switched off, it would end their sessions.\n", plain(strings.Join(d.Written, ", ")))
		fmt.Fprintln(a.Stdout, "Let them connect again, at any other host.")
	}
	if len(d.Needed) == 0 && len(d.Written) > 0 {
		return
	}
	if len(d.Needed) == 0 {
		fmt.Fprintln(a.Stdout, "It may be switched off: everything goes on without it.")
		return
	}
	fmt.Fprintln(a.Stdout, "It is still needed. If it were switched off now:")
	for _, why := range d.Needed {
		fmt.Fprintf(a.Stdout, "  %s\n", plain(why))
	}
}

// printDrain shows what is still to be moved off a drained host.
func (a *app) printDrain(d v1.Drain) error {
	if len(d.Moves) == 0 {
		a.printNeeded(d)
		return nil
	}
	return table(a.Stdout, d.Moves, []column[v1.Move]{
		{"TO MOVE", false, func(m v1.Move) any { return m.VM }},
		{"STAGE", false, func(m v1.Move) any { return m.Stage }},
		{"TO", false, func(m v1.Move) any { return m.To }},
		{"WHY", false, func(m v1.Move) any { return strings.TrimSpace(m.Why) }},
	}, false)
}

// arrival adds how a VM came, if it is known.
func arrival(v v1.VM) string {
	if v.Came == "" {
		return ""
	}
	return " (it came " + v.Came + ")"
}
