// Package qemuimg opens an image file as a raw stream: raw files as they are,
// QCOW2 files by way of QEMU's qemu-img. The file may be hostile: it is
// looked at before it is converted, may refer to no other file, and qemu-img
// runs with limits on time, memory and output. Ordinary Go, not clock tasks:
// it runs in the command line's process.
package qemuimg

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image"
	"golang.org/x/sys/unix"
)

// Options of opening.
type Options struct {
	// Max is the largest virtual size in bytes; 0 is the largest volume.
	Max int64
	// TempDir is where a QCOW2 file is converted to; "" is the system's. It
	// needs room for the image's data.
	TempDir string
	// ConvertTime bounds a conversion; 0 is an hour.
	ConvertTime time.Duration
	// Progress, if not nil, is told how far a conversion is: 0 to 1, rising.
	Progress func(fraction float64)
}

// Limits of qemu-img as it looks at a file that nobody has vetted.
const (
	infoTime   = 30 * time.Second
	infoCPU    = 20      // seconds
	infoMemory = 2 << 30 // bytes of address space
	infoOutput = 1 << 20 // bytes of JSON that are read
)

// Source is an opened image: a raw stream of Size bytes.
type Source struct {
	io.Reader
	Size   int64
	Format image.Format // what the file was
	close  func() error
}

// Close releases the file, and deletes what it was converted to.
func (s *Source) Close() error { return s.close() }

// Open opens the image at path. ctx ends a conversion early. Errors: NotFound,
// Invalid for what cannot be imported (with what to do instead), NoSpace for
// an image larger than Options.Max, IO.
func Open(ctx context.Context, path string, opt Options) (*Source, error) {
	if opt.Max <= 0 {
		opt.Max = holdfast.MaxVolumeBlocks * holdfast.BlockSize
	}
	if opt.ConvertTime <= 0 {
		opt.ConvertTime = time.Hour
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(err)
	}
	src, err := open(ctx, f, path, opt)
	if err != nil {
		f.Close()
	}
	return src, err
}

func fileError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return holdfast.Errorf(holdfast.NotFound, "%w", err)
	}
	return holdfast.Errorf(holdfast.IO, "%w", err)
}

func open(ctx context.Context, f *os.File, path string, opt Options) (*Source, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fileError(err)
	}
	if st.IsDir() {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s is a directory, not an image", path)
	}
	if !st.Mode().IsRegular() { // a pipe or a device: its length shows at its end
		return &Source{Reader: f, Size: image.UnknownSize, close: f.Close}, nil
	}
	head := make([]byte, image.SniffLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fileError(err)
	}
	switch format := image.Sniff(head[:n]); format {
	case image.Raw:
		return &Source{Reader: f, Size: st.Size(), close: f.Close}, nil
	case image.QCOW2:
		f.Close() // qemu-img opens it by name
		return convert(ctx, path, opt)
	default:
		return nil, image.NotRaw(format)
	}
}

// convert makes a raw, sparse copy of a QCOW2 file.
func convert(ctx context.Context, path string, opt Options) (*Source, error) {
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid,
			"this is a QCOW2 image, and qemu-img, which converts it, is not installed: install it (Debian: apt install qemu-utils), or bring the image as a raw disk")
	}
	path, err = filepath.Abs(path) // so that it cannot be taken for an option or a URL
	if err != nil {
		return nil, fileError(err)
	}
	size, err := inspect(ctx, tool, path, opt.Max)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(opt.TempDir, "holdfast-import")
	if err != nil {
		return nil, fileError(err)
	}
	src, err := convertTo(ctx, tool, path, filepath.Join(dir, "raw"), size, opt)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	closeFile := src.close
	src.close = func() error { return errors.Join(closeFile(), os.RemoveAll(dir)) }
	return src, nil
}

// info is the part of `qemu-img info --output=json` that is looked at.
type info struct {
	Format      string `json:"format"`
	VirtualSize int64  `json:"virtual-size"`
	Backing     string `json:"backing-filename"`
	BackingFull string `json:"full-backing-filename"`
	Encrypted   bool   `json:"encrypted"`
	Specific    struct {
		Data struct {
			DataFile string `json:"data-file"`
			Corrupt  bool   `json:"corrupt"`
		} `json:"data"`
	} `json:"format-specific"`
}

// inspect refuses what must not be converted and returns the virtual size.
func inspect(ctx context.Context, tool, path string, limit int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, infoTime)
	defer cancel()
	var out capped
	err := runLimited(ctx, []limitOf{{unix.RLIMIT_AS, infoMemory}, {unix.RLIMIT_CPU, infoCPU}}, &out,
		tool, "info", "-f", "qcow2", "--output=json", path)
	if err != nil {
		return 0, err
	}
	return parseInfo(out.Bytes(), limit)
}

// parseInfo judges the output of qemu-img info.
func parseInfo(out []byte, limit int64) (int64, error) {
	var x info
	if err := json.Unmarshal(out, &x); err != nil {
		return 0, holdfast.Errorf(holdfast.Invalid, "qemu-img cannot say what this image is: %w", err)
	}
	switch d := x.Specific.Data; {
	case x.Format != "qcow2":
		return 0, holdfast.Errorf(holdfast.Invalid, "qemu-img takes this for a %q image, not QCOW2", x.Format)
	case x.Backing != "" || x.BackingFull != "":
		return 0, holdfast.Errorf(holdfast.Invalid,
			"the image is only the difference to another file, %q: flatten it first: qemu-img convert -O qcow2 FILE flat.qcow2", x.Backing)
	case d.DataFile != "":
		return 0, holdfast.Errorf(holdfast.Invalid,
			"the image keeps its data in another file, %q: put both into one first: qemu-img convert -O qcow2 FILE flat.qcow2", d.DataFile)
	case x.Encrypted:
		return 0, holdfast.Errorf(holdfast.Invalid, "the image is encrypted: decrypt it first with qemu-img convert and its key")
	case d.Corrupt:
		return 0, holdfast.Errorf(holdfast.Invalid, "the image is marked as corrupt: run qemu-img check -r all FILE on a copy, and look at what it lost")
	case x.VirtualSize <= 0:
		return 0, holdfast.Errorf(holdfast.Invalid, "the image is empty: its disk has no bytes")
	case x.VirtualSize > limit:
		return 0, holdfast.Errorf(holdfast.NoSpace, "the image's disk has %d bytes, and there is room for %d", x.VirtualSize, limit)
	}
	return x.VirtualSize, nil
}

func convertTo(ctx context.Context, tool, path, raw string, size int64, opt Options) (*Source, error) {
	ctx, cancel := context.WithTimeout(ctx, opt.ConvertTime)
	defer cancel()
	// The file might have been exchanged since it was looked at: the driver
	// and the absence of a backing file are stated, not guessed.
	source := `json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":` + quote(path) + `}}`
	limits := []limitOf{{unix.RLIMIT_FSIZE, uint64(size) + holdfast.BlockSize}}
	err := runLimited(ctx, limits, &percents{tell: opt.Progress}, tool, "convert", "-p", "-O", "raw", source, raw)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(raw)
	if err != nil {
		return nil, fileError(err)
	}
	st, err := f.Stat()
	if err != nil || st.Size() != size {
		f.Close()
		return nil, holdfast.Errorf(holdfast.IO, "qemu-img made a disk of the wrong size from this image")
	}
	return &Source{Reader: f, Size: size, Format: image.QCOW2, close: f.Close}, nil
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always marshals
	return string(b)
}

// limitOf is a resource limit of a child.
type limitOf struct {
	resource int
	value    uint64
}

// runLimited runs tool; out gets what it prints. The limits are set as soon as
// the child exists; it is given nothing to read from, and no environment.
func runLimited(ctx context.Context, limits []limitOf, out io.Writer, tool string, args ...string) error {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	var text capped
	cmd.Stdout, cmd.Stderr = out, &text
	if err := cmd.Start(); ctx.Err() != nil {
		if err == nil {
			cmd.Wait()
		}
		return errLate(ctx)
	} else if err != nil {
		return holdfast.Errorf(holdfast.IO, "start qemu-img: %w", err)
	}
	for _, l := range limits {
		lim := unix.Rlimit{Cur: l.value, Max: l.value}
		if err := unix.Prlimit(cmd.Process.Pid, l.resource, &lim, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			cmd.Process.Kill()
			cmd.Wait()
			return holdfast.Errorf(holdfast.IO, "limit qemu-img: %w", err)
		}
	}
	err := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return errLate(ctx)
	case err != nil:
		return holdfast.Errorf(holdfast.Invalid, "qemu-img cannot read this image: %w: %s", err, bytes.TrimSpace(text.Bytes()))
	}
	return nil
}

func errLate(ctx context.Context) error {
	return holdfast.Errorf(holdfast.Invalid, "qemu-img did not finish with this image in time: %w", ctx.Err())
}

// capped keeps the first infoOutput bytes written to it.
type capped struct{ bytes.Buffer }

func (c *capped) Write(b []byte) (int, error) {
	c.Buffer.Write(b[:min(len(b), infoOutput-c.Len())])
	return len(b), nil
}
