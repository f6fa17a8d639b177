package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/program"
)

func (a *app) upgradeCmd() *cobra.Command {
	var plan, disk, back, atRisk bool
	var file string
	var wait time.Duration
	c := &cobra.Command{Use: "upgrade", Short: "Give all hosts another version, one rack after the other; VMs go on", Args: args(),
		Long: `Give all hosts another version of Holdfast, one host at a time and one rack after
the other. VMs go on: each host's process becomes the new program and takes its
machines over again, whose reads and writes wait for those seconds.

Without a flag every host is sent the program that you are running now; --binary
sends another file, and --from-disk sends none: on each host the new program was
put in its place already, by a package say. What is sent is checked by its SHA-256,
must be for the host's kind of processor and must run there; an older version is
refused without --back.

A host has its turn when the cluster is whole: every host there, every volume with
all its copies, nothing being mended. The next one follows when it answers with the
new version, looks after its machines again, and the cluster is whole as before.
Whoever leads comes last. If something stands still for longer than --wait, the
walk ends and says where; 'holdfast upgrade' again goes on there, with the same
flags, and 'holdfast upgrade --back' gives the hosts that were done what they ran
before. While the walk goes on hosts of both versions work together.

Needs the role cluster-admin, or the socket of a host.`,
		Example: "  holdfast upgrade --plan\n  holdfast upgrade\n  holdfast upgrade --binary ./holdfast-0.9\n  holdfast upgrade --from-disk\n  holdfast upgrade --back"}
	c.RunE = a.with(func(ctx context.Context, c *client.Client, _ []string) error {
		if wait < 10*time.Second || wait > 24*time.Hour {
			return usageError{fmt.Errorf("--wait is 10s to 24h, not %v", wait)}
		}
		w := &walk{a: a, c: c, atRisk: atRisk, wait: wait, poll: walkPoll, calm: walkCalm, begun: time.Now(), ask: client.UpgradeAsk{Way: "file", Back: back}}
		switch {
		case disk:
			w.ask.Way = "disk"
		case back && file == "":
			w.ask.Way = "previous"
		default:
			f, err := w.open(ctx, file)
			if err != nil {
				return err
			}
			defer f.Close()
		}
		p, err := c.UpgradePlan(ctx, w.ask)
		if err != nil {
			return err
		}
		if plan {
			if a.structured() {
				return a.encode(p)
			}
			a.printUpgrade(a.Stdout, p)
			return nil
		}
		return w.run(ctx, p)
	})
	c.Flags().BoolVar(&plan, "plan", false, "only say what would be done, in which order, and what speaks against it now")
	c.Flags().StringVar(&file, "binary", "", "send the hosts this `file` (default: the program that you are running)")
	c.Flags().BoolVar(&disk, "from-disk", false, "send nothing: the new program stands in its place on every host")
	c.Flags().BoolVar(&back, "back", false, "an older version is wanted; without --binary: what each host ran before")
	c.Flags().BoolVar(&atRisk, "at-risk", false, "go on though the plan names what would be lost if a host did not come back")
	c.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long to wait for a host, and for the cluster to be whole again")
	c.MarkFlagsMutuallyExclusive("binary", "from-disk")
	return c
}

// open reads the program that is to be sent.
func (w *walk) open(ctx context.Context, path string) (io.Closer, error) {
	if path == "" {
		own, err := os.Executable()
		if err != nil {
			return nil, holdfast.Errorf(holdfast.IO, "which program this is: %w; name it with --binary", err)
		}
		path = own
	}
	b, err := program.Open(path).Disk(ctx)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "program: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() > program.MaxSize {
		err = holdfast.Errorf(holdfast.Invalid, "%s has more than %d MiB: that is no Holdfast", path, program.MaxSize>>20)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	w.file, w.size, w.ask.File = f, st.Size(), v1.Build{Version: b.Version, SHA256: b.Sum, Arch: b.Arch}
	return f, nil
}

// printUpgrade prints a plan for people.
func (a *app) printUpgrade(out io.Writer, p v1.Upgrade) {
	say := func(format string, args ...any) { fmt.Fprintln(out, plain(fmt.Sprintf(format, args...))) }
	left := 0
	for _, r := range p.Racks {
		say("rack %s", r.Rack)
		for _, s := range r.Hosts {
			switch s.State {
			case "done":
				say("  %-12s %s already", s.Host, s.From.Version)
				continue
			case "skipped":
				say("  %-12s %s, left as it is: %s", s.Host, cmp.Or(s.From.Version, "version not known"), s.Why)
				continue
			}
			left++
			say("  %-12s %s -> %s", s.Host, s.From.Version, nameBuild(s))
			if len(s.VMs) > 0 {
				say("  %-12s   go on: %s", "", strings.Join(s.VMs, ", "))
			}
			for _, x := range s.Away {
				say("  %-12s   not there for some seconds: %s", "", x)
			}
		}
	}
	for _, b := range p.Blocked {
		say("FIRST: %s.", b)
	}
	for _, r := range p.Risks {
		say("RISK: %s.", r)
	}
	for _, n := range p.Notes {
		say("NOTE: %s.", n)
	}
	switch {
	case left == 0:
		say("There is nothing to do.")
	case len(p.Blocked) > 0:
		say("This could not be begun now.")
	case len(p.Risks) > 0:
		say("This could be begun now with --at-risk.")
	default:
		say("This could be begun now.")
	}
}

// nameBuild names what a host is to run by its version, and by its hash where that
// does not tell it from what it runs.
func nameBuild(s v1.UpgradeStep) string {
	short := s.To.SHA256[:min(len(s.To.SHA256), 12)]
	switch s.To.Version {
	case "":
		return "build " + short
	case s.From.Version:
		return s.To.Version + ", build " + short
	}
	return s.To.Version
}
