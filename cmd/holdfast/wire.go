package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cli"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

// serve runs a host.
func serve(context.Context, config.Config) error {
	return holdfast.Errorf(holdfast.Unavailable, "this build has no host in it yet")
}

// helpers are the subcommands that other processes of a host run.
func helpers() []cli.Helper { return nil }

// extra are commands of packages that only main may know.
func extra() []*cobra.Command { return nil }
