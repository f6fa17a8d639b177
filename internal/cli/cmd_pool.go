package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func poolColumns() []column[v1.Pool] {
	return []column[v1.Pool]{
		{"NAME", false, func(p v1.Pool) any { return p.Name }},
		{"TIER", false, func(p v1.Pool) any { return p.Tier }},
		{"STATE", false, func(p v1.Pool) any { return p.State }},
		{"DISKS", false, func(p v1.Pool) any { return p.Disks }},
		{"RACKS", false, func(p v1.Pool) any { return strings.Join(p.Racks, ",") }},
		{"SIZE", false, func(p v1.Pool) any { return size(p.Total) }},
		{"FREE", false, func(p v1.Pool) any { return size(p.Free) }},
		{"VOLUMES", false, func(p v1.Pool) any { return p.Volumes }},
		{"COPIES", true, func(p v1.Pool) any {
			if p.Copies == 0 {
				return ""
			}
			return p.Copies
		}},
		{"IO", true, func(p v1.Pool) any { return p.IO }},
		{"FLUSH", true, func(p v1.Pool) any { return p.Flush }},
		{"ID", true, func(p v1.Pool) any { return p.ID }},
	}
}

func poolName(p v1.Pool) string { return p.Name }

func (a *app) poolCmd() *cobra.Command {
	pools := resource[v1.Pool]{noun: "pool", many: "the pools", cols: poolColumns(), name: poolName,
		all: (*client.Client).Pools, one: (*client.Client).Pool}
	del := &cobra.Command{Use: "delete POOL", Short: "Delete a pool that nothing is in", Args: args("POOL"),
		Example: "  holdfast pool delete fast",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeletePool(ctx, args[0]); err != nil {
				return err
			}
			return a.done("pool", args[0], "Pool "+args[0]+" is deleted.")
		})}
	return noun("pool", "Disks of one kind, which volumes choose between", listCmd(a, pools), showCmd(a, pools, "fast"), a.poolCreateCmd(), del)
}

func (a *app) poolCreateCmd() *cobra.Command {
	var s v1.PoolSpec
	c := &cobra.Command{Use: "create NAME --tier ram|ssd|hdd", Short: "Make a pool, to which disks are then added", Args: args("NAME"),
		Long: "Make a pool. Its volumes' copies are on its disks only, in distinct racks as everywhere, so add disks to it in as many racks as there shall be copies.\n\n" +
			"Of tier ram, its disks are memory of the hosts: as fast as the network, and replicated and rebuilt like any other, but a flush means in memory of every\n" +
			"in-sync copy, and a volume is lost when all its hosts are restarted or lose power at once.\n\n" +
			"--io says what goes through the page cache of the hosts: mixed (what is read, not what is written: the default), cached (all), direct (nothing).",
		Example: "  holdfast pool create fast --tier ram\n  holdfast disk add --ram 2GiB --pool fast      # on hosts of two racks\n" +
			"  holdfast volume create scratch --size 1GiB --pool fast\n\n  holdfast pool create archive --tier hdd --copies 3 --io cached",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if s.Tier == "" {
				return usageError{errors.New("--tier is missing; usage: holdfast pool create NAME --tier ram|ssd|hdd")}
			}
			s.Name = args[0]
			p, err := c.CreatePool(ctx, s)
			return printed(a, p, err, poolColumns(), poolName)
		})}
	c.Flags().StringVar(&s.Tier, "tier", "", "ram, ssd or hdd")
	_ = c.RegisterFlagCompletionFunc("tier", cobra.FixedCompletions([]string{"ram", "ssd", "hdd"}, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().IntVar(&s.Copies, "copies", 0, "copies of its volumes that do not say (default 2, as far as there are racks)")
	c.Flags().StringVar(&s.IO, "io", "", "mixed (default), cached or direct: what goes through the page cache")
	return c
}
