package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func (a *app) debugCmd() *cobra.Command {
	bundle := &cobra.Command{Use: "bundle [FILE]", Short: "Put what somebody needs to look for a mistake into one file", Args: args("[FILE]"),
		Long: `Put what somebody needs to look for a mistake into one file, a gzipped tar: the
status, every record that the API shows, figures, and of each host that answers
what its process is doing, its configuration and the last of its log.

It holds names of hosts, VMs and volumes, and addresses. It holds no data, no
keys, no passwords: cloud-init data and kernel command lines of VMs, which may
have some, are left out, and kept records and credentials are not read. FILE is
holdfast-debug-TIME.tar.gz by default, '-' is standard output; nothing is
overwritten.`,
		Example: "  holdfast debug bundle\n  holdfast debug bundle /tmp/site-a.tar.gz\n  holdfast debug bundle - | tar tz",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			now := time.Now().UTC()
			name := "holdfast-debug-" + now.Format("20060102-150405") + ".tar.gz"
			if len(args) > 0 {
				name = args[0]
			}
			if name == "-" {
				return gather(ctx, c, a.Version, now, a.Stdout, a.Stderr)
			}
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return holdfast.Errorf(holdfast.Exists, "%s is there already; name another file", name)
			}
			if err != nil {
				return holdfast.Errorf(holdfast.IO, "the bundle: %w", err)
			}
			err = errors.Join(gather(ctx, c, a.Version, now, f, a.Stderr), f.Close())
			if err != nil {
				return errors.Join(err, os.Remove(name))
			}
			fmt.Fprintln(a.Stdout, name)
			return nil
		})}
	return noun("debug", "What somebody needs to look for a mistake", bundle)
}

// bundle is a gzipped tar under way.
type bundle struct {
	tar     *tar.Writer
	now     time.Time
	tell    io.Writer
	missing []string // what could not be had
}

// gather asks for everything and writes it to out. What cannot be had is told in
// the bundle; only writing can fail, and a cluster of which nothing can be had.
func gather(ctx context.Context, c *client.Client, version string, now time.Time, out, tell io.Writer) error {
	self, err := c.Self(ctx)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	b := &bundle{tar: tar.NewWriter(z), now: now, tell: tell}
	about := fmt.Sprintf("Holdfast debug bundle, %s\nasked: host %s, version %s; asked by version %s\nLeft out: data, keys, passwords, user data and kernel command lines of VMs.\n",
		now.Format(time.RFC3339), self.Name, self.Version, version)
	if err := b.add("README.txt", []byte(about)); err != nil {
		return err
	}
	for _, x := range parts() {
		v, err := x.ask(ctx, c)
		if err == nil {
			err = b.json(x.name, v)
		}
		if err != nil {
			b.lacks(x.name, err)
		}
	}
	if m, err := c.Metrics(ctx); err != nil {
		b.lacks("metrics.txt", err)
	} else if err := b.add("metrics.txt", m); err != nil {
		return err
	}
	if err := b.hosts(ctx, c); err != nil {
		return err
	}
	if err := b.add("missing.txt", []byte(strings.Join(b.missing, ""))); err != nil {
		return err
	}
	if err := errors.Join(b.tar.Close(), z.Close()); err != nil {
		return holdfast.Errorf(holdfast.IO, "the bundle: %w", err)
	}
	return nil
}

// part is an answer of the API that is put into a file.
type part struct {
	name string
	ask  func(context.Context, *client.Client) (any, error)
}

func parts() []part {
	return []part{
		{"status", func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx) }},
		{"cluster", func(ctx context.Context, c *client.Client) (any, error) { return c.Cluster(ctx) }},
		{"racks", func(ctx context.Context, c *client.Client) (any, error) { return c.Racks(ctx) }},
		{"hosts", func(ctx context.Context, c *client.Client) (any, error) { return c.Hosts(ctx) }},
		{"disks", func(ctx context.Context, c *client.Client) (any, error) { return c.Disks(ctx) }},
		{"pools", func(ctx context.Context, c *client.Client) (any, error) { return c.Pools(ctx) }},
		{"volumes", func(ctx context.Context, c *client.Client) (any, error) { return c.Volumes(ctx) }},
		{"images", func(ctx context.Context, c *client.Client) (any, error) { return c.Images(ctx) }},
		{"vms", func(ctx context.Context, c *client.Client) (any, error) { return quietVMs(ctx, c) }},
		{"exports", func(ctx context.Context, c *client.Client) (any, error) { return c.Exports(ctx) }},
		{"schedules", func(ctx context.Context, c *client.Client) (any, error) { return c.BackupSchedules(ctx) }},
		{"incidents", func(ctx context.Context, c *client.Client) (any, error) { return c.Incidents(ctx) }},
		{"work", func(ctx context.Context, c *client.Client) (any, error) { return c.Work(ctx, false) }},
	}
}

// quietVMs are the VMs without what may have secrets in it.
func quietVMs(ctx context.Context, c *client.Client) ([]v1.VM, error) {
	vms, err := c.VMs(ctx)
	for i := range vms {
		vms[i].UserData, vms[i].Append, vms[i].SSHKeys = hushed(vms[i].UserData), hushed(vms[i].Append), nil
	}
	return vms, err
}

func hushed(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("(%d bytes left out)", len(s))
}

func (b *bundle) lacks(what string, err error) {
	b.missing = append(b.missing, fmt.Sprintf("%s: %v\n", what, err))
	fmt.Fprintln(b.tell, plain(fmt.Sprintf("without %s: %v", what, err)))
}

// hosts adds what each host says of its process.
func (b *bundle) hosts(ctx context.Context, c *client.Client) error {
	all, err := c.Diagnose(ctx, false)
	if err != nil {
		b.lacks("hosts", err)
	}
	for _, name := range all.Silent {
		b.lacks("host "+name, holdfast.Errorf(holdfast.Unavailable, "it did not answer"))
	}
	for _, d := range all.Hosts {
		dir := "hosts/" + d.Host + "/"
		for _, f := range []struct{ name, text string }{
			{"stacks.txt", d.Stacks}, {"config.yaml", d.Config}, {"log.txt", d.Log}, {"mounts.txt", d.Mounts}, {"limits.txt", d.Limits},
		} {
			if err := b.add(dir+f.name, []byte(f.text)); err != nil {
				return err
			}
		}
		d.Stacks, d.Config, d.Log, d.Mounts, d.Limits = "", "", "", "", ""
		if err := b.json(dir+"process", d); err != nil {
			return err
		}
	}
	return nil
}

func (b *bundle) json(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return b.add(name+".json", append(bytes.Clone(text), '\n'))
}

func (b *bundle) add(name string, content []byte) error {
	err := b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "holdfast-debug/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: b.now})
	if err == nil {
		_, err = b.tar.Write(content)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "the bundle: %s: %w", name, err)
	}
	return nil
}
