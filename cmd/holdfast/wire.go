package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast/internal/cli"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/drill"
	"github.com/holdfast-cloud/holdfast/internal/fence/cgroup"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/guestnet"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/qemu"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/serve"
	"github.com/holdfast-cloud/holdfast/internal/sim"
	"github.com/holdfast-cloud/holdfast/internal/sim/fleet"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
	"github.com/holdfast-cloud/holdfast/lab"
)

// runHost runs a host until ctx ends. Its machines go on.
func runHost(ctx context.Context, c config.Config) error {
	program.Children()
	go watchGarbage(ctx, c.Witness)
	if c.Witness {
		go letGoOfFiles(ctx)
	}
	tail := telemetry.NewTail(serve.LogKept)
	return serve.Run(ctx, serve.Options{Config: c, Version: version, Log: logger(c.Log, io.MultiWriter(os.Stderr, tail)), Tail: tail})
}

// logger writes as the configuration says, which has been checked.
func logger(c config.Log, to io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, o))
	}
	return slog.New(slog.NewTextHandler(to, o))
}

// helpers are the subcommands that other processes of a host run.
func helpers() []cli.Helper {
	return []cli.Helper{
		{Name: "jail", Run: qemu.JailMain},
		{Name: "guestnet", Run: guestnet.Main},
		{Name: "watchdog", Run: func(args []string) int { return cgroup.Main(args, victims) }},
	}
}

// victims are the processes of a host's machines, for its watchdog.
func victims(machines string) ([]cgroup.Victim, error) {
	ps, err := qemu.Processes(machines)
	out := make([]cgroup.Victim, len(ps))
	for i := range ps {
		out[i] = ps[i]
	}
	return out, err
}

// extra are commands of packages that only main may know.
func extra() []*cobra.Command {
	l := lab.Command(os.Getenv)
	l.AddCommand(drill.PlayCommand(os.Getenv))
	return []*cobra.Command{l, drill.Command(os.Getenv), fleet.Serve(sim.Command(version), version)}
}
