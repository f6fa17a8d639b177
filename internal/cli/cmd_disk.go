package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func diskColumns() []column[v1.Disk] {
	return []column[v1.Disk]{
		{"HOST", false, func(d v1.Disk) any { return d.Host }},
		{"RACK", false, func(d v1.Disk) any { return d.Rack }},
		{"PATH", false, func(d v1.Disk) any { return d.Path }},
		{"POOL", false, func(d v1.Disk) any { return d.Pool }},
		{"STATE", false, func(d v1.Disk) any { return d.State }},
		{"SIZE", false, func(d v1.Disk) any { return size(d.Size) }},
		{"FREE", false, func(d v1.Disk) any { return size(d.Free) }},
		{"ERROR", true, func(d v1.Disk) any { return d.Error }},
		{"ID", true, func(d v1.Disk) any { return d.ID }},
	}
}

func diskName(d v1.Disk) string { return d.ID }

func (a *app) diskAddCmd() *cobra.Command {
	var s v1.DiskSpec
	c := &cobra.Command{Use: "add PATH", Short: "Give a disk of this host to the cluster; its content is lost", Args: atMostOne("PATH"),
		Long: "Give a disk of the host that is called to the cluster: a block device, or a file. With --size a file is made.\n" +
			"With --ram the disk is memory of that host, without a path: it is lost, and made again empty, whenever the host's process is restarted.",
		Example: "  holdfast disk add /dev/sdb\n  holdfast disk add /srv/holdfast.disk --size 200GiB\n" +
			"  holdfast disk add /dev/sdc --pool archive\n  holdfast disk add --ram 256MiB --pool fast",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 0 && s.RAM == 0 {
				return usageError{errors.New("PATH is missing; usage: holdfast disk add PATH, or holdfast disk add --ram SIZE --pool POOL")}
			}
			if len(args) > 0 {
				path, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				s.Path = path
			}
			d, err := c.AddDisk(ctx, s)
			return printed(a, d, err, diskColumns(), diskName)
		})}
	c.Flags().Var((*sizeFlag)(&s.Size), "size", "make a file of this size")
	c.Flags().Var((*sizeFlag)(&s.RAM), "ram", "take this much of the host's memory instead of a path; for pools of tier ram")
	c.Flags().StringVar(&s.Pool, "pool", "", "`pool` that the disk belongs to; none: default")
	return c
}

func (a *app) diskCmd() *cobra.Command {
	list := listCmd(a, resource[v1.Disk]{noun: "disk", many: "the disks of all hosts", cols: diskColumns(), name: diskName, all: (*client.Client).Disks})
	remove := &cobra.Command{Use: "remove DISK", Short: "Take a disk back", Args: args("DISK"),
		Long:    "Take a disk back that holds no copy of any volume. Its file or memory is let go when its host's process is restarted. DISK is the identity that 'holdfast disk list -o wide' shows.",
		Example: "  holdfast disk remove 0a1b2c3d-0000-4000-8000-000000000001",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.RemoveDisk(ctx, args[0]); err != nil {
				return err
			}
			return a.done("disk", args[0], "Disk "+args[0]+" is not used any more.")
		})}
	return noun("disk", "The disks given to the cluster", list, a.diskAddCmd(), remove)
}

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
