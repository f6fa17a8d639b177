// Package filedisk is the real disk.Device: a regular file or a raw block
// device, by pread through the page cache and pwrite past it, or otherwise as
// Options say. Linux only.
package filedisk

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// MinSize is the smallest disk in bytes, 64 MiB: less would hold little but the
// reserve and the metadata.
const MinSize = 64 << 20

// chunk is the longest single transfer, and the size of a bounce buffer.
const chunk = 1 << 20

// Disk is an open file or block device that no other process can open as one.
// It is safe for concurrent use; Close waits for the calls under way.
type Disk struct {
	path  string
	block bool
	geo   disk.Geometry
	align int // of buffers; 1 unless everything goes past the page cache

	mu   sync.RWMutex // held for reading during a call, for writing by Close
	fd   int          // -1 once closed
	past int          // the same for writes past the page cache; -1: none

	pastMemory, pastOffset int // alignments that past needs

	noPrompt  atomic.Bool // the file system has no reads that do not wait
	noDiscard atomic.Bool // the medium has no such thing: do not ask again
}

var (
	_ disk.Device     = (*Disk)(nil)
	_ disk.Prompt     = (*Disk)(nil)
	_ disk.SyncWriter = (*Disk)(nil)
	_ disk.Medium     = (*Disk)(nil)
)

// Geometry implements disk.Device.
func (d *Disk) Geometry() disk.Geometry { return d.geo }

// Path is the name by which the disk was opened.
func (d *Disk) Path() string { return d.path }

// Close implements disk.Device. It does not sync.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return d.closed()
	}
	fd := d.fd
	d.fd = -1
	if d.past >= 0 {
		unix.Close(d.past) // what matters is reported by Sync
		d.past = -1
	}
	if err := unix.Close(fd); err != nil {
		return d.failed("close", err)
	}
	return nil
}

// ReadAt implements disk.Device.
func (d *Disk) ReadAt(p []byte, off int64) error {
	return d.transfer("read", p, off, func(fd int, b []byte, off int64) (int, error) {
		n, err := unix.Pread(fd, b, off)
		if err == nil && n == 0 && len(b) > 0 {
			return 0, errShort
		}
		return n, err
	}, nil)
}

// ReadNow implements disk.Prompt by what the page cache holds. It never blocks,
// so it is a raw system call, which is cheaper.
func (d *Disk) ReadNow(p []byte, off int64) bool {
	if d.noPrompt.Load() || len(p) == 0 || d.check("read", off, int64(len(p))) != nil {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.fd < 0 {
		return false
	}
	vec := unix.Iovec{Base: &p[0]}
	vec.SetLen(len(p))
	n, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, uintptr(d.fd), uintptr(unsafe.Pointer(&vec)), 1, uintptr(off), 0, unix.RWF_NOWAIT)
	if errno == unix.EOPNOTSUPP || errno == unix.ENOSYS {
		d.noPrompt.Store(true)
	}
	return errno == 0 && int(n) == len(p)
}

// ReadMedium implements disk.Medium: past the page cache where that is possible,
// otherwise after the cache was asked to let go of the range.
func (d *Disk) ReadMedium(p []byte, off int64) error {
	return d.transfer("read", p, off, func(fd int, b []byte, off int64) (int, error) {
		at := d.way(fd, b, off)
		if at == fd && d.align == 1 {
			if err := unix.Fadvise(fd, off, int64(len(b)), unix.FADV_DONTNEED); err != nil {
				return 0, err
			}
		}
		n, err := unix.Pread(at, b, off)
		if err == nil && n == 0 && len(b) > 0 {
			return 0, errShort
		}
		return n, err
	}, nil)
}

// WriteAt implements disk.Device. Kind NoSpace: the file system under a sparse
// file is full.
func (d *Disk) WriteAt(p []byte, off int64) error {
	return d.transfer("write", p, off, nil, d.pwrite)
}

// WriteSync implements disk.SyncWriter: one system call, and one wait of a thread,
// instead of two.
func (d *Disk) WriteSync(p []byte, off int64) error {
	return d.transfer("write", p, off, nil, func(fd int, b []byte, off int64) (int, error) {
		return unix.Pwritev2(d.way(fd, b, off), [][]byte{b}, off, unix.RWF_DSYNC)
	})
}

// pwrite writes past the page cache if it can.
func (d *Disk) pwrite(fd int, b []byte, off int64) (int, error) {
	return unix.Pwrite(d.way(fd, b, off), b, off)
}

// way is the descriptor for a transfer: the one past the page cache if b and off
// are aligned as that needs. The kernel keeps the two ways coherent: a direct
// write drops what the page cache holds of its range.
func (d *Disk) way(fd int, b []byte, off int64) int {
	if d.past >= 0 && uintptr(unsafe.Pointer(&b[0]))%uintptr(d.pastMemory) == 0 &&
		len(b)%max(d.pastMemory, d.pastOffset) == 0 && off%int64(d.pastOffset) == 0 {
		return d.past
	}
	return fd
}

var errShort = errors.New("the file has been cut short by somebody else")

// transfer moves p in full, through a bounce buffer where p is not aligned as
// O_DIRECT needs it. One of read and write is nil.
func (d *Disk) transfer(op string, p []byte, off int64, read, write func(int, []byte, int64) (int, error)) error {
	if err := d.check(op, off, int64(len(p))); err != nil {
		return err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.fd < 0 {
		return d.closed()
	}
	var bounce []byte
	for len(p) > 0 {
		b := p[:min(len(p), chunk)]
		bounced := uintptr(unsafe.Pointer(&b[0]))%uintptr(d.align) != 0
		if bounced {
			if bounce == nil {
				bounce = alignedBuffer(len(b), d.align)
			}
			b = bounce[:len(b)]
		}
		var n int
		var err error
		if write != nil {
			if bounced {
				copy(b, p)
			}
			n, err = write(d.fd, b, off)
		} else if n, err = read(d.fd, b, off); err == nil && bounced {
			copy(p, b[:n])
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return d.failed(op, err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// alignedBuffer returns n bytes at an address that is a multiple of align.
func alignedBuffer(n, align int) []byte {
	b := make([]byte, n+align)
	skip := (align - int(uintptr(unsafe.Pointer(&b[0]))%uintptr(align))) % align
	return b[skip : skip+n : skip+n]
}

// Sync implements disk.Device by fdatasync(2): the size never changes.
func (d *Disk) Sync() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.fd < 0 {
		return d.closed()
	}
	for {
		err := unix.Fdatasync(d.fd)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return d.failed("sync", err)
		}
	}
}

// Discard implements disk.Device: it punches a hole into a file and sends
// BLKDISCARD to a block device. A medium that cannot do it is left as it is.
func (d *Disk) Discard(off, n int64) error {
	if err := d.check("discard", off, n); err != nil {
		return err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.fd < 0 {
		return d.closed()
	}
	if n == 0 || d.noDiscard.Load() {
		return nil
	}
	for {
		err := d.discard(off, n)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTTY):
			d.noDiscard.Store(true)
			return nil
		default:
			return d.failed("discard", err)
		}
	}
}

func (d *Disk) discard(off, n int64) error {
	if !d.block {
		return unix.Fallocate(d.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	r := [2]uint64{uint64(off), uint64(n)}
	return ioctl(d.fd, unix.BLKDISCARD, unsafe.Pointer(&r))
}

func (d *Disk) check(op string, off, n int64) error {
	sector := int64(d.geo.Sector)
	switch {
	case off < 0 || n < 0 || off > d.geo.Size || n > d.geo.Size-off:
		return holdfast.Errorf(holdfast.Invalid, "disk %s: %s of %d bytes at %d is out of range, the disk has %d", d.path, op, n, off, d.geo.Size)
	case off%sector != 0 || n%sector != 0:
		return holdfast.Errorf(holdfast.Invalid, "disk %s: %s of %d bytes at %d is not aligned to sectors of %d", d.path, op, n, off, sector)
	}
	return nil
}

func (d *Disk) closed() error {
	return holdfast.Errorf(holdfast.Closed, "disk %s is closed", d.path)
}

// failed classes an error of the operating system.
func (d *Disk) failed(op string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return holdfast.Errorf(holdfast.NoSpace, "disk %s: %s: %w; free some space on the file system that holds it", d.path, op, err)
	}
	return holdfast.Errorf(holdfast.IO, "disk %s: %s: %w", d.path, op, err)
}
