package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func vmDiskColumns() []column[v1.VMDisk] {
	return []column[v1.VMDisk]{
		{"VOLUME", false, func(d v1.VMDisk) any { return d.Volume }},
		{"SIZE", false, func(d v1.VMDisk) any { return size(d.Size) }},
		{"USE", false, func(d v1.VMDisk) any { return diskUse(d) }},
		{"STATE", false, func(d v1.VMDisk) any { return d.State }},
		{"IN A LINUX GUEST", false, func(d v1.VMDisk) any { return d.Path }},
		{"SLOT", true, func(d v1.VMDisk) any { return d.Slot }},
	}
}

func diskUse(d v1.VMDisk) string {
	if d.Slot == 0 {
		return "boot"
	}
	return "data"
}

// newDisk names the disk that a VM was given: it may have any slot that was free.
func newDisk(before, after v1.VM) string {
	for _, d := range after.Disks {
		if !slices.ContainsFunc(before.Disks, func(o v1.VMDisk) bool { return o.Volume == d.Volume }) {
			return d.Volume
		}
	}
	return ""
}

// vmDiskCmd is what can be done with the disks of a VM.
func (a *app) vmDiskCmd() *cobra.Command {
	list := &cobra.Command{Use: "list VM", Short: "List the disks of a VM, the boot disk first", Args: args("VM"),
		Example: "  holdfast vm disk list db1\n  holdfast vm disk list db1 -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.VM(ctx, args[0])
			if err != nil {
				return err
			}
			return printAll(a, v.Disks, vmDiskColumns(), func(d v1.VMDisk) string { return d.Volume })
		})}
	remove := &cobra.Command{Use: "remove VM VOLUME", Short: "Take a disk away from a VM; its volume stays", Args: args("VM", "VOLUME"),
		Long: `Take a disk away from a VM. Its volume stays, with all that is in it. While the VM
runs, its guest is asked to let the disk go, and has it until it does, or until
the VM is reset or stopped: unmount it in the guest first.`,
		Example: "  holdfast vm disk remove db1 db1-2",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.RemoveVMDisk(ctx, args[0], args[1])
			return a.disksChanged(v, err, "Disk "+args[1]+" is taken away from VM "+v.Name+". Its volume stays.")
		})}
	return noun("disk", "Disks of a VM", list, a.vmDiskAddCmd(), remove, a.vmDiskResizeCmd())
}

// disksChanged tells what became of a change, and what of it is still to come.
func (a *app) disksChanged(v v1.VM, err error, done string) error {
	if err != nil {
		return err
	}
	if !a.forPeople() {
		return printOne(a, v, vmColumns(), vmName)
	}
	lines := []string{done}
	for _, p := range v.Pending {
		lines = append(lines, "Pending: "+p+".")
	}
	return a.planned(lines...)
}

func (a *app) vmDiskAddCmd() *cobra.Command {
	var s v1.VMDiskSpec
	var bytes sizeFlag
	c := &cobra.Command{Use: "add VM", Short: "Give a VM another disk, while it runs", Args: args("VM"),
		Long: `Give a VM another disk: a new one with --size, or a volume that there is with
--volume. A machine that runs gets it at once; if that cannot be, it has it when it
is started the next time, and 'holdfast vm show' says that it is pending. A guest
finds it by a name that does not change: 'holdfast vm disk list VM' tells it.`,
		Example: "  holdfast vm disk add db1 --size 100GiB\n  holdfast vm disk add db1 --size 20GiB --name db1-log --pool fast\n  holdfast vm disk add db1 --volume archive",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			s.Size = int64(bytes)
			if (s.Volume == "") == (s.Size == 0) {
				return usageError{fmt.Errorf("say the --size of a new disk, or the --volume that is to be it")}
			}
			before, err := c.VM(ctx, args[0])
			if err != nil {
				return err
			}
			v, err := c.AddVMDisk(ctx, before.ID, s)
			return a.disksChanged(v, err, "VM "+v.Name+" has disk "+newDisk(before, v)+".")
		})}
	fl := c.Flags()
	fl.Var(&bytes, "size", "make a new disk of this size")
	fl.StringVar(&s.Volume, "volume", "", "a `volume` that belongs to no VM")
	fl.StringVar(&s.Name, "name", "", "`name` of the new disk; else the VM's and a number")
	fl.StringVar(&s.Pool, "pool", "", "`pool` that the new disk is made in")
	fl.IntVar(&s.Copies, "copies", 0, "copies of the new disk; 0: as the pool says")
	fl.BoolVar(&s.Encrypt, "encrypt", false, "seal what is written to the new disk under a key of its own")
	return c
}

func (a *app) vmDiskResizeCmd() *cobra.Command {
	var bytes sizeFlag
	c := &cobra.Command{Use: "resize VM VOLUME", Short: "Make a disk of a VM larger, while it runs", Args: args("VM", "VOLUME"),
		Long: `Make a disk of a VM larger. Its guest sees the new size at once; the file system in
it is the guest's to grow. A disk is never made smaller: what stands at its end
would be lost.`,
		Example: "  holdfast vm disk resize db1 db1 --size 40GiB\n  holdfast vm disk resize db1 db1-2 --size 200GiB -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if bytes == 0 {
				return holdfast.Errorf(holdfast.Invalid, "--size is missing: say how large disk %s is to be", plain(args[1]))
			}
			v, err := c.ResizeVMDisk(ctx, args[0], args[1], v1.GrowSpec{Size: int64(bytes)})
			return a.disksChanged(v, err, "Disk "+args[1]+" of VM "+v.Name+" has "+formatSize(int64(bytes))+".")
		})}
	c.Flags().Var(&bytes, "size", "its new size")
	return c
}
