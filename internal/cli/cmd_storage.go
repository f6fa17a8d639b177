package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/image"
	"github.com/holdfast-cloud/holdfast/internal/image/qemuimg"
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
		{"BAD", true, func(v v1.Volume) any { return badBlocks(v) }},
		{"FLUSH", true, func(v v1.Volume) any { return v.Flush }},
		{"LIMITS", true, func(v v1.Volume) any { return limits(v) }},
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
		a.volumeGrowCmd(), a.volumeSetCmd(), a.volumeMoveCmd(), a.snapshotCmd(), a.unsnapshotCmd(), a.revertCmd(), a.diffCmd(), a.volumeScrubCmd(), a.volumeVerifyCmd(), a.faultsCmd())
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

func (a *app) copiesFlags(c *cobra.Command, s *v1.VolumeSpec) {
	c.Flags().IntVar(&s.Copies, "copies", 0, "copies in distinct racks (default: the pool's, or 2 as far as there are racks)")
	c.Flags().IntVar(&s.Min, "min", 0, "fewest in-sync copies that may take writes (default 1)")
	c.Flags().StringVar(&s.Compress, "compress", "", "off (default), fast or auto: compress its blocks; auto leaves alone what looks random")
	c.Flags().StringVar(&s.Durability, "durability", "", "flush (default) or always: when a write is acknowledged")
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

func imageColumns() []column[v1.Volume] {
	cols := volumeColumns()
	cols = append(cols[:5:5], cols[9:]...)
	return append(cols, column[v1.Volume]{"IMPORTED", true, func(v v1.Volume) any {
		if v.Import == nil {
			return ""
		}
		return fmt.Sprintf("%.0f %%", *v.Import*100)
	}})
}

func (a *app) imageCmd() *cobra.Command {
	var plan bool
	images := resource[v1.Volume]{noun: "image", many: "the images", cols: imageColumns(), name: volumeName,
		all: (*client.Client).Images, one: (*client.Client).Image}
	del := &cobra.Command{Use: "delete IMAGE", Short: "Delete an image; its clones stay", Args: args("IMAGE"),
		Example: "  holdfast image delete debian --plan\n  holdfast image delete debian",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if plan {
				return a.planDelete(ctx, c.Image, args[0])
			}
			if err := c.DeleteImage(ctx, args[0]); err != nil {
				return err
			}
			return a.done("image", args[0], "Image "+args[0]+" is deleted; what was cloned from it stays.")
		})}
	del.Flags().BoolVar(&plan, "plan", false, "only say what would be lost")
	return noun("image", "Disks to start VMs from", listCmd(a, images), showCmd(a, images, "debian"), a.imageImportCmd(), del)
}

func (a *app) imageImportCmd() *cobra.Command {
	var name, pool string
	var total sizeFlag
	var copies int
	var asIs, encrypt bool
	var compress string
	c := &cobra.Command{Use: "import FILE|-", Short: "Import a disk image, raw or QCOW2 (this one by way of qemu-img)", Args: args("FILE"),
		Example: "  holdfast image import debian-12.raw\n  xz -dc appliance.raw.xz | holdfast image import --name appliance -\n" +
			"  holdfast image import --as-is --name initrd /boot/initrd.img    # for vm create --initrd",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			in, n, err := a.openImage(ctx, args[0], int64(total), asIs)
			if err != nil {
				return err
			}
			defer in.Close()
			if name == "" {
				name = imageName(args[0])
			}
			if err := holdfast.CheckName("image", name); err != nil {
				return fmt.Errorf("%w; give another with --name", err)
			}
			bar := a.progress("importing "+name, n)
			v, err := c.ImportImage(ctx, client.NewImage{Name: name, Size: n, Copies: copies, Pool: pool, AsIs: asIs, Encrypt: encrypt, Compress: compress}, bar.reader(in))
			bar.done(err)
			return printed(a, v, err, imageColumns(), volumeName)
		})}
	c.Flags().StringVar(&name, "name", "", "`name` of the image; default: the file's")
	c.Flags().Var(&total, "size", "size of what comes from standard input, if it is known; less or more is then refused")
	c.Flags().IntVar(&copies, "copies", 0, "copies in distinct racks (default: the pool's, or 2 as far as there are racks)")
	c.Flags().StringVar(&pool, "pool", "", "`pool` whose disks hold it, and all that is cloned from it; none: default")
	c.Flags().BoolVar(&encrypt, "encrypt", false, "seal its blocks, and those of all that is cloned from it")
	c.Flags().StringVar(&compress, "compress", "", "off (default), fast or auto: compress its blocks, and those of its clones unless they say otherwise")
	c.Flags().BoolVar(&asIs, "as-is", false, "keep the bytes as they are, whatever they look like: a kernel or a compressed initrd for direct boot")
	return c
}

// openImage opens what is to be imported and says how long it is (-1: as long
// as it is).
func (a *app) openImage(ctx context.Context, path string, n int64, asIs bool) (io.ReadCloser, int64, error) {
	if path == "-" {
		if n == 0 {
			n = -1
		}
		return io.NopCloser(a.Stdin), n, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, holdfast.Errorf(holdfast.NotFound, "image: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = holdfast.Errorf(holdfast.Invalid, "image: %s is a directory; give the image file in it", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	end, err := f.Seek(0, io.SeekEnd) // right for block devices, too
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return f, -1, nil // a pipe
	}
	if end == 0 {
		f.Close()
		return nil, 0, holdfast.Errorf(holdfast.Invalid, "image: %s is empty; there is nothing to import", path)
	}
	head := make([]byte, image.SniffLen)
	k, _ := f.ReadAt(head, 0) // what cannot be read here fails when it is imported
	if asIs || image.Sniff(head[:k]) != image.QCOW2 {
		return f, end, nil
	}
	f.Close()
	bar := a.progress("converting "+filepath.Base(path), end)
	src, err := qemuimg.Open(ctx, path, qemuimg.Options{Progress: func(f float64) { bar.at(int64(f * float64(end))) }})
	bar.done(err)
	if err != nil {
		return nil, 0, err
	}
	return src, src.Size, nil
}

// imageName makes a name of a file's: "Debian_12.amd64.raw" is debian-12-amd64.
func imageName(path string) string {
	base := strings.ToLower(filepath.Base(path))
	for _, ext := range []string{".raw", ".img", ".bin", ".iso", ".qcow2"} {
		base = strings.TrimSuffix(base, ext)
	}
	base = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, base)
	return strings.Trim(base, "-")
}
