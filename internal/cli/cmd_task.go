package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func taskColumns() []column[v1.Task] {
	return []column[v1.Task]{
		{"TASK", false, func(t v1.Task) any { return t.ID }},
		{"KIND", false, func(t v1.Task) any { return t.Kind }},
		{"OF", false, func(t v1.Task) any { return t.Subject }},
		{"STATE", false, func(t v1.Task) any { return t.State }},
		{"HOST", false, func(t v1.Task) any { return t.Host }},
		{"DONE", false, func(t v1.Task) any { return fmt.Sprintf("%d %%", int(t.Progress*100)) }},
		{"TOTAL", false, func(t v1.Task) any { return orNothing(size(t.Total)) }},
		{"RATE", false, func(t v1.Task) any { return orNothing(size(t.Rate)) }},
		{"LEFT", false, func(t v1.Task) any {
			if t.LeftSecs == 0 {
				return ""
			}
			return (time.Duration(t.LeftSecs) * time.Second).String()
		}},
		{"WHO", false, func(t v1.Task) any { return t.Who }},
		{"STARTED", true, func(t v1.Task) any { return moment(t.Started) }},
		{"ENDED", true, func(t v1.Task) any { return moment(t.Ended) }},
		{"DETAIL", true, func(t v1.Task) any { return t.Detail }},
		{"ERROR", true, func(t v1.Task) any { return t.Error }},
	}
}

// orNothing is a size that is known.
func orNothing(n size) any {
	if n == 0 {
		return ""
	}
	return n
}

func moment(t *time.Time) any {
	if t == nil {
		return ""
	}
	return *t
}

func taskName(t v1.Task) string { return t.ID }

func (a *app) taskCmd() *cobra.Command {
	tasks := resource[v1.Task]{noun: "task", many: "what takes long, and what did within a day", cols: taskColumns(), name: taskName, all: (*client.Client).Tasks}
	list := listCmd(a, tasks)
	list.Long = "List what takes long, and what did within a day: what people asked for (images that are imported, restores, drains, evacuations, moves),\n" +
		"and what the cluster does by itself (copies that are built or brought up to date, scrubs). 'holdfast task show' has the log of one."
	show := &cobra.Command{Use: "show TASK", Short: "Show one task, with its log", Args: args("TASK"), Example: "  holdfast task show 5f0c11aa\n  holdfast task show 5f0c11aa -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			t, err := c.Task(ctx, args[0])
			if err := printed(a, t, err, taskColumns(), taskName); err != nil {
				return err
			}
			if a.forPeople() {
				for _, l := range t.Log {
					fmt.Fprintln(a.Stdout, plain(people(l.At)+"  "+l.Text))
				}
			}
			return nil
		})}
	cancel := &cobra.Command{Use: "cancel TASK", Short: "Have a task end before it gets there", Args: args("TASK"),
		Long: "Have a task end before it gets there, whoever began it. Of an import or a restore nothing is left. Of a backup to a directory or a file\n" +
			"what was written is kept, and the same command goes on with it; one of a schedule is tried again at its next turn, or after ten\n" +
			"minutes. What a drain, an evacuation or a move has moved stays moved. What the cluster does to stay whole is not canceled.",
		Example: "  holdfast task cancel 5f0c11aa",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.CancelTask(ctx, args[0]); err != nil {
				return err
			}
			return a.done("task", args[0], "Task "+args[0]+" is canceled.")
		})}
	return noun("task", "What takes long", list, show, a.taskWaitCmd(), cancel)
}

func (a *app) taskWaitCmd() *cobra.Command {
	var most time.Duration
	c := &cobra.Command{Use: "wait TASK", Short: "Wait for the end of a task", Args: args("TASK"),
		Long:    "Wait for the end of a task, and show it. The command fails if the task did not get there, or if it is still under way after the timeout.",
		Example: "  holdfast task wait 5f0c11aa\n  holdfast task wait 5f0c11aa --timeout 10m",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if most < 0 {
				return holdfast.Errorf(holdfast.Invalid, "--timeout %v: give a time above 0, or leave it out to wait for as long as it takes", most)
			}
			within, stop := ctx, func() {}
			if most > 0 {
				within, stop = context.WithTimeout(ctx, most)
			}
			defer stop()
			t, err := a.await(within, c, args[0], "waiting for "+args[0])
			if within.Err() != nil && ctx.Err() == nil {
				return holdfast.Errorf(holdfast.Unavailable, "task %s is still under way after %v", args[0], most)
			}
			if err != nil {
				return err
			}
			if err := printed(a, t, nil, taskColumns(), taskName); err != nil {
				return err
			}
			return taskError(t)
		})}
	c.Flags().DurationVar(&most, "timeout", 0, "for so `long` at most; 0: as long as it takes")
	return c
}

// await waits for the end of a task, and shows how far it is.
func (a *app) await(ctx context.Context, c *client.Client, id, what string) (v1.Task, error) {
	var b *bar
	t, err := c.WaitTask(ctx, id, time.Second, func(t v1.Task) {
		if b == nil && t.Total > 0 {
			b = a.progress(what, t.Total)
		}
		if b != nil {
			b.at(t.Done)
		}
	})
	if b != nil {
		b.done(err)
	}
	return t, err
}

// taskError is nil if a task got there.
func taskError(t v1.Task) error {
	switch t.State {
	case "running", "done":
		return nil
	case "canceled":
		return holdfast.Errorf(holdfast.Denied, "task %s (%s of %s): %s", t.ID, t.Kind, t.Subject, t.Error)
	case "interrupted":
		return holdfast.Errorf(holdfast.Unavailable, "task %s (%s of %s) was interrupted: %s; ask for it again", t.ID, t.Kind, t.Subject, t.Error)
	}
	return holdfast.Errorf(holdfast.Other, "task %s (%s of %s) failed: %s", t.ID, t.Kind, t.Subject, t.Error)
}
