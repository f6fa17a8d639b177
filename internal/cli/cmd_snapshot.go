package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func snapshotColumns() []column[v1.Snapshot] {
	return []column[v1.Snapshot]{
		{"NAME", false, func(s v1.Snapshot) any { return s.Name }},
		{"LSN", false, func(s v1.Snapshot) any { return s.LSN }},
		{"CREATED", false, func(s v1.Snapshot) any { return s.Created }},
		{"ID", true, func(s v1.Snapshot) any { return s.ID }},
	}
}

func snapshotName(s v1.Snapshot) string { return s.Name }

func (a *app) snapshotCmd() *cobra.Command {
	c := &cobra.Command{Use: "snapshot VOLUME NAME", Short: "Keep a volume as it is now, or list what is kept", Args: args("VOLUME", "NAME"),
		Long:    "Keep a volume as it is now. What is kept is listed by 'holdfast volume snapshot list VOLUME'.\nA volume that is itself called 'list' is named by its identity here.",
		Example: "  holdfast volume snapshot data monday\n  holdfast volume snapshot list data",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			s, err := c.Snapshot(ctx, args[0], v1.SnapshotSpec{Name: args[1]})
			return printed(a, s, err, snapshotColumns(), snapshotName)
		})}
	c.AddCommand(a.snapshotListCmd())
	return c
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
