package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func taskColumns() []column[v1.Work] {
	return []column[v1.Work]{
		{"TASK", false, func(w v1.Work) any { return w.ID }},
		{"KIND", false, func(w v1.Work) any { return w.Kind }},
		{"OF", false, func(w v1.Work) any {
			if w.Volume == "" {
				return w.Disk
			}
			return w.Volume
		}},
		{"HOST", false, func(w v1.Work) any { return w.Host }},
		{"DONE", false, func(w v1.Work) any {
			if w.Waits {
				return "waits"
			}
			return fmt.Sprintf("%d %%", int(w.Done*100))
		}},
		{"TOTAL", false, func(w v1.Work) any { return size(w.Total) }},
		{"RATE", false, func(w v1.Work) any { return size(w.Rate) }},
		{"LEFT", false, func(w v1.Work) any {
			if w.LeftSecs == 0 {
				return ""
			}
			return (time.Duration(w.LeftSecs) * time.Second).String()
		}},
		{"VOLUME-ID", true, func(w v1.Work) any { return w.VolumeID }},
	}
}

// taskName is the name of what has one.
func taskName(w v1.Work) string { return w.ID }

func (a *app) taskCmd() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "What takes long on the hosts now", Args: args(),
		Long: "List what takes long on the hosts: copies that are built or brought up to date, scrubs, backups and restores. What has a TASK can be\n" +
			"canceled by it; of several volumes that are backed up at once all have the same.",
		Example: "  holdfast task list\n  holdfast task list -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			w, err := c.Work(ctx, false)
			if err != nil {
				return err
			}
			for _, host := range w.Silent {
				fmt.Fprintln(a.Stderr, plain("host "+host+" did not answer; what it is at is missing"))
			}
			if a.format == "name" { // what has none cannot be named
				w.Work = slices.DeleteFunc(w.Work, func(x v1.Work) bool { return x.ID == "" })
			}
			return printAll(a, w.Work, taskColumns(), taskName)
		})}
	show := &cobra.Command{Use: "show TASK", Short: "Show how far a backup or a restore is", Args: args("TASK"), Example: "  holdfast task show 5f0c11aa",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			w, err := c.Work(ctx, false)
			if err != nil {
				return err
			}
			for _, x := range w.Work {
				if x.ID == args[0] {
					return printed(a, x, nil, taskColumns(), taskName)
				}
			}
			return holdfast.Errorf(holdfast.NotFound, "there is no task %s, or it has ended: see 'holdfast task list'", args[0])
		})}
	cancel := &cobra.Command{Use: "cancel TASK", Short: "Cancel a backup or a restore", Args: args("TASK"),
		Long: "Cancel a backup or a restore, whoever began it. Of a backup to a directory or a file what was written is kept, and the same command\n" +
			"goes on with it; of a restore nothing is left. A backup of a schedule is tried again at its next turn, or after ten minutes.",
		Example: "  holdfast task cancel 5f0c11aa",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.CancelWork(ctx, args[0], false); err != nil {
				return err
			}
			return a.done("task", args[0], "Task "+args[0]+" is canceled.")
		})}
	return noun("task", "What takes long on the hosts", list, show, cancel)
}
