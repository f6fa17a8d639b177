package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func snapshotColumns() []column[v1.Snapshot] {
	return []column[v1.Snapshot]{
		{"NAME", false, func(s v1.Snapshot) any { return s.Name }},
		{"LSN", false, func(s v1.Snapshot) any { return s.LSN }},
		{"CREATED", false, func(s v1.Snapshot) any { return s.Created }},
		{"ID", true, func(s v1.Snapshot) any { return s.ID }},
		{"GROUP", true, func(s v1.Snapshot) any { return s.Group }},
	}
}

func snapshotName(s v1.Snapshot) string { return s.Name }

func groupColumns() []column[v1.SnapshotGroup] {
	return []column[v1.SnapshotGroup]{
		{"NAME", false, func(g v1.SnapshotGroup) any { return g.Name }},
		{"VOLUMES", false, func(g v1.SnapshotGroup) any { return groupVolumes(g) }},
		{"CREATED", false, func(g v1.SnapshotGroup) any { return g.Created }},
		{"ID", true, func(g v1.SnapshotGroup) any { return g.ID }},
	}
}

func groupName(g v1.SnapshotGroup) string { return g.Name }

// groupVolumes names the volumes, and counts those that are not there any more.
func groupVolumes(g v1.SnapshotGroup) string {
	var names []string
	for _, m := range g.Members {
		names = append(names, m.Volume)
	}
	text := strings.Join(names, ",")
	if gone := g.Volumes - len(names); gone > 0 {
		text += fmt.Sprintf(" (%d gone)", gone)
	}
	return text
}

func (a *app) snapshotCmd() *cobra.Command {
	c := &cobra.Command{Use: "snapshot VOLUME[,VOLUME...] NAME", Short: "Keep volumes as they are now, or list what is kept", Args: args("VOLUME", "NAME"),
		Long: "Keep a volume as it is now. What is kept is listed by 'holdfast volume snapshot list VOLUME'.\n" +
			"Several volumes are kept at one point, whichever hosts write them: if a write is in its volume's snapshot, so is every write\n" +
			"to one of them that was acknowledged before it was sent. Writes wait for that, a second at most. All are kept, or none.\n" +
			"A volume that is itself called 'list' or 'groups' is named by its identity here.",
		Example: "  holdfast volume snapshot data monday\n  holdfast volume snapshot db,db-log monday\n  holdfast volume snapshot list data\n  holdfast volume snapshot groups",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if volumes := strings.Split(args[0], ","); len(volumes) > 1 {
				g, err := c.SnapshotGroup(ctx, v1.SnapshotGroupSpec{Name: args[1], Volumes: volumes})
				return printed(a, g, err, groupColumns(), groupName)
			}
			s, err := c.Snapshot(ctx, args[0], v1.SnapshotSpec{Name: args[1]})
			return printed(a, s, err, snapshotColumns(), snapshotName)
		})}
	c.AddCommand(a.snapshotListCmd(), a.snapshotGroupsCmd())
	return c
}

func (a *app) snapshotGroupsCmd() *cobra.Command {
	return &cobra.Command{Use: "groups", Short: "The snapshots that were made of several volumes together, the newest last", Args: args(),
		Long:    "The snapshots that were made of several volumes together, the newest last. To let all of one go, name one of its volumes\nand the snapshot: 'holdfast volume unsnapshot VOLUME NAME --group'.",
		Example: "  holdfast volume snapshot groups\n  holdfast volume snapshot groups -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			list, err := c.SnapshotGroups(ctx)
			if err != nil {
				return err
			}
			return printAll(a, list, groupColumns(), groupName)
		})}
}

func (a *app) unsnapshotCmd() *cobra.Command {
	var group bool
	c := &cobra.Command{Use: "unsnapshot VOLUME SNAPSHOT", Short: "Let a snapshot go, or all of its group", Args: args("VOLUME", "SNAPSHOT"),
		Example: "  holdfast volume unsnapshot data monday\n  holdfast volume unsnapshot db monday --group    # and those of the volumes that were kept with it",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if group {
				return a.ungroup(ctx, c, args[0], args[1])
			}
			if err := c.DeleteSnapshot(ctx, args[0], args[1]); err != nil {
				return err
			}
			return a.done("snapshot", args[1], "Snapshot "+args[1]+" of volume "+args[0]+" is gone.")
		})}
	c.Flags().BoolVar(&group, "group", false, "let the snapshots of all volumes go that were kept together with it")
	return c
}

// ungroup lets all of a snapshot's group go.
func (a *app) ungroup(ctx context.Context, c *client.Client, volume, name string) error {
	s, err := c.SnapshotOf(ctx, volume, name)
	if err != nil {
		return err
	}
	if s.Group == "" {
		return holdfast.Errorf(holdfast.Invalid, "snapshot %s of volume %s was made alone; leave --group out", name, volume)
	}
	g, err := c.SnapshotGroupOf(ctx, s.Group)
	if err != nil {
		return err
	}
	if err := c.DeleteSnapshotGroup(ctx, g.ID); err != nil {
		return err
	}
	return a.done("snapshot", g.Name, "Snapshot "+g.Name+" of "+groupVolumes(v1.SnapshotGroup{Members: g.Members})+" is gone.")
}

func (a *app) snapshotListCmd() *cobra.Command {
	return &cobra.Command{Use: "list VOLUME", Short: "The snapshots of a volume, the newest last", Args: args("VOLUME"),
		Example: "  holdfast volume snapshot list data\n  holdfast volume snapshot list data -o name\n  holdfast volume snapshot list data -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			list, err := c.Snapshots(ctx, args[0])
			if err != nil {
				return err
			}
			if err := printAll(a, list, snapshotColumns(), snapshotName); err != nil || !a.forPeople() {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "Total: %d.\n", len(list))
			return err
		})}
}
