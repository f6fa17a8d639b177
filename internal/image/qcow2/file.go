package qcow2

import (
	"io"
	"sync"

	"github.com/holdfast-cloud/holdfast"
)

// Options of opening.
type Options struct {
	// Backing opens what an image is the difference to, by the name and the
	// format ("" if it is not said) that the image gives: both are to be
	// mistrusted. If it is nil, such images are refused.
	Backing func(name, format string) (Disk, error)
}

// File is an image that is read in any order, from any goroutine. It is a Disk.
type File struct {
	h      *header
	r      io.ReaderAt
	length int64 // of the file
	below  Disk  // nil: none
	names  []string

	l1     []uint64
	tables []int64 // where the L2 tables are, ascending

	mu     sync.Mutex
	l2     []byte // one table
	l2At   int64  // 0: none is read
	packed unpacker
}

// Open looks at an image in a file of so many bytes. Errors: Invalid for what is
// no image, is damaged, or cannot be read here; those of r and of
// Options.Backing.
func Open(r io.ReaderAt, length int64, opt Options) (*File, error) {
	h, err := readHeader(r, length)
	if err != nil {
		return nil, err
	}
	f := &File{h: h, r: r, length: length}
	if err := f.readL1(); err != nil {
		return nil, err
	}
	f.packed.zstd = h.zstd
	f.names = readSnapshots(r, h)
	if h.backing != "" {
		if opt.Backing == nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "the image is only the difference to another file, %q: flatten it first: qemu-img convert -O qcow2 FILE flat.qcow2", h.backing)
		}
		if f.below, err = opt.Backing(h.backing, h.backingFormat); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Size is the disk's, in bytes.
func (f *File) Size() int64 { return f.h.size }

// Snapshots tells how many snapshots are in the file, and the names of the
// first of them. They are not read: the disk is as it was last.
func (f *File) Snapshots() (names []string, n int) { return f.names, int(f.h.snapshots) }

// Dirty reports whether the file was not closed properly, or is in use.
func (f *File) Dirty() bool { return f.h.features&(1<<bitDirty) != 0 }

// ReadAt implements io.ReaderAt. Errors: Invalid for a damaged part.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, holdfast.Errorf(holdfast.Invalid, "read at %d", off)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(p) && off < f.h.size {
		k, err := f.readPiece(p[n:min(int64(len(p)), int64(n)+f.h.size-off)], off)
		if err != nil {
			return n, err
		}
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readPiece reads the start of p, as far as it lies together. f.mu is held.
func (f *File) readPiece(p []byte, off int64) (int, error) {
	x, err := f.piece(off)
	if err != nil {
		return 0, err
	}
	n := min(x.n, int64(len(p)))
	for x.kind == stored && n < int64(len(p)) { // one read for clusters that lie together
		y, err := f.piece(off + n)
		if err != nil || y.kind != stored || y.at != x.at+n {
			break
		}
		n = min(n+y.n, int64(len(p)))
	}
	p = p[:n]
	switch x.kind {
	case stored:
		return len(p), readFull(f.r, p, x.at)
	case compressed:
		b, err := f.packed.cluster(f.r, x, f.h.clusterSize(), f.length)
		if err != nil {
			return 0, err
		}
		return copy(p, b[off&(f.h.clusterSize()-1):]), nil
	case below:
		return len(p), readBelow(f.below, p, off)
	}
	clear(p)
	return len(p), nil
}

// readBelow reads of a backing file, which may be the shorter disk.
func readBelow(d Disk, p []byte, off int64) error {
	n := max(0, min(int64(len(p)), d.Size()-off))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	return readFull(d, p[:n], off)
}

// NextData implements Disk. Only tables are read.
func (f *File) NextData(off int64) (from, to int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for off < f.h.size {
		x, err := f.piece(off)
		if err != nil {
			return 0, 0, err
		}
		end := min(off+x.n, f.h.size)
		switch x.kind {
		case stored, compressed:
			return off, end, nil
		case below:
			from, to, err := f.below.NextData(off)
			if err != nil {
				return 0, 0, err
			}
			if from < min(end, f.below.Size()) {
				return from, min(to, end), nil
			}
		}
		off = end
	}
	return f.h.size, f.h.size, nil
}
