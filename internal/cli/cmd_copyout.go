package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/image"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

// copyOut is what 'image export' and 'volume export' were asked for.
type copyOut struct {
	format   string
	compress string // "": not, or a key of compressions
	force    bool
}

// copiedOut is what became of it.
type copiedOut struct {
	File   string `json:"file"`
	Format string `json:"format"`
	Size   int64  `json:"size"`   // of the disk
	Length int64  `json:"length"` // of the file, holes included
	Data   int64  `json:"data"`   // bytes of it that are data, after compression
}

func copiedOutColumns() []column[copiedOut] {
	return []column[copiedOut]{
		{"FILE", false, func(c copiedOut) any { return c.File }},
		{"FORMAT", false, func(c copiedOut) any { return c.Format }},
		{"SIZE", false, func(c copiedOut) any { return size(c.Size) }},
		{"DATA", false, func(c copiedOut) any { return size(c.Data) }},
		{"LENGTH", true, func(c copiedOut) any { return size(c.Length) }},
	}
}

const copyOutHelp = "As QCOW2, only what is stored is written, and --compress makes it smaller. As raw, holes stay holes if the file system can.\n" +
	"To standard output ('-') QCOW2 is written without seeking; compressed it needs a FILE."

func (a *app) imageExportCmd() *cobra.Command {
	var o copyOut
	c := &cobra.Command{Use: "export IMAGE FILE|-", Short: "Write an image to a file, as QCOW2 or raw", Args: args("IMAGE", "FILE"),
		Long: "Write an image to a file that other programs read.\n" + copyOutHelp,
		Example: "  holdfast image export debian debian.qcow2 --compress\n  holdfast image export debian debian.qcow2 --compress=zstd\n  holdfast image export debian debian.raw\n" +
			"  holdfast image export debian - --format raw | xz > debian.raw.xz\n  holdfast image export debian - | ssh other holdfast image import --name debian -",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			return a.copyOut(ctx, args[0], args[1], o, func(ctx context.Context) (io.ReadCloser, int64, error) {
				return c.ExportImage(ctx, args[0], client.CopyOut{})
			})
		})}
	o.flags(c)
	return c
}

func (a *app) volumeExportCmd() *cobra.Command {
	var o copyOut
	c := &cobra.Command{Use: "export VOLUME[@SNAPSHOT] FILE|-", Short: "Write a volume or a snapshot to a file, as QCOW2 or raw", Args: args("VOLUME", "FILE"),
		Long: "Write a volume, or a snapshot of it, to a file that other programs read. Without a snapshot it is written as it is at the beginning:\n" +
			"a snapshot called export-… is made and, at the end, deleted.\n" + copyOutHelp,
		Example: "  holdfast volume export data@monday data.qcow2 --compress\n  holdfast volume export db1 db1.raw\n  holdfast volume export db1 - --format raw | sha256sum",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			volume, snap, _ := strings.Cut(args[0], "@")
			return a.copyOut(ctx, args[0], args[1], o, func(ctx context.Context) (io.ReadCloser, int64, error) {
				return c.ExportVolume(ctx, volume, client.CopyOut{Snapshot: snap})
			})
		})}
	o.flags(c)
	return c
}

func (o *copyOut) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.format, "format", "", "qcow2 or raw (default: raw for a FILE that ends in .raw or .img, else qcow2)")
	c.Flags().StringVar(&o.compress, "compress", "", "compress a QCOW2 file, here: deflate, which all programs read, or zstd, which is faster")
	c.Flags().Lookup("compress").NoOptDefVal = "deflate"
	c.Flags().BoolVar(&o.force, "force", false, "replace FILE if it is there")
}

// compressions knows how clusters may be compressed.
func compressions(name string) (how qcow2.Compression, known bool) {
	how, known = map[string]qcow2.Compression{"deflate": qcow2.Deflate, "zstd": qcow2.Zstd}[name]
	return how, known
}

// check fills in the format and refuses what does not go together.
func (o *copyOut) check(file string) error {
	if ext := filepath.Ext(file); o.format == "" && (ext == ".raw" || ext == ".img") {
		o.format = "raw"
	} else if o.format == "" {
		o.format = "qcow2"
	}
	_, known := compressions(o.compress)
	switch {
	case o.format != "qcow2" && o.format != "raw":
		return usageError{fmt.Errorf("--format %q: it can be qcow2 or raw", plain(o.format))}
	case o.compress != "" && !known:
		return usageError{fmt.Errorf("--compress=%s: it can be deflate or zstd", plain(o.compress))}
	case o.compress != "" && o.format == "raw":
		return usageError{errors.New("a raw file cannot be compressed: leave --compress out and use a pipe, as in: holdfast image export debian - --format raw | xz > debian.raw.xz")}
	case o.compress != "" && file == "-":
		return usageError{errors.New("a compressed QCOW2 file cannot be written to a pipe, since its tables come first and are known last: give a FILE")}
	}
	return nil
}

// copyOut writes what a host sends, which is always QCOW2, in the format that
// was asked for.
func (a *app) copyOut(ctx context.Context, what, file string, o copyOut, get func(context.Context) (io.ReadCloser, int64, error)) error {
	if err := o.check(file); err != nil {
		return err
	}
	if _, err := os.Lstat(file); err == nil && file != "-" && !o.force {
		return holdfast.Errorf(holdfast.Exists, "%s is there already: choose another name, or replace it with --force", file)
	}
	in, n, err := get(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	bar := a.progress("exporting "+what, n)
	from := bar.reader(in)
	if file == "-" {
		err = toPipe(a.Stdout, from, o)
		bar.done(err)
		return err
	}
	out, err := toFile(file, from, o)
	bar.done(err)
	return printed(a, out, err, copiedOutColumns(), func(c copiedOut) string { return c.File })
}

// toPipe writes front to back.
func toPipe(out io.Writer, from io.Reader, o copyOut) error {
	if o.format == "raw" {
		s, err := qcow2.NewStream(from)
		if err != nil {
			return err
		}
		from = s
	}
	_, err := io.Copy(out, from)
	return err
}

// toFile writes a file, under another name until it is whole.
func toFile(path string, from io.Reader, o copyOut) (out copiedOut, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-")
	if err != nil {
		var cause *os.PathError // its name is one that nobody has given
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return out, holdfast.Errorf(holdfast.IO, "%s cannot be made: %w", path, err)
	}
	out = copiedOut{File: path, Format: o.format}
	if err = out.write(f, from, o); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = placed(f.Name(), path, o.force)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	if errors.Is(err, unix.ENOSPC) {
		err = holdfast.Errorf(holdfast.NoSpace, "%s: %w", path, err)
	}
	return out, err
}

// placed gives a file its name, which unless force is set replaces nothing.
func placed(temporary, path string, force bool) error {
	if !force {
		err := os.Link(temporary, path)
		switch {
		case err == nil:
			return os.Remove(temporary)
		case errors.Is(err, os.ErrExist):
			return holdfast.Errorf(holdfast.Exists, "%s is there now: choose another name, or replace it with --force", path)
		}
	} // a file system without links
	return os.Rename(temporary, path)
}

func (c *copiedOut) write(f *os.File, from io.Reader, o copyOut) error {
	s, err := qcow2.NewStream(from)
	if err != nil {
		return err
	}
	c.Size = s.Map().Size()
	var put func(off int64, b []byte) error
	end := func() error { return nil }
	switch {
	case o.compress != "":
		how, _ := compressions(o.compress)
		p, err := qcow2.NewPacker(f, c.Size, how)
		if err != nil {
			return err
		}
		put, end = p.Put, func() error {
			c.Data = p.Stored()
			return p.Close()
		}
	case o.format == "raw":
		if err := f.Truncate(c.Size); err != nil {
			return err
		}
		put = func(off int64, b []byte) error { return c.putRaw(f, off, b) }
	default:
		c.Data = s.Map().DataSize()
		to := image.WriteAround(f, s.Map().FileSize())
		err := s.Map().WriteAt(to, s)
		if cerr := to.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		put = func(int64, []byte) error { return nil }
	}
	for {
		off, b, err := s.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = put(off, b)
		}
		if err != nil {
			return err
		}
	}
	if err := end(); err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		c.Length = st.Size()
	}
	return err
}

// putRaw writes blocks that are not zero.
func (c *copiedOut) putRaw(f *os.File, off int64, b []byte) error {
	for len(b) > 0 {
		block := b[:min(len(b), holdfast.BlockSize)]
		if !qcow2.Zero(block) {
			if _, err := f.WriteAt(block, off); err != nil {
				return err
			}
			c.Data += int64(len(block))
		}
		b, off = b[len(block):], off+int64(len(block))
	}
	return nil
}
