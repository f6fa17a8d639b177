package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func keyColumns() []column[v1.ClusterKey] {
	return []column[v1.ClusterKey]{
		{"STATE", false, func(k v1.ClusterKey) any { return k.State }},
		{"FROM", false, func(k v1.ClusterKey) any { return k.From }},
		{"LOADED-ON", false, func(k v1.ClusterKey) any { return strings.Join(k.Loaded, ",") }},
		{"NOT-ON", false, func(k v1.ClusterKey) any { return strings.Join(k.Missing, ",") }},
		{"ENCRYPTED-VOLUMES", false, func(k v1.ClusterKey) any { return k.Volumes }},
		{"TO-WRAP", false, func(k v1.ClusterKey) any { return k.ToWrap }},
		{"ID", true, func(k v1.ClusterKey) any { return k.ID }},
	}
}

func (a *app) printKey(k v1.ClusterKey, err error) error {
	return printed(a, k, err, keyColumns(), func(k v1.ClusterKey) string { return k.ID })
}

// keyCmd is about the key that the keys of encrypted volumes are wrapped with.
func (a *app) keyCmd() *cobra.Command {
	show := &cobra.Command{Use: "show", Short: "Show what comes of the cluster key, never the key", Args: args(),
		Example: "  holdfast cluster key show",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			k, err := c.ClusterKey(ctx)
			return a.printKey(k, err)
		})}
	c := noun("key", "The key that encrypted volumes depend on", show, a.keyInitCmd(), a.keyUnlockCmd(), a.keyRotateCmd())
	c.Args = known("holdfast cluster key", "is not something to do with the key")
	c.Long = `Every encrypted volume has a data key of its own, which is kept wrapped under the
cluster key. That one comes from a key file or from a passphrase; Holdfast
writes it nowhere. Hosts keep it in their memory and give it to each other, so
a host that restarts asks the others. After a restart of all of them at once it
has to be given again: by 'holdfast cluster key unlock', or by the hosts' own
copies of the key file ('key_file' in their configuration).

Who loses it loses every encrypted volume: keep a copy away from the hosts.`
	return c
}

// keyFlags are where a key comes from: never the command line itself, which
// others can see.
type keyFlags struct{ file, passphrase string }

func (f *keyFlags) add(c *cobra.Command, file string) {
	c.Flags().StringVar(&f.file, "file", "", file)
	c.Flags().StringVar(&f.passphrase, "passphrase-file", "", "`file` with a passphrase of at least 12 bytes, or - for standard input")
}

func (f *keyFlags) check(c *cobra.Command) error {
	if (f.file == "") == (f.passphrase == "") {
		return usageError{fmt.Errorf("give either --file or --passphrase-file; see '%s --help'", c.CommandPath())}
	}
	return nil
}

// read reads what is there.
func (f *keyFlags) read(a *app) (v1.KeySpec, error) {
	path := f.file + f.passphrase
	in := a.Stdin
	if path != "-" {
		r, err := os.Open(path)
		if err != nil {
			return v1.KeySpec{}, holdfast.Errorf(holdfast.NotFound, "cluster key: %w", err)
		}
		defer r.Close()
		in = r
	}
	b, err := io.ReadAll(io.LimitReader(in, 4096))
	if err != nil {
		return v1.KeySpec{}, holdfast.Errorf(holdfast.IO, "cluster key: %w", err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if f.passphrase != "" {
		return v1.KeySpec{Passphrase: text}, nil
	}
	_, err = v1.ParseClusterKey(text)
	return v1.KeySpec{Key: text}, err
}

// make writes a new key to a file that does not exist yet, or reads the
// passphrase. undo removes the file again.
func (f *keyFlags) make(a *app) (spec v1.KeySpec, undo func(), err error) {
	undo = func() {}
	if f.file == "" {
		spec, err = f.read(a)
		return spec, undo, err
	}
	text, err := v1.NewClusterKey(rand.Reader)
	if err != nil {
		return spec, undo, err
	}
	out, err := os.OpenFile(f.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return spec, undo, holdfast.Errorf(holdfast.Exists, "%s exists; a new key is never written over something: choose another path", f.file)
	}
	if err != nil {
		return spec, undo, holdfast.Errorf(holdfast.IO, "cluster key: %w", err)
	}
	_, err = out.WriteString(text)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		os.Remove(f.file)
		return spec, undo, holdfast.Errorf(holdfast.IO, "cluster key: %w", err)
	}
	return v1.KeySpec{Key: strings.TrimSpace(text)}, func() { os.Remove(f.file) }, nil
}

func (a *app) keyInitCmd() *cobra.Command {
	return a.newKeyCmd("init", "Give the cluster its first key", (*client.Client).InitClusterKey,
		"Give the cluster the key that encrypted volumes need. With --file a random key is written there, of mode 0600; with --passphrase-file it is made of a\npassphrase by Argon2id.",
		"  holdfast cluster key init --file /root/holdfast.key\n  holdfast cluster key init --passphrase-file -")
}

func (a *app) keyRotateCmd() *cobra.Command {
	return a.newKeyCmd("rotate", "Replace the cluster's key", (*client.Client).RotateClusterKey,
		"Replace the cluster's key by a new one, in a new file or of another passphrase. The data keys of all volumes are wrapped anew, which goes on in the background\n"+
			"and survives restarts; what is stored stays as it is. When 'holdfast cluster key show' says unlocked, the old key opens nothing any more.\n"+
			"Hosts with a 'key_file' in their configuration need the new file there before their next start.",
		"  holdfast cluster key rotate --file /root/holdfast-2.key\n  holdfast cluster key rotate --passphrase-file new.txt")
}

func (a *app) newKeyCmd(verb, short string, call func(*client.Client, context.Context, v1.KeySpec) (v1.ClusterKey, error), long, example string) *cobra.Command {
	var f keyFlags
	c := &cobra.Command{Use: verb + " --file PATH | --passphrase-file FILE", Short: short, Args: args(), Long: long, Example: example}
	c.RunE = func(cmd *cobra.Command, got []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		return a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			spec, undo, err := f.make(a)
			if err != nil {
				return err
			}
			k, err := call(c, ctx, spec)
			if refused(err) {
				undo()
			}
			if err := a.printKey(k, err); err != nil || !a.forPeople() {
				return err
			}
			if f.file != "" {
				fmt.Fprintf(a.Stdout, "\nThe key is in %s. Keep a copy of it away from the hosts: without it every encrypted volume is lost.\n", f.file)
			}
			return nil
		})(cmd, got)
	}
	f.add(c, "write a random key to this `path`, which must not exist")
	return c
}

// refused reports whether an error says that nothing was done.
func refused(err error) bool {
	switch holdfast.KindOf(err) {
	case holdfast.Invalid, holdfast.Exists, holdfast.Denied, holdfast.NotFound, holdfast.Busy, holdfast.Conflict:
		return err != nil
	}
	return false
}

func (a *app) keyUnlockCmd() *cobra.Command {
	var f keyFlags
	c := &cobra.Command{Use: "unlock --file PATH | --passphrase-file FILE", Short: "Load the key on a host, from which the others take it", Args: args(),
		Long:    "Load the cluster's key into the memory of the host that is called. The others take it from there within seconds, and what was locked is opened.",
		Example: "  holdfast cluster key unlock --passphrase-file -\n  holdfast cluster key unlock --file /root/holdfast.key"}
	c.RunE = func(cmd *cobra.Command, got []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		return a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			spec, err := f.read(a)
			if err != nil {
				return err
			}
			k, err := c.UnlockClusterKey(ctx, spec)
			return a.printKey(k, err)
		})(cmd, got)
	}
	f.add(c, "`file` with the key, or - for standard input")
	return c
}
