package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func volumeColumns() []column[v1.Volume] {
	return []column[v1.Volume]{
		{"NAME", false, func(v v1.Volume) any { return v.Name }},
		{"SIZE", false, func(v v1.Volume) any { return size(v.Size) }},
		{"STATE", false, func(v v1.Volume) any { return v.State }},
		{"POOL", false, func(v v1.Volume) any { return v.Pool }},
		{"COPIES", false, func(v v1.Volume) any { return fmt.Sprintf("%d/%d", inSync(v), v.Copies) }},
		{"WRITER", false, func(v v1.Volume) any { return v.Writer }},
		{"VM", false, func(v v1.Volume) any { return v.VM }},
		{"ORIGIN", true, func(v v1.Volume) any { return v.Origin }},
		{"SNAPSHOTS", true, func(v v1.Volume) any { return snapshots(v) }},
		{"REPLICAS", true, func(v v1.Volume) any { return replicas(v) }},
		{"REBUILD", true, func(v v1.Volume) any { return rebuilds(v) }},
		{"PROVED", true, func(v v1.Volume) any { return proved(v) }},
		{"SCRUB", true, func(v v1.Volume) any { return scrubs(v) }},
		{"COMPARED", true, func(v v1.Volume) any { return comparison(v) }},
		{"FORCED", true, func(v v1.Volume) any { return forced(v) }},
		{"BAD", true, func(v v1.Volume) any { return badBlocks(v) }},
		{"FLUSH", true, func(v v1.Volume) any { return v.Flush }},
		{"LIMITS", true, func(v v1.Volume) any { return limits(v) }},
		{"READS", true, func(v v1.Volume) any { return unusualReads(v) }},
		{"SHARED", true, func(v v1.Volume) any { return shared(v) }},
		{"DELAYED", true, func(v v1.Volume) any { return delayed(v) }},
		{"WEIGHT", true, func(v v1.Volume) any { return v.Weight }},
		{"COMPRESS", true, func(v v1.Volume) any { return v.Compress }},
		{"ENCRYPTED", true, func(v v1.Volume) any { return v.Encrypted }},
		{"EPOCH", true, func(v v1.Volume) any { return int(v.Epoch) }},
		{"CREATED", true, func(v v1.Volume) any { return v.Created }},
		{"ID", true, func(v v1.Volume) any { return v.ID }},
	}
}

func inSync(v v1.Volume) int {
	n := 0
	for _, r := range v.Replicas {
		if r.InSync && r.Alive {
			n++
		}
	}
	return n
}

// shared says that several may write a volume, which few are made for.
func shared(v v1.Volume) any {
	if !v.Shared {
		return ""
	}
	return true
}

// snapshots prints how many there are; 'volume snapshot list' names them.
func snapshots(v v1.Volume) any {
	if v.Snapshots == 0 {
		return ""
	}
	return v.Snapshots
}

// replicas prints where the copies are; what cannot vouch is in brackets.
func replicas(v v1.Volume) string {
	var out []string
	for _, r := range v.Replicas {
		if r.InSync && r.Alive {
			out = append(out, r.Host)
		} else {
			out = append(out, "("+r.Host+")")
		}
	}
	return strings.Join(out, ",")
}

func volumeName(v v1.Volume) string { return v.Name }

func (a *app) volumeCmd() *cobra.Command {
	volumes := resource[v1.Volume]{noun: "volume", many: "the volumes", cols: volumeColumns(), name: volumeName,
		all: a.volumesProved, one: (*client.Client).Volume}
	var plan, erase bool
	del := &cobra.Command{Use: "delete VOLUME", Short: "Delete a volume and its snapshots", Args: args("VOLUME"),
		Long: "Delete a volume and its snapshots. Of an encrypted volume the key is erased with that: its copies, also on hosts that are away, cannot be read any more.\n" +
			"--erase refuses the deletion if that would not be so. Backups of the control plane, and old records on its disks until they are overwritten, still hold\n" +
			"the key wrapped under the cluster key: to be rid of these too, rotate the cluster key afterwards and destroy the old one.",
		Example: "  holdfast volume delete scratch --plan\n  holdfast volume delete scratch\n  holdfast volume delete secret --erase",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if plan {
				return a.planDelete(ctx, c.Volume, args[0])
			}
			if erase {
				if err := c.EraseVolume(ctx, args[0]); err != nil {
					return err
				}
				return a.done("volume", args[0], "Volume "+args[0]+" is deleted and its key erased: no copy of it can be read any more.")
			}
			if err := c.DeleteVolume(ctx, args[0]); err != nil {
				return err
			}
			return a.done("volume", args[0], "Volume "+args[0]+" is deleted; its space comes back in the background.")
		})}
	del.Flags().BoolVar(&plan, "plan", false, "only say what would be lost")
	del.Flags().BoolVar(&erase, "erase", false, "only if erasing its key makes every copy unreadable")
	return noun("volume", "Virtual disks", listCmd(a, volumes), showCmd(a, volumes, "data"), a.volumeCreateCmd("create NAME"), a.volumeCloneCmd(), del,
		a.volumeGrowCmd(), a.volumeSetCmd(), a.volumeMoveCmd(), a.snapshotCmd(), a.unsnapshotCmd(), a.revertCmd(), a.diffCmd(), a.volumeExportCmd(), a.volumeBackupCmd(), a.volumeRestoreCmd(), a.volumeScrubCmd(), a.volumeVerifyCmd(), a.faultsCmd(), a.volumeForceOpenCmd())
}

func (a *app) planDelete(ctx context.Context, get func(context.Context, string) (v1.Volume, error), name string) error {
	v, err := get(ctx, name)
	if err != nil {
		return err
	}
	return a.planned(lossOf(v)...)
}

// lossOf says what would be lost with a volume.
func lossOf(v v1.Volume) []string {
	lines := []string{fmt.Sprintf("%s, %s (replicas: %d, snapshots: %d), would be lost.", v.Name, formatSize(v.Size), len(v.Replicas), v.Snapshots)}
	if v.VM != "" {
		lines = append(lines, fmt.Sprintf("It is the disk of VM %s, so this would be refused.", v.VM))
	}
	return lines
}

func (a *app) volumeCreateCmd(use string) *cobra.Command {
	var s v1.VolumeSpec
	c := &cobra.Command{Use: use, Short: "Make an empty volume", Args: args("NAME"),
		Example: "  holdfast volume create data --size 100GiB\n  holdfast volume create ledger --size 4GiB --copies 3 --min 2 --durability always\n  holdfast volume create scratch --size 1GiB --pool fast\n" +
			"  holdfast volume create secret --size 10GiB --encrypt --compress auto\n  holdfast volume create noisy --size 20GiB --iops 500 --mbps 20 --burst 2s\n  holdfast volume create orders --size 20GiB --weight 400",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			s.Name = args[0]
			return a.createVolume(ctx, c, s)
		})}
	c.Flags().Var((*sizeFlag)(&s.Size), "size", "size, for example 10GiB")
	c.Flags().StringVar(&s.Pool, "pool", "", "`pool` whose disks hold it; none: default")
	c.Flags().BoolVar(&s.Encrypt, "encrypt", false, "seal its blocks before they leave the host that writes them; needs 'holdfast cluster key init'")
	a.copiesFlags(c, &s)
	return c
}

// unusualReads says what reads are served under unless that is what is usual.
func unusualReads(v v1.Volume) string {
	if v.Reads == "leased" {
		return ""
	}
	return v.Reads
}

func (a *app) copiesFlags(c *cobra.Command, s *v1.VolumeSpec) {
	c.Flags().IntVar(&s.Copies, "copies", 0, "copies in distinct racks (default: the pool's, or 2 as far as there are racks)")
	c.Flags().IntVar(&s.Min, "min", 0, "fewest in-sync copies that may take writes (default 1)")
	c.Flags().StringVar(&s.Compress, "compress", "", "off (default), fast or auto: compress its blocks; auto leaves alone what looks random")
	c.Flags().StringVar(&s.Durability, "durability", "", "flush (default) or always: when a write is acknowledged")
	c.Flags().StringVar(&s.Reads, "reads", "", "leased (default) or confirmed: whether a read asks every copy first, so that no clock need be trusted")
	limitFlags(c, &s.IOPS, &s.MBps, &s.BurstMS)
	weightFlag(c, &s.Weight)
}

func (a *app) createVolume(ctx context.Context, c *client.Client, s v1.VolumeSpec) error {
	v, err := c.CreateVolume(ctx, s)
	return printed(a, v, err, volumeColumns(), volumeName)
}

func (a *app) volumeCloneCmd() *cobra.Command {
	var s v1.VolumeSpec
	c := &cobra.Command{Use: "clone FROM[@SNAPSHOT] NAME", Short: "Make a linked clone of an image, a volume or a snapshot", Args: args("FROM", "NAME"),
		Example: "  holdfast volume clone debian scratch\n  holdfast volume clone data@monday data-check",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			s.From, s.Snapshot, _ = strings.Cut(args[0], "@")
			s.Name = args[1]
			return a.createVolume(ctx, c, s)
		})}
	c.Flags().Var((*sizeFlag)(&s.Size), "size", "make it larger than what it is cloned from")
	c.Flags().StringVar(&s.Pool, "pool", "", "`pool` that it has to be in, which is that of what it is cloned from")
	a.copiesFlags(c, &s)
	return c
}

func (a *app) revertCmd() *cobra.Command {
	var plan bool
	c := &cobra.Command{Use: "revert VOLUME SNAPSHOT", Short: "Set a volume back; what was written since is lost", Args: args("VOLUME", "SNAPSHOT"),
		Example: "  holdfast volume revert data monday --plan\n  holdfast volume revert data monday",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if !plan {
				if err := c.Revert(ctx, args[0], v1.RevertSpec{Snapshot: args[1]}); err != nil {
					return err
				}
				return a.done("volume", args[0], "Volume "+args[0]+" is as it was at snapshot "+args[1]+".")
			}
			s, err := c.SnapshotOf(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return a.planned(fmt.Sprintf("Volume %s would be as it was at %s; everything written since would be lost. 'holdfast volume diff %[1]s %[3]s head' says where.", args[0], people(s.Created), s.Name))
		})}
	c.Flags().BoolVar(&plan, "plan", false, "only say what would be lost")
	return c
}
