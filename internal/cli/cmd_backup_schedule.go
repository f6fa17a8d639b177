package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
)

func scheduleColumns() []column[v1.BackupSchedule] {
	return []column[v1.BackupSchedule]{
		{"NAME", false, func(s v1.BackupSchedule) any { return s.Name }},
		{"VOLUMES", false, func(s v1.BackupSchedule) any { return strings.Join(s.Volumes, ",") }},
		{"EVERY", false, func(s v1.BackupSchedule) any { return (time.Duration(s.Every) * time.Second).String() }},
		{"HOST", false, func(s v1.BackupSchedule) any { return s.Host }},
		{"DIR", false, func(s v1.BackupSchedule) any { return s.Dir }},
		{"STATE", false, func(s v1.BackupSchedule) any { return s.State }},
		{"GOOD", false, func(s v1.BackupSchedule) any { return timeOf(s.Good) }},
		{"NEXT", false, func(s v1.BackupSchedule) any { return timeOf(s.Next) }},
		{"KEEP", true, func(s v1.BackupSchedule) any { return s.Keep }},
		{"FULL-AFTER", true, func(s v1.BackupSchedule) any { return s.FullAfter }},
		{"RECIPIENTS", true, func(s v1.BackupSchedule) any { return strings.Join(s.Recipients, ",") }},
		{"BEGAN", true, func(s v1.BackupSchedule) any { return timeOf(s.Began) }},
		{"LENGTH", true, func(s v1.BackupSchedule) any { return size(s.Length) }},
		{"LATE", true, func(s v1.BackupSchedule) any { return timeOf(s.Late) }},
		{"ERROR", true, func(s v1.BackupSchedule) any { return s.Error }},
	}
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func scheduleName(s v1.BackupSchedule) string { return s.Name }

func (a *app) backupScheduleCmd() *cobra.Command {
	r := resource[v1.BackupSchedule]{noun: "backup schedule", many: "the schedules of backups", cols: scheduleColumns(), name: scheduleName,
		all: (*client.Client).BackupSchedules}
	c := &cobra.Command{Use: "schedule", Short: "Backups that are made again and again", SuggestionsMinimumDistance: 2,
		Args: known("holdfast backup schedule", "is not something to do with a schedule"),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	show := &cobra.Command{Use: "show NAME", Short: "Show one schedule", Args: args("NAME"), Example: "  holdfast backup schedule show nightly",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			s, err := c.BackupSchedule(ctx, args[0])
			return printed(a, s, err, scheduleColumns(), scheduleName)
		})}
	del := &cobra.Command{Use: "delete NAME", Short: "End a schedule; its backups stay", Args: args("NAME"), Example: "  holdfast backup schedule delete nightly",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteBackupSchedule(ctx, args[0]); err != nil {
				return err
			}
			return a.done("schedule", args[0], "Schedule "+args[0]+" is ended; its backups, and the snapshot that the next one would need, stay.")
		})}
	now := &cobra.Command{Use: "run NAME", Short: "Have a schedule's backup made now", Args: args("NAME"), Example: "  holdfast backup schedule run nightly",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.RunBackupSchedule(ctx, args[0]); err != nil {
				return err
			}
			return a.done("schedule", args[0], "Schedule "+args[0]+" is run as soon as its host sees it; 'holdfast backup schedule show "+args[0]+"' says how it went.")
		})}
	c.AddCommand(a.backupScheduleCreateCmd(), a.backupScheduleSetCmd(), listCmd(a, r), show, now, del)
	return c
}

func (a *app) backupScheduleCreateCmd() *cobra.Command {
	var s v1.BackupScheduleSpec
	var every string
	c := &cobra.Command{Use: "create NAME --volumes VOLUME,... --on HOST --to DIR --every TIME", Short: "Have volumes backed up again and again", Args: args("NAME"),
		Long: "Have a host back volumes up to a directory of it, all at one point, as 'volume backup' does. The directory is made, but not what it is\n" +
			"in: a medium that is not mounted is an error. A run that was missed, because the host was off, is run once. What fails is tried\n" +
			"again, and 'holdfast status' says so. While its host is away nothing is backed up. --keep is that of 'backup prune'.",
		Example: "  holdfast backup schedule create nightly --volumes db,db-log --on a1 --to /mnt/usb/backups --every 1d --keep last=7,weekly=8\n" +
			"  holdfast backup schedule create often --volumes data --on b1 --to /srv/backups --every 6h --keep within=7d,daily=30 --recipient age1…",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			switch {
			case len(s.Volumes) == 0:
				return usageError{errors.New("--volumes is missing: say which are backed up, like --volumes db,db-log")}
			case s.Host == "" || s.Dir == "" || every == "":
				return usageError{errors.New("--on, --to or --every is missing: say on which host, to which directory of it, and how often")}
			}
			d, err := backup.ParseTime(every)
			if err != nil {
				return err
			}
			s.Name, s.Every = args[0], int64(d/time.Second)
			out, err := c.CreateBackupSchedule(ctx, s)
			return printed(a, out, err, scheduleColumns(), scheduleName)
		})}
	scheduleFlags(c, &s, &every)
	return c
}

func (a *app) backupScheduleSetCmd() *cobra.Command {
	var s v1.BackupScheduleSpec
	var every string
	c := &cobra.Command{Use: "set NAME", Short: "Change a schedule", Args: args("NAME"),
		Long: "Change a schedule. What is not given stays as it is. Lists are given whole: --volumes replaces what was there, and so does --recipient;\n" +
			"--recipient none and --keep none leave nothing. A run that is under way goes on as it was begun, unless another host is to run it.\n" +
			"Backups that were made stay where they are; in another directory the first one is a full one.",
		Example: "  holdfast backup schedule set nightly --every 12h --keep last=14,weekly=8\n  holdfast backup schedule set nightly --volumes db,db-log,files\n  holdfast backup schedule set nightly --on b1 --to /srv/backups    # its host will not come back"}
	c.RunE = a.with(func(ctx context.Context, cl *client.Client, args []string) error {
		set, err := scheduleChange(&s, every, c.Flags().Changed)
		if err != nil {
			return err
		}
		out, err := cl.SetBackupSchedule(ctx, args[0], set)
		return printed(a, out, err, scheduleColumns(), scheduleName)
	})
	scheduleFlags(c, &s, &every)
	return c
}

// scheduleChange is what the flags that were given ask for.
func scheduleChange(s *v1.BackupScheduleSpec, every string, given func(string) bool) (set v1.BackupScheduleSet, err error) {
	if given("volumes") {
		set.Volumes = &s.Volumes
	}
	if given("on") {
		set.Host = &s.Host
	}
	if given("to") {
		set.Dir = &s.Dir
	}
	if given("every") {
		d, err := backup.ParseTime(every)
		if err != nil {
			return set, err
		}
		secs := int64(d / time.Second)
		set.Every = &secs
	}
	if given("keep") {
		if s.Keep == "none" {
			s.Keep = ""
		}
		set.Keep = &s.Keep
	}
	if given("full-after") {
		set.FullAfter = &s.FullAfter
	}
	if given("recipient") {
		list := append([]string{}, unlessNone(s.Recipients)...)
		set.Recipients = &list
	}
	if given("plaintext") {
		set.Plaintext = &s.Plaintext
	}
	if set == (v1.BackupScheduleSet{}) {
		return set, usageError{errors.New("say what is to be changed of the schedule, like --every 12h")}
	}
	return set, nil
}

// scheduleFlags are what a schedule is made of.
func scheduleFlags(c *cobra.Command, s *v1.BackupScheduleSpec, every *string) {
	f := c.Flags()
	f.StringSliceVar(&s.Volumes, "volumes", nil, "which `volumes`")
	f.StringVar(&s.Host, "on", "", "`host` that the directory is on, which does it")
	f.StringVar(&s.Dir, "to", "", "`directory`, absolute")
	f.StringVar(every, "every", "", "how often: 30m, 6h, 1d, 1w")
	f.StringVar(&s.Keep, "keep", "", "`what` is kept; none: all")
	f.IntVar(&s.FullAfter, "full-after", 30, "a full backup after so many differences; 0: never")
	f.StringArrayVar(&s.Recipients, "recipient", nil, "seal them to this `public key` (age1…); may be given several times")
	f.BoolVar(&s.Plaintext, "plaintext", false, "back encrypted volumes up in the clear")
}
