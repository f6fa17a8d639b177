package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func vmColumns() []column[v1.VM] {
	return []column[v1.VM]{
		{"NAME", false, func(v v1.VM) any { return v.Name }},
		{"STATE", false, func(v v1.VM) any { return v.State }},
		{"HOST", false, func(v v1.VM) any { return v.Host }},
		{"RACK", false, func(v v1.VM) any { return v.Rack }},
		{"CPUS", false, func(v v1.VM) any { return v.CPUs }},
		{"MEMORY", false, func(v v1.VM) any { return size(int64(v.MemoryMiB) << 20) }},
		{"PUBLISHED", false, func(v v1.VM) any { return published(v.Publish) }},
		{"REASON", false, func(v v1.VM) any { return v.Reason }},
		{"PENDING", true, func(v v1.VM) any { return strings.Join(v.Pending, ", ") }},
		{"DISKS", true, func(v v1.VM) any { return diskNames(v) }},
		{"SNAPSHOTS", true, func(v v1.VM) any { return some(v.Snapshots) }},
		{"CDROM", true, func(v v1.VM) any { return v.CDROM }},
		{"FIRMWARE", true, func(v v1.VM) any { return v.Firmware }},
		{"UEFI VARS", true, func(v v1.VM) any { return v.Vars }},
		{"BOOT", true, func(v v1.VM) any { return strings.Join(v.Boot, ",") }},
		{"PRIORITY", true, func(v v1.VM) any { return v.Priority }},
		{"ISOLATION", true, func(v v1.VM) any { return v.Isolation }},
		{"CAME", true, func(v v1.VM) any { return v.Came }},
		{"CREATED", true, func(v v1.VM) any { return v.Created }},
		{"ID", true, func(v v1.VM) any { return v.ID }},
	}
}

func vmName(v v1.VM) string { return v.Name }

// some is a number, or nothing.
func some(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// diskNames names a VM's disks, the boot disk first.
func diskNames(v v1.VM) string {
	var names []string
	for _, d := range v.Disks {
		names = append(names, d.Volume)
	}
	return strings.Join(names, ",")
}

func published(ps []v1.Publish) string {
	var out []string
	for _, p := range ps {
		text := fmt.Sprintf("%d->%d", p.Port, p.GuestPort)
		if p.Addr != "" {
			text = net.JoinHostPort(p.Addr, text)
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

func vms() resource[v1.VM] {
	return resource[v1.VM]{noun: "vm", many: "the VMs", cols: vmColumns(), name: vmName, all: (*client.Client).VMs, one: (*client.Client).VM}
}

// listCmd is `holdfast list`, the same as `holdfast vm list`.
func (a *app) listCmd() *cobra.Command {
	c := listCmd(a, vms())
	c.Example = "  holdfast list\n  holdfast list -o wide"
	return c
}

func (a *app) vmCmd() *cobra.Command {
	var noWait, force, plan bool
	var removal v1.VMRemoval
	start := &cobra.Command{Use: "start VM", Short: "Start a VM", Args: args("VM"),
		Example: "  holdfast vm start db1\n  holdfast vm start db1 --no-wait",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.StartVM(ctx, args[0])
			return a.settled(ctx, c, v, err, "running", noWait)
		})}
	stop := &cobra.Command{Use: "stop VM", Short: "Press a VM's power button, or end it at once", Args: args("VM"),
		Example: "  holdfast vm stop db1\n  holdfast vm stop db1 --force   # like pulling the plug",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.StopVM(ctx, args[0], v1.StopSpec{Force: force})
			return a.settled(ctx, c, v, err, "off", noWait)
		})}
	stop.Flags().BoolVar(&force, "force", false, "end its process at once; what the guest had not written is lost")
	reset := &cobra.Command{Use: "reset VM", Short: "Press a VM's reset button", Args: args("VM"),
		Example: "  holdfast vm reset db1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.ResetVM(ctx, args[0])
			if err != nil {
				return err
			}
			if a.structured() {
				return a.encode(v)
			}
			return a.done("vm", v.Name, "The reset button of VM "+v.Name+" is pressed.")
		})}
	del := &cobra.Command{Use: "delete VM", Short: "Delete a VM and its boot disk", Args: args("VM"),
		Long: "Delete a VM, the disk that it boots from with its UEFI variables, and the memories that its snapshots kept.\n" +
			"Its other disks stay, as volumes, unless --disks is given.",
		Example: "  holdfast vm delete db1 --plan\n  holdfast vm delete db1\n  holdfast vm delete db1 --disks\n  holdfast vm delete db1 --force --keep-disk",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if plan {
				return a.planDeleteVM(ctx, c, args[0], removal)
			}
			if err := c.DeleteVM(ctx, args[0], removal); err != nil {
				return err
			}
			return a.done("vm", args[0], "VM "+args[0]+" is deleted.")
		})}
	del.Flags().BoolVar(&removal.Force, "force", false, "also if it runs")
	del.Flags().BoolVar(&removal.KeepDisk, "keep-disk", false, "keep its boot disk, and its UEFI variables, as volumes")
	del.Flags().BoolVar(&removal.Disks, "disks", false, "delete its other disks too")
	del.Flags().BoolVar(&plan, "plan", false, "only say what would be lost")
	for _, c := range []*cobra.Command{start, stop} {
		c.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	}
	return noun("vm", "Virtual machines", listCmd(a, vms()), showCmd(a, vms(), "db1"), a.vmCreateCmd(), a.vmExportCmd(), a.vmSetCmd(), a.vmDiskCmd(), a.vmCDROMCmd(), a.vmSnapshotCmd(), a.vmCloneCmd(), start, stop, reset, del, a.consoleCmd())
}

func (a *app) planDeleteVM(ctx context.Context, c *client.Client, name string, r v1.VMRemoval) error {
	v, err := c.VM(ctx, name)
	if err != nil {
		return err
	}
	lines := []string{fmt.Sprintf("VM %s (%s) would be deleted.", v.Name, v.State)}
	for i, disk := range v.Disks {
		if i == 0 && r.KeepDisk || i > 0 && (!r.Disks || disk.State == "leaving") {
			lines = append(lines, fmt.Sprintf("Its disk %s would stay, as a volume.", disk.Volume))
			continue
		}
		d, err := c.Volume(ctx, disk.Volume)
		if err != nil {
			return err
		}
		d.VM = "" // it goes with it
		lines = append(lines, lossOf(d)...)
	}
	switch {
	case v.Vars == "":
	case r.KeepDisk:
		lines = append(lines, fmt.Sprintf("Its UEFI variables would stay, as volume %s.", v.Vars))
	default:
		lines = append(lines, fmt.Sprintf("Its UEFI variables (volume %s) would be lost.", v.Vars))
	}
	return a.planned(lines...)
}

// settled waits until a VM is in the state that was asked for, and prints it.
// Interrupting it changes nothing: the cluster goes on.
func (a *app) settled(ctx context.Context, c *client.Client, v v1.VM, err error, state string, noWait bool) error {
	if err != nil {
		return err
	}
	_, tty := terminal(a.Stderr)
	noWait = noWait || a.dry
	last := ""
	for !noWait && v.State != state {
		if v.State == "failed" {
			return holdfast.Errorf(holdfast.Unavailable, "VM %s did not start: %s", v.Name, plain(v.Reason))
		}
		if tty && v.State != last {
			fmt.Fprintf(a.Stderr, "VM %s is %s… (Ctrl-C leaves it to itself)\n", plain(v.Name), plain(v.State))
			last = v.State
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if v, err = c.VM(ctx, v.ID); err != nil {
			return err
		}
	}
	return printOne(a, v, vmColumns(), vmName)
}

func (a *app) vmCreateCmd() *cobra.Command {
	var s v1.VMSpec
	var memory sizeFlag
	var publish, keyFiles []string
	var userData, file string
	var noWait bool
	c := &cobra.Command{Use: "create NAME | -f FILE", Short: "Make a VM and start it", Args: cobra.ArbitraryArgs,
		Example: `  holdfast vm create db1 --image debian --cpus 2 --memory 2GiB --publish 5432:5432/tcp
  holdfast vm create web --image debian --user-data web.yaml --ssh-key ~/.ssh/id_ed25519.pub
  holdfast vm create tiny --volume scratch --off
  holdfast vm create new --size 20GiB --cdrom debian-iso    # an empty disk, to install on
  holdfast vm create web2 --image debian --firmware uefi
  holdfast vm create -f db1.yaml    # as 'holdfast vm export' wrote it`,
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) (err error) {
			switch {
			case len(args) > 1:
				return usageError{fmt.Errorf("%q is one argument too many; usage: holdfast vm create NAME [flags]", plain(args[1]))}
			case file != "" && len(args) == 0:
				return a.createFrom(ctx, c, file, noWait)
			case file != "":
				return usageError{fmt.Errorf("the file says the VM's name; leave %s out", plain(args[0]))}
			case len(args) == 0:
				return usageError{fmt.Errorf("NAME is missing; usage: holdfast vm create NAME [flags]")}
			}
			s.Name = args[0]
			s.MemoryMiB = mebibytes(memory)
			if s.Publish, err = parsePublish(publish); err != nil {
				return err
			}
			if s.SSHKeys, err = readKeys(keyFiles); err != nil {
				return err
			}
			if s.UserData, err = readUserData(userData); err != nil {
				return err
			}
			v, err := c.CreateVM(ctx, s)
			return a.settled(ctx, c, v, err, "running", noWait || s.Off)
		})}
	f := c.Flags()
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if file != "" && a.dry {
			return usageError{fmt.Errorf("--dry-run tries one call, and a file may ask for several; leave one of them out")}
		}
		cmd.Flags().Visit(func(given *pflag.Flag) {
			if file != "" && cmd.NonInheritedFlags().Lookup(given.Name) != nil && given.Name != "file" && given.Name != "no-wait" {
				err = usageError{fmt.Errorf("--%s is for the file to say", given.Name)}
			}
		})
		return err
	}
	f.StringVarP(&file, "file", "f", "", "make it as this `file` says, '-' for standard input; nothing else may be given but --no-wait")
	f.StringVar(&s.Image, "image", "", "boot from a linked clone of this `image`")
	f.StringVar(&s.Volume, "volume", "", "boot from this `volume`")
	f.Var((*sizeFlag)(&s.Size), "size", "grow the clone to this; without --image and --volume: make an empty disk of this")
	f.IntVar(&s.Copies, "copies", 0, "copies of the disk in distinct racks (default 2, as far as there are racks)")
	f.StringVar(&s.Pool, "pool", "", "`pool` that its disk has to be in, which is that of the image or volume, or where an empty one is made")
	f.IntVar(&s.CPUs, "cpus", 1, "virtual processors")
	f.Var(&memory, "memory", "memory (default 256MiB)")
	f.StringArrayVar(&publish, "publish", nil, "`[ADDR:]PORT:GUESTPORT[/tcp]`: answer on every host for the guest's port")
	f.StringVar(&userData, "user-data", "", "`file` with cloud-init user data")
	f.StringArrayVar(&keyFiles, "ssh-key", nil, "`file` with public ssh keys")
	f.StringVar(&s.Priority, "priority", "", "low, normal (default) or high: the order of restart")
	f.StringVar(&s.Isolation, "isolation", "", "pause (default), off or leave: what a host that is cut off does with it")
	f.StringVar(&s.Kernel, "kernel", "", "direct boot: `image` that holds the kernel")
	f.StringVar(&s.Initrd, "initrd", "", "direct boot: `image` that holds the initrd")
	f.StringVar(&s.Append, "append", "", "direct boot: kernel command `line`")
	f.StringVar(&s.CDROM, "cdrom", "", "`image` that lies in its CD-ROM drive, as of an ISO file")
	f.StringVar(&s.Firmware, "firmware", "", "bios (default) or uefi: what starts it; hosts without UEFI firmware do not run it then")
	f.StringVar(&s.Vars, "vars", "", "`volume` that holds the variables of its UEFI, as another VM left it (default: a new one)")
	f.StringSliceVar(&s.Boot, "boot", nil, "what it is started from, in the `order` in which it is tried (default disk,cdrom)")
	f.BoolVar(&s.Off, "off", false, "do not start it")
	f.BoolVar(&noWait, "no-wait", false, "return at once")
	return c
}

// parsePublish reads [ADDR:]PORT:GUESTPORT[/tcp]; an IPv6 ADDR is in brackets.
func parsePublish(in []string) ([]v1.Publish, error) {
	var out []v1.Publish
	for _, text := range in {
		bad := holdfast.Errorf(holdfast.Invalid, "--publish %q: write [ADDR:]PORT:GUESTPORT/tcp, for example 8080:80/tcp", plain(text))
		rest, proto, ok := strings.Cut(text, "/")
		if ok && proto != "tcp" {
			return nil, holdfast.Errorf(holdfast.Invalid, "--publish %q: only tcp can be published", plain(text))
		}
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			return nil, bad
		}
		var p v1.Publish
		var err error
		if p.GuestPort, err = strconv.Atoi(rest[i+1:]); err != nil {
			return nil, bad
		}
		port := rest[:i]
		if j := strings.LastIndexByte(port, ':'); j >= 0 {
			p.Addr, port = strings.Trim(port[:j], "[]"), port[j+1:]
			if p.Addr == "" {
				return nil, bad
			}
		}
		if p.Port, err = strconv.Atoi(port); err != nil || p.Port < 1 || p.Port > 65535 || p.GuestPort < 1 || p.GuestPort > 65535 {
			return nil, bad
		}
		out = append(out, p)
	}
	return out, nil
}

// readKeys reads public keys, one a line, with comments and empty lines.
func readKeys(files []string) ([]string, error) {
	var keys []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.NotFound, "--ssh-key: %w", err)
		}
		if strings.Contains(string(b), "PRIVATE KEY") {
			return nil, holdfast.Errorf(holdfast.Invalid, "--ssh-key %s: this is a private key; give the public one, its name ends in .pub", name)
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				keys = append(keys, line)
			}
		}
	}
	return keys, nil
}

func readUserData(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", holdfast.Errorf(holdfast.NotFound, "--user-data: %w", err)
	}
	return string(b), nil
}
