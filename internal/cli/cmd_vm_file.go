package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func (a *app) vmExportCmd() *cobra.Command {
	return &cobra.Command{Use: "export VM", Short: "Print a VM's definition, which 'vm create -f' reads", Args: args("VM"),
		Long: `Print a VM's definition, as YAML or with -o json. Its disks are named, not copied:
a VM that is made from it has these volumes, once the first does not. To copy a
disk, see 'holdfast image export' and 'holdfast volume backup'.`,
		Example: "  holdfast vm export db1 > db1.yaml\n  holdfast vm delete db1 --keep-disk && holdfast vm create -f db1.yaml\n  holdfast vm export db1 -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.VM(ctx, args[0])
			if err != nil {
				return err
			}
			if !a.structured() {
				a.format = "yaml"
			}
			return a.encode(vmFileOf(v))
		})}
}

// createFrom makes a VM of a file. It is started when it has all its disks; if
// one cannot be had nothing is left of it but the volumes that there were.
func (a *app) createFrom(ctx context.Context, c *client.Client, file string, noWait bool) error {
	f, err := readVMFile(file, a.Stdin)
	if err != nil {
		return err
	}
	spec := f.VMSpec
	spec.Off = f.Off || len(f.Disks) > 0
	v, err := c.CreateVM(ctx, spec)
	if err != nil {
		return err
	}
	made := madeFor(v, f) // volumes that there were not
	for _, d := range f.Disks {
		with, err := c.AddVMDisk(ctx, v.ID, d)
		if err != nil {
			if left := undone(context.WithoutCancel(ctx), c, v.ID, made); left != nil {
				return holdfast.Errorf(holdfast.KindOf(err), "VM %s is not made whole: its disk %s%s: %w; what is there of it is left: %w", v.Name, d.Volume, d.Name, err, left)
			}
			return holdfast.Errorf(holdfast.KindOf(err), "VM %s is not made: its disk %s%s: %w", v.Name, d.Volume, d.Name, err)
		}
		if d.Volume == "" {
			made = append(made, newDisk(v, with))
		}
		v = with
	}
	if spec.Off && !f.Off {
		v, err = c.StartVM(ctx, v.ID)
	}
	return a.settled(ctx, c, v, err, "running", noWait || f.Off)
}

// madeFor are the volumes that were made for a VM of a file.
func madeFor(v v1.VM, f v1.VMFile) (made []string) {
	if f.Volume == "" {
		made = append(made, v.Volume)
	}
	if f.Vars == "" && v.Vars != "" {
		made = append(made, v.Vars)
	}
	return made
}

// undone deletes a VM that was not made whole, and the volumes that were made
// for it.
func undone(ctx context.Context, c *client.Client, vm string, made []string) error {
	err := c.DeleteVM(ctx, vm, v1.VMRemoval{Force: true, KeepDisk: true})
	for _, volume := range made {
		if err == nil {
			err = c.DeleteVolume(ctx, volume)
		}
	}
	return err
}
