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

func (a *app) moveKVCmd() *cobra.Command {
	var plan, yes, cancel bool
	c := &cobra.Command{Use: "move-kv", Short: "Move the control plane from the cluster's own hosts into an external etcd", Args: args(),
		Long: `Move the control plane of a running cluster from its own hosts into an etcd that
somebody else runs.

First every host gets that etcd into its configuration (kv.endpoints, kv.ca,
kv.cert, kv.key, kv.prefix; or serve --etcd and so on) and is started again, one
after another: it goes on as before. Then the plan asks every host whether it
reaches the etcd with what it was given.

The move itself ends the old control plane by a commit after which it takes no
other, writes what stands in it into the etcd, and begins there with a last commit:
at no time are there two. The hosts' processes begin anew; VMs go on, and their
writes wait for a few seconds. Whatever fails before that last commit, the old one
is opened again; if even that fails, run the command again, or with --cancel.

Afterwards no host votes: the etcd, its members and its backups are its owner's
business. The way back is 'holdfast cluster recover' on one host when none reaches
the etcd any more (stop it, or take the hosts' rights away): the control plane is
then on the cluster's own hosts again, and all VMs are started anew.`,
		Example: "  holdfast cluster move-kv --plan\n  holdfast cluster move-kv\n  holdfast cluster move-kv --yes -o json\n  holdfast cluster move-kv --cancel"}
	c.RunE = a.with(func(ctx context.Context, c *client.Client, _ []string) error {
		if cancel {
			if err := c.CancelMove(ctx); err != nil {
				return err
			}
			fmt.Fprintln(a.Stdout, "The move was given up: the control plane is where it was.")
			return nil
		}
		p, err := c.MovePlan(ctx)
		if err != nil {
			return err
		}
		switch {
		case plan && a.structured():
			return a.encode(p)
		case plan:
			a.printMove(a.Stdout, p)
			return nil
		case !yes || !a.structured():
			a.printMove(a.Stderr, p)
		}
		if len(p.Blocked) > 0 {
			return holdfast.Errorf(holdfast.Conflict, "nothing was done: %s", p.Blocked[0])
		}
		if !yes {
			if err := a.askToType(p.Cluster, "Type the name of the cluster to move its control plane: ", "nothing was done", "--yes does not ask"); err != nil {
				return err
			}
		}
		if p, err = c.MoveKV(ctx, v1.KVMoveSpec{Cluster: p.Cluster}); err != nil {
			return err
		}
		if err := awaitMove(ctx, c, p); err != nil {
			return err
		}
		if a.structured() {
			return a.encode(p)
		}
		fmt.Fprintf(a.Stdout, "%s\n", plain(fmt.Sprintf("The control plane of cluster %s is in the etcd at %s (incarnation %d). 'holdfast status' says when all hosts are back.", p.Cluster, strings.Join(p.To, ", "), p.Incarnation)))
		return nil
	})
	c.Flags().BoolVar(&plan, "plan", false, "only say what would be done, and which host could not follow")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask for the cluster's name")
	c.Flags().BoolVar(&cancel, "cancel", false, "give up a move that has begun and not arrived")
	c.MarkFlagsMutuallyExclusive("plan", "yes", "cancel")
	return c
}

// awaitMove waits until the host is back and sees the cluster where it is now.
func awaitMove(ctx context.Context, c *client.Client, p v1.KVMove) error {
	ctx, cancel := context.WithTimeout(ctx, recoverPatience)
	defer cancel()
	for {
		ask, end := context.WithTimeout(ctx, recoverAsk)
		now, err := c.Cluster(ask)
		end()
		if err == nil && now.External && now.Incarnation >= p.Incarnation {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = holdfast.Errorf(holdfast.Unavailable, "it has not begun anew yet")
			}
			return holdfast.Errorf(holdfast.Unavailable, "the control plane has moved, but the host is not back after %v: %w; its log says more", recoverPatience, err)
		case <-time.After(recoverPoll):
		}
	}
}

// printMove prints a plan for people.
func (a *app) printMove(out io.Writer, p v1.KVMove) {
	say := func(format string, args ...any) { fmt.Fprintln(out, plain(fmt.Sprintf(format, args...))) }
	where := strings.Join(p.To, ", ")
	if p.Prefix != "" {
		where += ", prefix " + p.Prefix
	}
	say("The control plane of cluster %s would move into the etcd at %s, as incarnation %d.", p.Cluster, where, p.Incarnation)
	var names []string
	for _, h := range p.Hosts {
		if h.State == "follows" {
			names = append(names, h.Name)
		}
	}
	if len(names) > 0 {
		say("These hosts reach it: %s.", strings.Join(names, ", "))
	}
	for _, b := range p.Blocked {
		say("FIRST: %s.", b)
	}
	for _, w := range p.Warnings {
		say("NOTE: %s.", w)
	}
}
