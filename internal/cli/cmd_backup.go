package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/backup/run"
)

func madeColumns() []column[run.Made] {
	return []column[run.Made]{
		{"VOLUME", false, func(m run.Made) any { return m.Volume }},
		{"KIND", false, func(m run.Made) any { return m.Kind }},
		{"DATA", false, func(m run.Made) any { return size(m.Data) }},
		{"LENGTH", false, func(m run.Made) any { return size(m.Length) }},
		{"FILE", false, func(m run.Made) any { return m.File }},
		{"SIZE", true, func(m run.Made) any { return size(m.Size) }},
		{"ZERO", true, func(m run.Made) any { return size(m.Zero) }},
		{"POINT", true, func(m run.Made) any { return m.Point }},
		{"SNAPSHOT", true, func(m run.Made) any { return m.Snapshot }},
		{"SECONDS", true, func(m run.Made) any { return fmt.Sprintf("%.1f", m.Seconds) }},
		{"RESUMED", true, func(m run.Made) any { return m.Resumed }},
	}
}

func (a *app) volumeBackupCmd() *cobra.Command {
	var j run.Job
	var recipients []string
	c := &cobra.Command{Use: "backup VOLUME[@SNAPSHOT]... TO", Short: "Back volumes up to a directory, a file or a pipe, as a whole or what changed",
		Long: "Back a volume up as it is now, or a snapshot of it. Several volumes are backed up at one point.\n\n" +
			"TO is a directory (one that is there, or a name that ends with /), a file, or - for standard output. In a directory the first\n" +
			"backup of a volume is a full one and later ones hold what changed, which is known without reading the volume. The snapshot\n" +
			"that the next one is the difference to is kept; it is called " + run.Prefix + "… and goes with its backup. What is interrupted is gone on\n" +
			"with by the same command, also to a file. To a file or pipe a backup is full, or with --base the difference to a snapshot;\n" +
			"several volumes stand one behind the other in it, and are restored with --volume.\n\n" +
			"Every part of a backup is hashed. With --recipient it is also sealed, so that only the owner of the identity reads it\n" +
			"('holdfast backup keygen' makes both). An encrypted volume is not backed up in the clear unless --plaintext is said.",
		Example: "  holdfast volume backup data /mnt/backups/\n  holdfast volume backup db db-log /mnt/backups/ --recipient age1…\n" +
			"  holdfast volume backup data /mnt/backups --full\n  holdfast volume backup data@monday monday.hfb\n" +
			"  holdfast volume backup db db-log both.hfb\n  holdfast volume backup data - | ssh other 'cat > data.hfb'\n" +
			"  holdfast volume backup data@tuesday - --base monday | ssh other holdfast volume restore …    # after the full one",
		Args: atLeast("VOLUME", "TO"),
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			var err error
			if j.Recipients, err = backup.Recipients(recipients); err != nil {
				return err
			}
			to := args[len(args)-1]
			for _, v := range args[:len(args)-1] {
				name, snap, _ := strings.Cut(v, "@")
				if snap != "" && len(args) > 2 {
					return usageError{errors.New("a snapshot can be named of one volume only; several are backed up as they are now")}
				}
				j.Volumes, j.Snapshot = append(j.Volumes, name), snap
			}
			if err := a.backupTo(&j, to); err != nil {
				return err
			}
			j.Client = c
			return a.backUp(ctx, &j)
		})}
	f := c.Flags()
	f.BoolVar(&j.Full, "full", false, "all that the volume holds, whatever is there")
	f.BoolVar(&j.Incremental, "incremental", false, "what changed since the last backup, or nothing")
	f.StringVar(&j.Base, "base", "", "to a file or pipe: what is not as in this `snapshot`")
	f.BoolVar(&j.Keep, "keep-snapshot", false, "to a file or pipe: keep the snapshots that are made, to be the base of another backup")
	f.IntVar(&j.FullAfter, "full-after", 30, "in a directory: a full one after so many differences; 0: never")
	f.StringArrayVar(&recipients, "recipient", nil, "seal it to this `public key` (age1…); may be given several times")
	f.BoolVar(&j.Plaintext, "plaintext", false, "back an encrypted volume up in the clear")
	f.BoolVar(&j.Replace, "force", false, "replace the file TO if it is there")
	c.MarkFlagsMutuallyExclusive("full", "incremental")
	c.MarkFlagsMutuallyExclusive("recipient", "plaintext")
	return c
}

// atLeast demands as many arguments as there are names; the first may be several.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, got []string) error {
		if len(got) >= len(names) {
			return nil
		}
		return args(names...)(c, got)
	}
}

// backupTo sets where a backup goes.
func (a *app) backupTo(j *run.Job, to string) error {
	st, err := os.Stat(to)
	switch {
	case to == "-":
		if _, tty := terminal(a.Stdout); tty {
			return usageError{errors.New("a backup is nothing to look at: send standard output to a file or another program")}
		}
		j.Pipe = a.Stdout
	case err == nil && st.IsDir():
		j.Dir = to
	case strings.HasSuffix(to, "/"):
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		j.Dir = to
	default:
		j.File = to
	}
	if j.Dir != "" && (j.Base != "" || j.Keep || j.Replace) {
		return usageError{errors.New("--base, --keep-snapshot and --force are for a file or pipe: in a directory the base is found, and nothing replaced")}
	}
	return nil
}

// backUp runs a job and prints what was made.
func (a *app) backUp(ctx context.Context, j *run.Job) error {
	var b *bar
	var of string
	end := func(err error) {
		if b != nil {
			b.done(err)
		}
		b = nil
	}
	j.Note = func(text string) { fmt.Fprintln(a.Stderr, plain(text)) }
	j.Progress = func(volume string, done, total int64) {
		if of != volume || b == nil {
			end(nil)
			b, of = a.progress("backing up "+volume, total), volume
		}
		b.at(done)
	}
	made, err := j.Run(ctx)
	end(err)
	if errors.Is(err, context.Canceled) {
		switch {
		case j.Dir != "":
			fmt.Fprintln(a.Stderr, "Interrupted. What was written is kept: the same command goes on where it was.")
		case j.Pipe != nil:
			fmt.Fprintln(a.Stderr, "Interrupted. Nothing is left of it but what went to standard output.")
		default:
			fmt.Fprintln(a.Stderr, "Interrupted.") // what is left was noted
		}
		return ExitError(130)
	}
	if j.Pipe != nil {
		return err
	}
	if err == nil && len(made) == 0 {
		return a.done("backup", j.Dir, "All of it was there already.")
	}
	if len(made) > 0 {
		if perr := printAll(a, made, madeColumns(), func(m run.Made) string { return m.File }); err == nil {
			err = perr
		}
	}
	return err
}

func (a *app) volumeRestoreCmd() *cobra.Command {
	var s run.Source
	var n client.NewRestore
	var identity string
	var encrypt bool
	c := &cobra.Command{Use: "restore FROM NEWNAME", Short: "Make a new volume of a backup", Args: args("FROM", "NEWNAME"),
		Long: "Make a new volume of a backup, with what it is the difference to; nothing that is there is changed. FROM is a directory, a file\n" +
			"(what it goes over is found beside it), or - for standard input: backups one behind the other, the oldest first.\n" +
			"Every part is verified before anything of it is written. The volume can be used when all of it is on disk; what is interrupted\n" +
			"leaves no volume and is begun anew.",
		Example: "  holdfast volume restore /mnt/backups data-again\n  holdfast volume restore /mnt/backups data-monday --volume data --at 2026-11-16\n" +
			"  holdfast volume restore /mnt/backups db-first --volume db --at 1    # the number that 'backup list' shows\n" +
			"  holdfast volume restore both.hfb db-again --volume db\n  holdfast volume restore data.hfb data-again --identity key.txt --pool fast --copies 3\n  ssh other cat data.hfb | holdfast volume restore - data-again",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(ctx context.Context, c *client.Client, args []string) (err error) {
				if s.Identities, err = backup.Identities(identity); err != nil {
					return err
				}
				n.Name = args[1]
				if s.Path = args[0]; s.Path == "-" {
					s.Path, s.Pipe = "", a.Stdin
				}
				if cmd.Flags().Changed("encrypt") {
					n.Encrypt = fmt.Sprint(encrypt)
				}
				var b *bar
				s.Progress = func(done, total int64) {
					if b == nil {
						if total == 0 {
							total = -1
						}
						b = a.progress("restoring "+n.Name, total)
					}
					b.at(done)
				}
				var v v1.Volume
				v, err = s.Restore(ctx, c, n)
				if b != nil {
					b.done(err)
				}
				if errors.Is(err, context.Canceled) {
					fmt.Fprintln(a.Stderr, "Interrupted. Nothing is left of it: begin anew.")
					return ExitError(130)
				}
				return printed(a, v, err, volumeColumns(), volumeName)
			})(cmd, args)
		}}
	f := c.Flags()
	f.StringVar(&s.Volume, "volume", "", "of backups of several volumes: which `volume`")
	f.StringVar(&s.At, "at", "", "in a directory: the last backup of that `time or number`; none: the newest")
	f.StringVar(&identity, "identity", "", "`file` with the identity that opens a sealed backup")
	f.Var((*sizeFlag)(&n.Size), "size", "of a volume that grew, from standard input: the size that it had at last")
	f.IntVar(&n.Copies, "copies", 0, "copies in distinct racks (default: the pool's, or 2 as far as there are racks)")
	f.StringVar(&n.Pool, "pool", "", "`pool` whose disks hold it; none: default")
	f.BoolVar(&encrypt, "encrypt", false, "seal its blocks, or not with --encrypt=false (default: if the volume was encrypted)")
	f.StringVar(&n.Compress, "compress", "", "off, fast or auto (default: as the volume was)")
	return c
}
