package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

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
	return noun("image", "Disks to start VMs from", listCmd(a, images), showCmd(a, images, "debian"), a.imageImportCmd(), a.imageExportCmd(), del)
}

func (a *app) imageImportCmd() *cobra.Command {
	var name, pool string
	var total, most sizeFlag
	var copies int
	var asIs, encrypt, noWait bool
	var compress, backing, sum string
	c := &cobra.Command{Use: "import FILE|URL|-", Short: "Import a disk image, raw or QCOW2", Args: args("FILE"),
		Long: "Import a disk image, raw or QCOW2. Of a QCOW2 image only what it stores is sent; one that comes from standard input is kept in\n" +
			"the directory for temporary files first. Snapshots in it are not imported: the image is as the disk was last.\n" +
			"What is given by URL is got by the host, by https and from public addresses unless its configuration allows more ('fetch'); a\n" +
			"connection that breaks is gone on with.",
		Example: "  holdfast image import debian-12.raw\n  xz -dc appliance.raw.xz | holdfast image import --name appliance -\n" +
			"  holdfast image import https://example.org/debian-12.qcow2 --name debian --sha256 SUM\n" +
			"  curl -L https://example.org/debian-12.qcow2 | holdfast image import --name debian -\n" +
			"  holdfast image import web1.qcow2 --backing /var/lib/libvirt/images    # with the files that it is the difference to\n" +
			"  holdfast image import --as-is --name initrd /boot/initrd.img    # for vm create --initrd",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			fetched := isURL(args[0])
			if err := onlyFor(fetched, total > 0, backing != "", sum, int64(most), noWait); err != nil {
				return err
			}
			if fetched {
				if name == "" {
					name = urlName(args[0])
				}
				if err := holdfast.CheckName("image", name); err != nil {
					return fmt.Errorf("%w; give another with --name", err)
				}
				return a.fetchImage(ctx, c, v1.ImageFetch{Name: name, URL: args[0], SHA256: sum, MaxSize: int64(most), Copies: copies, Pool: pool,
					Encrypt: encrypt, Compress: compress, AsIs: asIs}, !noWait)
			}
			in, err := a.openImage(args[0], wanted{size: int64(total), asIs: asIs, backing: backing})
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
			bar := a.progress("importing "+name, in.size)
			v, err := c.ImportImage(ctx, client.NewImage{Name: name, Size: in.size, Copies: copies, Pool: pool, AsIs: asIs, Encrypt: encrypt, Compress: compress}, bar.reader(in))
			bar.done(err)
			return printed(a, v, err, imageColumns(), volumeName)
		})}
	c.Flags().StringVar(&name, "name", "", "`name` of the image; default: the file's")
	c.Flags().Var(&total, "size", "size of what comes from standard input, if it is known; less or more is then refused")
	c.Flags().StringVar(&sum, "sha256", "", "SHA-256 of the file at the URL: another one is refused")
	c.Flags().Var(&most, "max-size", "how large the file at the URL may be")
	c.Flags().BoolVar(&noWait, "no-wait", false, "with a URL: do not wait until it is imported")
	c.Flags().IntVar(&copies, "copies", 0, "copies in distinct racks (default: the pool's, or 2 as far as there are racks)")
	c.Flags().StringVar(&pool, "pool", "", "`pool` whose disks hold it, and all that is cloned from it; none: default")
	c.Flags().BoolVar(&encrypt, "encrypt", false, "seal its blocks, and those of all that is cloned from it")
	c.Flags().StringVar(&compress, "compress", "", "off (default), fast or auto: compress its blocks, and those of its clones unless they say otherwise")
	c.Flags().StringVar(&backing, "backing", "", "`directory` with the files that a QCOW2 image is the difference to; none: such an image is refused")
	c.Flags().BoolVar(&asIs, "as-is", false, "keep the bytes as they are, whatever they look like: a kernel or a compressed initrd for direct boot")
	return c
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
