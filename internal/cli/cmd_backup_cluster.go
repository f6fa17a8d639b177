package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
)

// clusterBackup is what 'cluster backup show' says of a file.
type clusterBackup struct {
	File     string         `json:"file"`
	Cluster  string         `json:"cluster"`
	ID       string         `json:"cluster_id"`
	Taken    time.Time      `json:"taken"`
	Revision int64          `json:"revision"`
	Sealed   bool           `json:"sealed"`
	Records  int            `json:"records"`
	Kinds    map[string]int `json:"kinds"`
	Sum      string         `json:"sum"`
}

func clusterBackupColumns() []column[clusterBackup] {
	return []column[clusterBackup]{
		{"FILE", false, func(b clusterBackup) any { return b.File }},
		{"CLUSTER", false, func(b clusterBackup) any { return b.Cluster }},
		{"TAKEN", false, func(b clusterBackup) any { return b.Taken }},
		{"REVISION", false, func(b clusterBackup) any { return fmt.Sprint(b.Revision) }},
		{"RECORDS", false, func(b clusterBackup) any { return b.Records }},
		{"SEALED", false, func(b clusterBackup) any { return b.Sealed }},
		{"KINDS", true, func(b clusterBackup) any { return kindsOf(b.Kinds) }},
		{"SHA256", true, func(b clusterBackup) any { return b.Sum }},
		{"ID", true, func(b clusterBackup) any { return b.ID }},
	}
}

func kindsOf(kinds map[string]int) string {
	var out []string
	for _, k := range []string{"cluster", "authority", "keyring", "host", "disk", "pool", "volume", "vm", "export", "incident"} {
		if n := kinds[k]; n > 0 {
			out = append(out, fmt.Sprintf("%s %d", k, n))
		}
	}
	return strings.Join(out, ", ")
}

func (a *app) clusterBackupCmd() *cobra.Command {
	var recipients []string
	var plaintext, force bool
	c := &cobra.Command{Use: "backup TO", Short: "Back the control plane's records up, to a file or pipe", Args: args("TO"),
		Long: "Write all records of the control plane, of one revision, to a file or standard output (-): hosts, disks, volumes, VMs, exports, keys\n" +
			"as they are wrapped. With them go the cluster's certificate authority and the secrets of initiators, with which a stranger would\n" +
			"be an administrator: so it is sealed with --recipient, unless --plaintext is said. It holds no data of volumes.",
		Example: "  holdfast cluster backup records.hfb --recipient age1…\n  holdfast cluster backup - --recipient age1… | ssh other 'cat > records.hfb'\n  holdfast cluster backup records.hfb --plaintext",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			to, err := backup.Recipients(recipients)
			if err != nil {
				return err
			}
			if len(to) == 0 && !plaintext {
				return holdfast.Errorf(holdfast.Denied, "the records hold the key of the cluster's certificate authority: seal them with --recipient age1…, or say --plaintext")
			}
			in, err := c.BackupCluster(ctx)
			if err != nil {
				return err
			}
			defer in.Close()
			r, err := backup.NewReader(in, nil)
			if err != nil {
				return err
			}
			write := func(out io.Writer) error {
				w, err := backup.NewWriter(out, r.Header(), to)
				for err == nil {
					var p backup.Part
					if p, err = r.Next(); err == nil {
						err = w.Put(p)
					}
				}
				if err == io.EOF {
					err = w.Close()
				}
				return err
			}
			if args[0] == "-" {
				return write(a.Stdout)
			}
			if err := backupFile(args[0], force, write); err != nil {
				return err
			}
			return a.done("backup", args[0], fmt.Sprintf("%d records of cluster %s are in %s.", r.Totals().Records, r.Header().Cluster.Name, args[0]))
		})}
	c.Flags().StringArrayVar(&recipients, "recipient", nil, "seal it to this `public key` (age1…); may be given several times")
	c.Flags().BoolVar(&plaintext, "plaintext", false, "do not seal it")
	c.Flags().BoolVar(&force, "force", false, "replace the file TO if it is there")
	c.MarkFlagsMutuallyExclusive("recipient", "plaintext")
	c.AddCommand(a.clusterBackupShowCmd())
	return c
}

// backupFile writes a file under another name until it is whole.
func backupFile(path string, force bool, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+backup.PartSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "%s cannot be made: %w", path, err)
	}
	b := bufio.NewWriter(f)
	if err = write(b); err == nil {
		err = b.Flush()
	}
	if err != nil {
		f.Close()
	} else {
		err = backup.Place(f, path, force)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (a *app) clusterBackupShowCmd() *cobra.Command {
	var identity string
	var records bool
	c := &cobra.Command{Use: "show FILE", Short: "Verify a backup of the records, and say what is in it", Args: args("FILE"),
		Long: "Read a backup of the control plane's records to its end, compare every hash, and say what is in it. --records prints them, with their\n" +
			"secrets, one JSON object a line: {\"key\": …, \"value\": …}.",
		Example: "  holdfast cluster backup show records.hfb --identity key.txt\n  holdfast cluster backup show records.hfb --identity key.txt --records | grep volume/",
		RunE: func(_ *cobra.Command, args []string) error {
			ids, err := backup.Identities(identity)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return holdfast.Errorf(holdfast.NotFound, "backup: %w", err)
			}
			defer f.Close()
			r, err := backup.NewReader(f, ids)
			if errors.Is(err, io.EOF) {
				err = holdfast.Errorf(holdfast.Invalid, "%s is empty", args[0])
			}
			if err != nil {
				return err
			}
			h := r.Header()
			if h.Kind != backup.Cluster {
				return holdfast.Errorf(holdfast.Invalid, "%s is a backup of a volume: see 'holdfast backup list' and 'holdfast backup verify'", args[0])
			}
			out := clusterBackup{File: args[0], Cluster: h.Cluster.Name, ID: h.Cluster.ID, Taken: h.Created, Revision: h.Revision, Sealed: h.Sealed, Kinds: map[string]int{}}
			if err := a.readRecords(r, &out, records); err != nil {
				return err
			}
			if records {
				return nil
			}
			return printOne(a, out, clusterBackupColumns(), func(b clusterBackup) string { return b.File })
		}}
	c.Flags().StringVar(&identity, "identity", "", "`file` with the identity that opens a sealed backup")
	c.Flags().BoolVar(&records, "records", false, "print the records")
	return c
}

// readRecords counts the records of a backup, and prints them if wanted.
func (a *app) readRecords(r *backup.Reader, out *clusterBackup, show bool) error {
	w := bufio.NewWriter(a.Stdout)
	for {
		p, err := r.Next()
		if err == io.EOF {
			out.Sum = fmt.Sprintf("%x", r.Sum())
			return w.Flush()
		}
		var list []backup.Record
		if err == nil {
			list, err = p.Records()
		}
		if err != nil {
			return err
		}
		for _, rec := range list {
			out.Records++
			out.Kinds[recordKind(rec.Key)]++
			if !show {
				continue
			}
			line := struct {
				Key   string          `json:"key"`
				Value json.RawMessage `json:"value"`
			}{rec.Key, rec.Value}
			if !json.Valid(rec.Value) {
				line.Value, _ = json.Marshal(string(rec.Value)) // a string always can be
			}
			b, err := json.Marshal(line)
			if err != nil {
				return err
			}
			if _, err := w.Write(append(b, '\n')); err != nil {
				return err
			}
		}
	}
}

// recordKind is the kind of a record by its key: "holdfast/2/volume/ID" is of a
// volume. Pages of snapshots and the index of names are not counted as such.
func recordKind(key string) string {
	words := strings.Split(key, "/")
	switch {
	case len(words) < 3:
		return "other"
	case len(words) > 4 && words[2] == "volume":
		return "snapshots"
	}
	return words[2]
}
