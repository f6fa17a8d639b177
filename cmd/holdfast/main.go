// Command holdfast is all of Holdfast: the host, the command line, the lab and
// the drills.
package main

import (
	"os"

	"github.com/holdfast-cloud/holdfast/internal/cli"
	"github.com/holdfast-cloud/holdfast/lab"
)

// version is set when the binary is linked.
var version = "unreleased"

func main() {
	os.Exit(cli.Run(cli.Env{
		Version: version,
		Stdin:   os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv,
		Serve:  runHost,
		Helpers: append(helpers(),
			cli.Helper{Name: lab.KeeperName, Run: lab.Keeper},
			cli.Helper{Name: lab.LineName, Run: lab.RunLine}),
		Extra: extra(),
	}, os.Args[1:]))
}
