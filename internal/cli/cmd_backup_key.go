package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

func (a *app) backupKeyCmd() *cobra.Command {
	return &cobra.Command{Use: "keygen FILE", Short: "Make an identity, which opens what is sealed to its public key", Args: args("FILE"),
		Long: "Write a new identity to a file, as age-keygen does, and print its public key, for --recipient. Keep the file apart from the backups and\n" +
			"from the cluster: whoever has it reads what is sealed to it, and nobody else does.",
		Example: "  holdfast backup keygen key.txt\n  holdfast volume backup data /mnt/backups/ --recipient \"$(holdfast backup keygen key.txt -o name)\"",
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := age.GenerateX25519Identity()
			if err != nil {
				return holdfast.Errorf(holdfast.IO, "an identity cannot be made: %w", err)
			}
			public := id.Recipient().String()
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return holdfast.Errorf(holdfast.Exists, "%s is there already, and an identity is not replaced: choose another name", args[0])
			}
			if err == nil {
				_, err = fmt.Fprintf(f, "# created: %s\n# public key: %s\n%s\n", time.Now().Format(time.RFC3339), public, id)
				err = errors.Join(err, f.Sync(), f.Close())
			}
			if err != nil {
				return holdfast.Errorf(holdfast.IO, "%s cannot be written: %w", args[0], err)
			}
			return a.done("public key", public, "The identity is in "+args[0]+"; its public key is "+public)
		}}
}
