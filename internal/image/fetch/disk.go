package fetch

import (
	"bufio"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image"
)

// Disk is a disk to import, front to back: raw, or QCOW2 in the layout of a stream.
type Disk struct {
	io.Reader
	Size  int64 // bytes that are read; -1: the end decides
	Kept  bool  // all of the file is here
	Notes []string
	close []func() error
}

// Close lets everything go.
func (d *Disk) Close() {
	for i := len(d.close) - 1; i >= 0; i-- {
		_ = d.close[i]() // nothing is kept in it
	}
}

// OpenDisk gives the disk in a file. A QCOW2 image cannot be read front to back: it
// is kept in dir until Close, in a file without a name, as long as that leaves
// enough space there (spare, in bytes). AsIs: it is taken as it is, whatever it looks
// like. Kinds: Invalid, NoSpace, IO and those of b, which stays the caller's.
func OpenDisk(b *Body, dir string, spare int64, asIs bool) (*Disk, error) {
	r := bufio.NewReaderSize(b, 1<<20)
	head, err := r.Peek(image.SniffLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if asIs || image.Sniff(head) != image.QCOW2 {
		return &Disk{Reader: r, Size: b.Size()}, nil
	}
	f, err := keep(r, b.Size(), dir, spare)
	if err != nil {
		return nil, err
	}
	d := &Disk{Kept: true, close: []func() error{f.Close}}
	if err := d.open(f); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Disk) open(f *os.File) error {
	q, err := image.OpenQCOW2(f, "")
	if err != nil {
		return err
	}
	d.close = append(d.close, q.Close)
	r, n, err := q.Stream()
	if err != nil {
		return err
	}
	d.Reader, d.Size = r, n
	d.close = append(d.close, r.Close)
	if q.Dirty() {
		d.Notes = append(d.Notes, "the image was not closed properly, or is in use")
	}
	if _, k := q.Snapshots(); k > 0 {
		d.Notes = append(d.Notes, "snapshots in it are not imported: the image is as the disk was last")
	}
	return nil
}

// step is how much is kept between two looks at the space that is left, in bytes.
const step = 64 << 20

// keep writes r to a file without a name.
func keep(r io.Reader, size int64, dir string, spare int64) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "a place in %s to keep the QCOW2 image: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), "image")
	if err := fill(f, r, size, spare); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func fill(f *os.File, r io.Reader, size, spare int64) error {
	for need := max(size, step); ; need = step {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			return holdfast.Errorf(holdfast.IO, "the space that is left for the QCOW2 image: %w", err)
		}
		if free := int64(st.Bavail) * st.Bsize; free-need < spare {
			return holdfast.Errorf(holdfast.NoSpace, "the QCOW2 image does not fit into this host's data directory, where it is kept first: %d bytes are free, of which %d stay so; ask another host, or import the image as a raw disk", free, spare)
		}
		_, err := io.CopyN(f, r, step)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, unix.ENOSPC):
			return holdfast.Errorf(holdfast.NoSpace, "the QCOW2 image does not fit into this host's data directory, where it is kept first")
		case err != nil && holdfast.KindOf(err) == holdfast.Other:
			return holdfast.Errorf(holdfast.IO, "keep the QCOW2 image: %w", err)
		case err != nil:
			return err
		}
	}
}
