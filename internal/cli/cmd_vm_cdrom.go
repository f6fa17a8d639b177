package cli

import (
	"context"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// vmCDROMCmd is what can be done with the CD-ROM drive of a VM.
func (a *app) vmCDROMCmd() *cobra.Command {
	insert := &cobra.Command{Use: "insert VM IMAGE", Short: "Put an image into a VM's CD-ROM drive, while it runs", Args: args("VM", "IMAGE"),
		Long: `Put an image into a VM's CD-ROM drive. Any image may lie there, an ISO file that
was imported as it is: 'holdfast image import debian.iso'. The guest reads it and
cannot change it; its copies lie in several racks, as those of all images, and the
VM finds it again wherever it goes. What lay there before is taken out.`,
		Example: "  holdfast vm cdrom insert db1 debian-iso\n  holdfast vm cdrom insert db1 drivers -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.ChangeVM(ctx, args[0], v1.VMSet{CDROM: &args[1]})
			return a.disksChanged(v, err, "Image "+args[1]+" is in the CD-ROM drive of VM "+v.Name+".")
		})}
	eject := &cobra.Command{Use: "eject VM", Short: "Take what lies in a VM's CD-ROM drive out of it, while it runs", Args: args("VM"),
		Long: `Take what lies in a VM's CD-ROM drive out of it, also if the guest has locked the
drive: unmount it in the guest first.`,
		Example: "  holdfast vm cdrom eject db1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			none := ""
			v, err := c.ChangeVM(ctx, args[0], v1.VMSet{CDROM: &none})
			return a.disksChanged(v, err, "The CD-ROM drive of VM "+v.Name+" is empty.")
		})}
	return noun("cdrom", "CD-ROM drive of a VM", insert, eject)
}
