package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// Times of a recovery, as its caller sees it.
const (
	recoverPatience = 2 * time.Minute // for the host to be back with a control plane
	recoverPoll     = 200 * time.Millisecond
	recoverAsk      = 5 * time.Second // for one answer
)

func (a *app) recoverCmd() *cobra.Command {
	var f keyFlags
	var plan, yes bool
	var disks []string
	c := &cobra.Command{Use: "recover", Short: "Rebuild the control plane on this host when its majority is lost for good", Args: args(),
		Long: `Rebuild the control plane on the host that is called, when so many others are
destroyed that it can have no majority any more. The host's own process must run;
it does so without a majority, and also answers when its part of the control plane
cannot be read. An administrator calls it from elsewhere with --host and --credential.

Every host keeps a sealed copy of the cluster's records. From it, or from what the
host's own member of the control plane holds, volumes, VMs, images, networks, keys
and exports are put back. This host alone votes afterwards; hosts that answer it
now stay members, all others are shut out: if one comes back, it serves nothing,
says so, and leaves its disks as they are. Every volume is opened above all epochs
that anybody may have used. Volumes whose copy here was in sync are served; one
whose copy had fallen behind stays closed.

Where the control plane is an external etcd that is lost for good, it leaves that:
afterwards it is on the cluster's own hosts, and does not go back.

The plan comes first; then the cluster's name is asked for. Do this on one host
only, the one with the newest records: run --plan on each that is left and compare
the revision.

If only disks are left, put them into a computer whose Holdfast runs and is in no
cluster, and name them there with --from-disk: every disk holds a copy of the
records, too. That host takes them over with the volumes on them. Where the cluster
has no cluster key, its disks hold nothing by which somebody could enter it: then
a new authority is made, hosts that are left join anew, and iSCSI initiators with
a secret are entered again.`,
		Example: "  holdfast cluster recover --plan\n  holdfast --host 192.0.2.11:7440 --credential admin cluster recover --plan\n  holdfast cluster recover\n  holdfast cluster recover --yes\n  holdfast cluster recover --passphrase-file -\n  holdfast cluster recover --from-disk /dev/sdb --plan"}
	c.RunE = a.with(func(ctx context.Context, c *client.Client, _ []string) error {
		spec, err := f.recovery(a)
		if err != nil {
			return err
		}
		spec.Disks = disks
		p, err := c.RecoveryPlan(ctx, spec)
		if err != nil {
			return err
		}
		switch {
		case plan && a.structured():
			return a.encode(p)
		case plan:
			a.printRecovery(a.Stdout, p)
			return nil
		case !yes || !a.structured():
			a.printRecovery(a.Stderr, p)
		}
		if !yes {
			if err := a.askToType(p.Cluster, "Type the name of the cluster to rebuild its control plane here: ", "nothing was done", "--yes does not ask"); err != nil {
				return err
			}
		}
		spec.Cluster = p.Cluster
		if _, err := c.Recover(ctx, spec); err != nil {
			return err
		}
		r, err := awaitRecovery(ctx, c, p.Incarnation)
		if err != nil {
			return err
		}
		if a.structured() {
			return a.encode(r)
		}
		fmt.Fprintf(a.Stdout, "%s\n", plain(fmt.Sprintf("The control plane of cluster %s was rebuilt on host %s (incarnation %d). What was done is in %s.", r.Cluster, r.Host, r.Incarnation, r.Log)))
		fmt.Fprintln(a.Stdout, "VMs start by themselves: 'holdfast vm list'. Nothing is redundant until hosts join: 'holdfast host code' here, 'holdfast host join CODE' there.")
		return nil
	})
	c.Flags().BoolVar(&plan, "plan", false, "only say what would be done")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask for the cluster's name")
	c.Flags().StringArrayVar(&disks, "from-disk", nil, "`path` of a disk of a lost host, in this host, which is in no cluster; may be given several times")
	f.add(c, "`file` with the cluster key, if the kept records are sealed with one, or - for standard input")
	c.MarkFlagsMutuallyExclusive("plan", "yes")
	c.MarkFlagsMutuallyExclusive("file", "passphrase-file")
	return c
}

// recovery reads the key, if one is given.
func (f *keyFlags) recovery(a *app) (v1.RecoverySpec, error) {
	if f.file == "" && f.passphrase == "" {
		return v1.RecoverySpec{}, nil
	}
	k, err := f.read(a)
	return v1.RecoverySpec{Key: k.Key, Passphrase: k.Passphrase}, err
}

// awaitRecovery waits until the host is back in a new incarnation and sees it.
func awaitRecovery(ctx context.Context, c *client.Client, incarnation int) (r v1.Recovery, err error) {
	ctx, cancel := context.WithTimeout(ctx, recoverPatience)
	defer cancel()
	for {
		ask, end := context.WithTimeout(ctx, recoverAsk)
		r, err = c.Recovery(ask)
		if err == nil && r.State == "failed" {
			err = holdfast.Errorf(holdfast.Unavailable, "the control plane was not rebuilt, the host goes on as before: %s", r.Error)
			end()
			return r, err
		}
		if err == nil && r.Incarnation >= incarnation {
			if _, err = c.Cluster(ask); err == nil {
				end()
				return r, nil
			}
		}
		end()
		select {
		case <-ctx.Done():
			if err == nil {
				err = holdfast.Errorf(holdfast.Unavailable, "it has not begun anew yet")
			}
			return r, holdfast.Errorf(holdfast.Unavailable, "the host is not back with its control plane after %v: %w; its log says more", recoverPatience, err)
		case <-time.After(recoverPoll):
		}
	}
}

// printRecovery prints a plan for people.
func (a *app) printRecovery(out io.Writer, p v1.Recovery) {
	say := func(format string, args ...any) { fmt.Fprintln(out, plain(fmt.Sprintf(format, args...))) }
	say("The control plane of cluster %s would be rebuilt on host %s, as incarnation %d.", p.Cluster, p.Host, p.Incarnation)
	when := ""
	if p.Made != nil {
		when = ", kept at " + p.Made.UTC().Format("2006-01-02 15:04:05Z")
	}
	if p.Seen != nil {
		when += ", known to be the newest at " + p.Seen.UTC().Format("2006-01-02 15:04:05Z")
	}
	say("Records: %s, revision %d%s.", p.Source, p.Revision, when)
	if len(p.Stay) > 1 {
		say("These answer and stay members: %s.", strings.Join(p.Stay[1:], ", "))
	}
	for _, h := range p.Shut {
		say("SHUT OUT: host %s (rack %s); if it comes back it serves nothing, and its disks stay as they are.", h.Name, h.Rack)
	}
	whole := 0
	for _, state := range []string{"unreachable", "stale", "short", "served"} {
		for _, v := range p.Volumes {
			switch {
			case v.State != state:
			case state == "served" && v.Copies >= v.Wanted:
				whole++
			case state == "served":
				say("Volume %s (%s) is served %s; %d of %d copies are left; epoch %d → above %d.", v.Volume, formatSize(v.Size), v.Why, v.Copies, v.Wanted, v.Epoch, v.Next)
			case state == "unreachable":
				say("UNREACHABLE: volume %s (%s): %s.", v.Volume, formatSize(v.Size), v.Why)
			default:
				say("NOT SERVED: volume %s (%s), %s: %s.", v.Volume, formatSize(v.Size), state, v.Why)
			}
		}
	}
	if whole > 0 {
		say("%s with all copies here.", counted(whole, "volume"))
	}
	if len(p.VMs) > 0 {
		say("Started anew where their disks are served: %s.", strings.Join(p.VMs, ", "))
	}
	for _, w := range p.Warnings {
		say("NOTE: %s.", w)
	}
}
