package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func vmSnapshotColumns() []column[v1.VMSnapshot] {
	return []column[v1.VMSnapshot]{
		{"NAME", false, func(s v1.VMSnapshot) any { return s.Name }},
		{"CREATED", false, func(s v1.VMSnapshot) any { return s.Created }},
		{"DISKS", false, func(s v1.VMSnapshot) any { return strings.Join(s.Disks, ",") }},
		{"CPUS", false, func(s v1.VMSnapshot) any { return s.CPUs }},
		{"MEMORY", false, func(s v1.VMSnapshot) any { return size(int64(s.MemoryMiB) << 20) }},
		{"KEPT", false, func(s v1.VMSnapshot) any { return keptOf(s) }},
		{"WHOLE", false, func(s v1.VMSnapshot) any { return map[bool]string{true: "yes", false: "no"}[s.Whole] }},
		{"ID", true, func(s v1.VMSnapshot) any { return s.ID }},
	}
}

// keptOf says what a snapshot keeps.
func keptOf(s v1.VMSnapshot) string {
	switch {
	case s.Memory == nil:
		return "disks"
	case s.Memory.Gone:
		return "disks (its memory is gone)"
	}
	return "disks, memory " + formatSize(s.Memory.Bytes)
}

func vmSnapshotName(s v1.VMSnapshot) string { return s.Name }

// vmSnapshotCmd is what can be done with snapshots of a VM.
func (a *app) vmSnapshotCmd() *cobra.Command {
	var spec v1.VMSnapshotSpec
	create := &cobra.Command{Use: "create VM [NAME]", Short: "Keep a VM as it is", Args: cobra.RangeArgs(1, 2),
		Long: `Keep a VM as it is: all its disks at one point, and its configuration. Of a VM that
runs it is what is on its disks, as after a loss of power. Without a name it is called
after the time.

With --memory the memory of a VM that runs is kept too, on a volume of its own, and
reverting gives back the running machine. The guest stands still until that is
written, on all copies: some seconds for a GiB in use, depending on disks and network;
16 GiB are the most. If it cannot be written, the guest goes on and nothing is kept.`,
		Example: "  holdfast vm snapshot create db1 before-upgrade\n  holdfast vm snapshot create db1\n  holdfast vm snapshot create db1 running --memory",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			name := time.Now().UTC().Format("2006-01-02-150405")
			if len(args) == 2 {
				name = args[1]
			}
			spec.Name = name
			var s v1.VMSnapshot
			err := a.standingStill(ctx, c, args[0], spec, func() (err error) {
				s, err = c.SnapshotVM(ctx, args[0], spec)
				return err
			})
			return printed(a, s, err, vmSnapshotColumns(), vmSnapshotName)
		})}
	create.Flags().BoolVar(&spec.Memory, "memory", false, "keep its memory too; the guest stands still until that is written")
	list := &cobra.Command{Use: "list VM", Short: "List the snapshots of a VM, the newest last", Args: args("VM"),
		Example: "  holdfast vm snapshot list db1\n  holdfast vm snapshot list db1 -o json    # with the configuration of each",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			list, err := c.VMSnapshots(ctx, args[0])
			if err != nil {
				return err
			}
			return printAll(a, list, vmSnapshotColumns(), vmSnapshotName)
		})}
	del := &cobra.Command{Use: "delete VM SNAPSHOT", Short: "Let a snapshot of a VM go", Args: args("VM", "SNAPSHOT"),
		Example: "  holdfast vm snapshot delete db1 before-upgrade",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteVMSnapshot(ctx, args[0], args[1]); err != nil {
				return err
			}
			return a.done("snapshot", args[1], "Snapshot "+args[1]+" of VM "+args[0]+" is gone.")
		})}
	return noun("snapshot", "Snapshots of a VM", create, list, a.vmRevertCmd(), del)
}

// standingStill says how far the memory of a VM is while do keeps it, which may
// take a while.
func (a *app) standingStill(ctx context.Context, c *client.Client, vm string, s v1.VMSnapshotSpec, do func() error) error {
	if !s.Memory || !a.forPeople() {
		return do()
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	fmt.Fprintf(a.Stderr, "VM %s stands still until its memory is kept.\n", vm)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for said := ""; ; {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if v, err := c.VM(ctx, vm); err == nil && v.State == "paused" && v.Reason != "" && v.Reason != said {
				said = v.Reason
				fmt.Fprintln(a.Stderr, "  "+said)
			}
		}
	}
}

func (a *app) vmRevertCmd() *cobra.Command {
	var s v1.VMRevertSpec
	var plan bool
	c := &cobra.Command{Use: "revert VM SNAPSHOT", Short: "Set a VM back to a snapshot", Args: args("VM", "SNAPSHOT"),
		Long: `Set a VM back to a snapshot: all its disks, its processors, memory, user data, keys
and kernel. Its name, published ports, restart order and what is done when its host
is cut off stay as they are, and so do disks that it was given since.

The VM must be off, or is ended with --stop. What it is now is kept as a snapshot
first, called before-SNAPSHOT-1, unless --no-safety is given. It is not started
until all disks are set back; what was interrupted is done again.

If its memory was kept it goes on where it was, on any host with the same version of
QEMU and the same accelerator and processor; its connections to others are mostly
gone, and its clock stands where it stood until it is set. With --without-memory only
its disks are set back, as after a loss of power, and it is off.`,
		Example: "  holdfast vm snapshot revert db1 before-upgrade --plan\n  holdfast vm snapshot revert db1 before-upgrade --stop\n  holdfast vm snapshot revert db1 running --stop --without-memory",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if plan {
				return a.planRevert(ctx, c, args[0], args[1], s)
			}
			r, err := c.RevertVM(ctx, args[0], args[1], s)
			if err != nil {
				return err
			}
			if !a.forPeople() {
				if a.structured() {
					return a.encode(r)
				}
				return printOne(a, r.VM, vmColumns(), vmName)
			}
			lines := []string{a.wouldBe("VM " + r.VM.Name + " is set back to snapshot " + args[1] + ".")}
			for _, c := range r.Changed {
				lines = append(lines, "It has "+c+".")
			}
			for _, d := range r.Kept {
				lines = append(lines, "Disk "+d+" is as it was: it was not in the snapshot.")
			}
			if r.Safety != "" {
				lines = append(lines, "What it was before is kept as snapshot "+r.Safety+".")
			}
			if a.dry {
				return a.planned(lines...)
			}
			next := "Start it with: holdfast vm start " + r.VM.Name
			if r.Memory {
				next = "It goes on with the memory that was kept; see 'holdfast vm show " + r.VM.Name + "'."
			}
			return a.planned(append(lines, next)...)
		})}
	c.Flags().BoolVar(&s.Stop, "stop", false, "end its process first; what the guest had not written is lost")
	c.Flags().BoolVar(&s.NoSafety, "no-safety", false, "do not keep what it is now")
	c.Flags().BoolVar(&s.WithoutMemory, "without-memory", false, "only its disks, though its memory was kept; it is off then")
	c.Flags().BoolVar(&plan, "plan", false, "only say what would be done")
	return c
}

func (a *app) planRevert(ctx context.Context, c *client.Client, vm, name string, s v1.VMRevertSpec) error {
	v, err := c.VM(ctx, vm)
	if err != nil {
		return err
	}
	list, err := c.VMSnapshots(ctx, vm)
	if err != nil {
		return err
	}
	for _, of := range list {
		if of.Name != name && of.ID != name {
			continue
		}
		lines := []string{fmt.Sprintf("VM %s (%s) would be what it was at %s: disks %s, %d CPUs, %s of memory.", v.Name, v.State,
			of.Created.UTC().Format("2006-01-02 15:04:05Z"), strings.Join(of.Disks, ", "), of.CPUs, formatSize(int64(of.MemoryMiB)<<20))}
		switch {
		case !of.Whole:
			lines = append(lines, "It cannot be done: a disk is not the VM's any more, or what was kept of it is gone.")
		case v.State != "off" && !s.Stop:
			lines = append(lines, "It cannot be done while the VM runs: stop it, or add --stop.")
		}
		if of.Memory != nil && !s.WithoutMemory {
			lines = append(lines, "It would go on with its memory of then ("+formatSize(of.Memory.Bytes)+"), on a host whose machines are: "+of.Memory.Kind+".")
		}
		if s.NoSafety {
			lines = append(lines, "What it is now would be lost.")
		} else {
			lines = append(lines, "What it is now would be kept as a snapshot first.")
		}
		return a.planned(lines...)
	}
	return holdfast.Errorf(holdfast.NotFound, "VM %s has no snapshot %q: see 'holdfast vm snapshot list %s'", v.Name, name, v.Name)
}

func (a *app) vmCloneCmd() *cobra.Command {
	var s v1.VMCloneSpec
	var noWait bool
	c := &cobra.Command{Use: "clone VM[@SNAPSHOT] NEW", Short: "Make a VM like another one, with linked clones of its disks", Args: args("VM[@SNAPSHOT]", "NEW"),
		Long: `Make a VM like another one. Its disks are linked clones, which take no space until
they are written; it has an identity, a network address and a cloud-init instance
of its own, and publishes no ports. Of a VM that runs it is what is on its disks
at one point, as after a loss of power.`,
		Example: "  holdfast vm clone db1 db1-test\n  holdfast vm clone db1@before-upgrade db1-old --off",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			var vm string
			vm, s.Snapshot, _ = strings.Cut(args[0], "@")
			s.Name = args[1]
			v, err := c.CloneVM(ctx, vm, s)
			return a.settled(ctx, c, v, err, "running", noWait || s.Off)
		})}
	c.Flags().BoolVar(&s.Off, "off", false, "do not start it")
	c.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	return c
}
