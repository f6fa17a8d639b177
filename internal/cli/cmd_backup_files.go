package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/backup/run"
)

// listedBackup is a row of 'backup list'.
type listedBackup struct {
	N        int       `json:"n,omitempty"` // for --at
	Volume   string    `json:"volume,omitempty"`
	VolumeID string    `json:"volume_id,omitempty"`
	Kind     string    `json:"kind"`
	Point    time.Time `json:"point"`
	State    string    `json:"state"`
	Size     int64     `json:"size,omitempty"`
	Data     int64     `json:"data,omitempty"`
	Length   int64     `json:"length"`
	Sealed   bool      `json:"sealed"`
	Snapshot string    `json:"snapshot,omitempty"`
	Base     string    `json:"base,omitempty"`
	Cluster  string    `json:"cluster,omitempty"`
	ID       string    `json:"id,omitempty"`
	File     string    `json:"file"`
	Why      string    `json:"why,omitempty"`
}

func backupColumns() []column[listedBackup] {
	return []column[listedBackup]{
		{"VOLUME", false, func(b listedBackup) any { return b.Volume }},
		{"N", false, func(b listedBackup) any {
			if b.N == 0 {
				return ""
			}
			return b.N
		}},
		{"POINT", false, func(b listedBackup) any { return b.Point }},
		{"KIND", false, func(b listedBackup) any { return b.Kind }},
		{"STATE", false, func(b listedBackup) any { return b.State }},
		{"LENGTH", false, func(b listedBackup) any { return size(b.Length) }},
		{"SEALED", false, func(b listedBackup) any { return b.Sealed }},
		{"FILE", false, func(b listedBackup) any { return b.File }},
		{"SIZE", true, func(b listedBackup) any { return size(b.Size) }},
		{"DATA", true, func(b listedBackup) any { return size(b.Data) }},
		{"SNAPSHOT", true, func(b listedBackup) any { return b.Snapshot }},
		{"BASE", true, func(b listedBackup) any { return b.Base }},
		{"CLUSTER", true, func(b listedBackup) any { return b.Cluster }},
		{"ID", true, func(b listedBackup) any { return b.ID }},
		{"WHY", true, func(b listedBackup) any { return b.Why }},
	}
}

func (a *app) backupCmd() *cobra.Command {
	return noun("backup", "Backups of volumes: 'volume backup' makes them, 'volume restore' reads them", a.backupListCmd(), a.backupVerifyCmd(), a.backupPruneCmd(), a.backupScheduleCmd(), a.backupKeyCmd())
}

func (a *app) backupListCmd() *cobra.Command {
	return &cobra.Command{Use: "list DIR", Short: "The backups in a directory", Args: args("DIR"),
		Long: "List the backups in a directory, those of a volume together, the oldest first. N is what 'volume restore --at' takes. Only the\n" +
			"beginnings and ends of files are read; 'backup verify' reads all. STATE is\n\n" +
			"  whole        its end is there, and all that it goes over\n  no base      what it goes over is missing\n" +
			"  interrupted  the same backup goes on with it\n  damaged      it cannot be used, or its end is missing",
		Example: "  holdfast backup list /mnt/backups\n  holdfast backup list /mnt/backups -o wide\n  holdfast backup list /mnt/backups -o json",
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := backup.List(args[0])
			if err != nil {
				return err
			}
			return printAll(a, listedBackups(files), backupColumns(), func(b listedBackup) string { return b.File })
		}}
}

func listedBackups(files []backup.File) []listedBackup {
	out := []listedBackup{}
	count := map[string]int{}
	for _, f := range files {
		h := f.Header
		b := listedBackup{Kind: "full", Point: h.Created, State: "whole", Length: f.Length, Sealed: h.Sealed, ID: h.ID,
			Cluster: h.Cluster.Name, File: filepath.Base(f.Path), Data: int64(f.Totals.Data) * holdfast.BlockSize}
		if v := h.Volume; v != nil {
			b.Volume, b.VolumeID, b.Size, b.Snapshot = v.Name, v.ID, v.Size, h.Snapshot.Name
			if h.Base != nil {
				b.Kind, b.Base = "incremental", h.Base.Name
			}
		} else {
			b.Kind = "cluster"
		}
		switch {
		case f.Err != nil:
			b.Kind, b.State, b.Why = "?", "damaged", f.Err.Error()
		case f.Part:
			b.State = "interrupted"
		case !f.Whole:
			b.State, b.Why = "damaged", "its end is missing"
		case h.Volume != nil:
			count[h.Volume.ID]++
			b.N = count[h.Volume.ID]
			if _, err := backup.Chain(files, f); err != nil {
				b.State, b.Why = "no base", err.Error()
			}
		}
		out = append(out, b)
	}
	return out
}

// verified is what 'backup verify' says of a file.
type verified struct {
	File string `json:"file"`
	backup.Verdict
	Error string `json:"error,omitempty"` // it cannot be used at all
}

func (v verified) good() bool { return v.Error == "" && v.Whole }

func verifiedColumns() []column[verified] {
	return []column[verified]{
		{"FILE", false, func(v verified) any { return v.File }},
		{"STATE", false, func(v verified) any {
			switch {
			case v.Error != "":
				return "unusable"
			case !v.Whole:
				return "damaged"
			case v.Locked:
				return "good, seals not opened"
			}
			return "good"
		}},
		{"DATA", false, func(v verified) any { return size(v.Data) }},
		{"LENGTH", false, func(v verified) any { return size(v.Length) }},
		{"PARTS", true, func(v verified) any { return int(v.Parts) }},
		{"SHA256", true, func(v verified) any { return v.Sum }},
	}
}

func (a *app) backupVerifyCmd() *cobra.Command {
	var volume, identity string
	c := &cobra.Command{Use: "verify FROM", Short: "Read backups to their end, and say what of them is good", Args: args("FROM"),
		Long: "Read a directory of backups, a file with what they go over, or standard input (-), without restoring: every hash is compared, every\n" +
			"part must be there and in its place, and so must what a backup goes over. With --identity seals are opened, too. Of what is damaged\n" +
			"it is said where, and which parts of the volume may be lost with it. Exit status 1 if anything is not good.",
		Example: "  holdfast backup verify /mnt/backups\n  holdfast backup verify /mnt/backups --volume data --identity key.txt\n  holdfast backup verify data.20261122-120000.incr.hfb\n  ssh other cat data.hfb | holdfast backup verify -",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := backup.Identities(identity)
			if err != nil {
				return err
			}
			var list []verified
			var missing []string
			if args[0] == "-" {
				list, err = a.verifyPipe(ids)
			} else {
				list, missing, err = a.verifyFiles(cmd.Context(), args[0], volume, ids)
			}
			if err != nil {
				return err
			}
			return a.saidOf(list, missing)
		}}
	c.Flags().StringVar(&volume, "volume", "", "only this `volume`")
	c.Flags().StringVar(&identity, "identity", "", "`file` with the identity that opens sealed backups")
	return c
}

// saidOf prints what was found of backups.
func (a *app) saidOf(list []verified, missing []string) error {
	bad := len(missing)
	for _, v := range list {
		if !v.good() {
			bad++
		}
	}
	if err := printAll(a, list, verifiedColumns(), func(v verified) string { return v.File }); err != nil {
		return err
	}
	for _, v := range list {
		if v.Error != "" {
			fmt.Fprintln(a.Stderr, plain(v.File+": "+v.Error))
		}
		for _, d := range v.Damage {
			text := fmt.Sprintf("%s: %s.", v.File, d.What)
			if v.Header.Volume != nil {
				text += fmt.Sprintf(" What it holds of bytes %d to %d of volume %s may be lost.", d.From, d.To, v.Header.Volume.Name)
			}
			fmt.Fprintln(a.Stderr, plain(text))
		}
	}
	for _, m := range missing {
		fmt.Fprintln(a.Stderr, plain(m))
	}
	if bad > 0 {
		a.exit = 1
	}
	if a.forPeople() {
		fmt.Fprintf(a.Stdout, "Total: %d, of these good: %d.\n", len(list), len(list)-min(bad-len(missing), len(list)))
	}
	return nil
}

// verifyFiles verifies a directory, or a file with its chain.
func (a *app) verifyFiles(ctx context.Context, path, volume string, ids []age.Identity) (list []verified, missing []string, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, holdfast.Errorf(holdfast.NotFound, "backup: %w", err)
	}
	dir := path
	if !st.IsDir() {
		dir = filepath.Dir(path)
	}
	files, err := backup.List(dir)
	if err != nil {
		return nil, nil, err
	}
	which := files[:0:0]
	for _, f := range files {
		if f.Part || volume != "" && (f.Header.Volume == nil || f.Header.Volume.Name != volume && f.Header.Volume.ID != volume) {
			continue
		}
		if f.Err == nil && f.Header.Volume != nil {
			if _, err := backup.Chain(files, f); err != nil && st.IsDir() {
				missing = append(missing, err.Error())
			}
		}
		which = append(which, f)
	}
	if !st.IsDir() {
		which, missing = withBases(files, backup.Look(path), volume)
	}
	if len(which) == 0 {
		return nil, nil, holdfast.Errorf(holdfast.NotFound, "there is no backup in %s", path)
	}
	total := int64(0)
	for _, f := range which {
		total += f.Length
	}
	b := a.progress("verifying", total)
	done := int64(0)
	for _, f := range which {
		if err := ctx.Err(); err != nil {
			b.done(err)
			return nil, nil, err
		}
		list = append(list, verifyFile(ctx, f, ids, func(n int64) { b.at(done + n) }))
		done += f.Length
	}
	b.done(nil)
	return list, missing, nil
}

// withBases are the backups of one file, and what they go over of those beside it.
func withBases(beside, list []backup.File, volume string) (which []backup.File, missing []string) {
	for _, f := range list {
		if volume != "" && (f.Header.Volume == nil || f.Header.Volume.Name != volume && f.Header.Volume.ID != volume) {
			continue
		}
		chain := []backup.File{f}
		if f.Err == nil && f.Header.Volume != nil {
			c, err := backup.Chain(beside, f)
			if err != nil {
				missing = append(missing, err.Error())
			} else {
				chain = c
			}
		}
		which = append(which, chain...)
	}
	return which, missing
}

func verifyFile(ctx context.Context, f backup.File, ids []age.Identity, progress func(int64)) verified {
	out := verified{File: f.Path}
	if f.Header.Bundle != nil && f.Header.Bundle.Of > 1 {
		out.File += " (" + f.Header.Volume.Name + ")"
	}
	in, err := os.Open(f.Path)
	if err == nil {
		defer in.Close()
		_, err = in.Seek(f.Offset, io.SeekStart)
	}
	if err == nil {
		var r *backup.Reader
		if r, err = backup.NewReader(untilDone{ctx, in}, ids); err == nil {
			out.Verdict, err = backup.Verify(r, progress)
		}
		if b := f.Header.Bundle; err == nil && out.Whole && (b == nil || b.N == b.Of) {
			if _, after := r.After().Peek(1); after == nil {
				out.Whole = false
				out.Damage = append(out.Damage, backup.Damage{Offset: r.Offset(), What: fmt.Sprintf("the backup ends at byte %d, and the file goes on", r.Offset())})
			}
		}
	}
	if err != nil {
		out.Error = err.Error()
		if errors.Is(err, io.EOF) {
			out.Error = "it is empty"
		}
	}
	return out
}

// untilDone reads until a context ends.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(b)
}

// verifyPipe verifies backups that come one behind the other.
func (a *app) verifyPipe(ids []age.Identity) (list []verified, err error) {
	b := a.progress("verifying", -1)
	defer func() { b.done(err) }()
	in := bufio.NewReader(b.reader(a.Stdin))
	r, err := backup.NewReader(in, ids)
	if err == io.EOF {
		return nil, holdfast.Errorf(holdfast.Invalid, "nothing came from standard input")
	}
	for n := 1; err == nil; n++ {
		v := verified{File: fmt.Sprintf("standard input, backup %d", n)}
		if v.Verdict, err = backup.Verify(r, nil); err != nil {
			return list, err
		}
		if list = append(list, v); !v.Whole {
			return list, nil
		}
		r, err = backup.NewReader(r.After(), ids)
	}
	if err == io.EOF {
		err = nil
	}
	return list, err
}

func (a *app) backupPruneCmd() *cobra.Command {
	var p run.Pruning
	var keep string
	c := &cobra.Command{Use: "prune DIR --keep WHAT", Short: "Remove backups that are not to be kept", Args: args("DIR"),
		Long: "Remove backups from a directory, and the snapshots that were made for them. WHAT is kept of each volume is, separated by commas:\n\n" +
			"  last=N     the newest N\n  daily=N    the last one of each of N days that have one; likewise weekly=N and monthly=N\n  within=T   all that are at most T older than the newest, like within=72h or within=7d\n\n" +
			"The newest is always kept, and so is whatever one that is kept goes over: pruning never breaks a chain. Clocks that jumped while\n" +
			"backups were made have nothing removed sooner: more than a day, and twice what is usual, between two of them counts as what is usual.",
		Example: "  holdfast backup prune /mnt/backups --keep last=7,daily=14,weekly=8 --plan\n  holdfast backup prune /mnt/backups --keep last=7,daily=14,weekly=8,monthly=12\n  holdfast backup prune /mnt/backups --volume data --keep within=30d",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) (err error) {
			if p.Keep, err = backup.ParseKeep(keep); err != nil {
				return err
			}
			if p.Keep.IsZero() {
				return usageError{errors.New("--keep is missing: say what is to be kept, like --keep last=7,daily=14,weekly=8")}
			}
			p.Dir, p.Client = args[0], c
			p.Note = func(text string) { fmt.Fprintln(a.Stderr, plain(text)) }
			gone, err := p.Run(ctx)
			if err != nil {
				return err
			}
			if err := printAll(a, listedBackups(gone), backupColumns(), func(b listedBackup) string { return b.File }); err != nil || !a.forPeople() {
				return err
			}
			verb := "removed"
			if p.Plan {
				verb = "would be removed"
			}
			_, err = fmt.Fprintf(a.Stdout, "Total: %d %s.\n", len(gone), verb)
			return err
		})}
	c.Flags().StringVar(&keep, "keep", "", "`what` is kept")
	c.Flags().StringVar(&p.Volume, "volume", "", "only of this `volume`")
	c.Flags().BoolVar(&p.Plan, "plan", false, "only say what would be removed")
	return c
}
