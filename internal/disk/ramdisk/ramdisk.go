// Package ramdisk is a disk.Device in the memory of this host: anonymous pages
// of the process, outside of the Go heap. What is written is as safe as the
// process is: Sync promises nothing more, and nothing outlives it.
package ramdisk

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// MinSize is the smallest disk in bytes, 64 MiB, as for files.
const MinSize = 64 << 20

// sector is what a transfer must be aligned to.
const sector = 512

// Memory is the content of one disk. It is made empty, opened as a device by
// one user at a time, and freed at the end. It is safe for concurrent use.
type Memory struct {
	mu   sync.RWMutex // held for reading during a transfer
	b    []byte       // nil once freed
	open *device
}

// New takes size bytes of memory, which the kernel gives as they are first
// written. Kinds: Invalid (size), NoSpace.
func New(size int64) (*Memory, error) {
	if size < MinSize || size%holdfast.BlockSize != 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "a disk in memory of %d bytes is not possible; use a multiple of %d, at least %d (64 MiB)",
			size, holdfast.BlockSize, int64(MinSize))
	}
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NoSpace, "a disk in memory of %d bytes: %w", size, err)
	}
	// A dump of the process must not be as large as its disks, nor hold them.
	_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	return &Memory{b: b}, nil
}

// Open returns the memory as a device. Kind Busy while another one is open,
// Closed once the memory is freed.
func (m *Memory) Open() (disk.Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.b == nil:
		return nil, closed()
	case m.open != nil:
		return nil, holdfast.Errorf(holdfast.Busy, "this disk in memory is in use already")
	}
	m.open = &device{m: m, size: int64(len(m.b))}
	return m.open, nil
}

// Free gives the memory back, and ends the device that is open. It waits for
// the transfers under way.
func (m *Memory) Free() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.b
	m.b, m.open = nil, nil
	if b == nil {
		return nil
	}
	if err := unix.Munmap(b); err != nil {
		return holdfast.Errorf(holdfast.IO, "disk in memory: %w", err)
	}
	return nil
}

func closed() error { return holdfast.Errorf(holdfast.Closed, "the disk in memory is closed") }

// device is one opening of a Memory.
type device struct {
	m    *Memory
	size int64
}

var (
	_ disk.Device     = (*device)(nil)
	_ disk.SyncWriter = (*device)(nil)
)

// Geometry implements disk.Device.
func (d *device) Geometry() disk.Geometry { return disk.Geometry{Size: d.size, Sector: sector} }

// ReadAt implements disk.Device.
func (d *device) ReadAt(p []byte, off int64) error {
	return d.transfer("read", off, int64(len(p)), func(b []byte) error { copy(p, b); return nil })
}

// WriteAt implements disk.Device.
func (d *device) WriteAt(p []byte, off int64) error {
	return d.transfer("write", off, int64(len(p)), func(b []byte) error { copy(b, p); return nil })
}

// WriteSync implements disk.SyncWriter: there is nothing to wait for.
func (d *device) WriteSync(p []byte, off int64) error { return d.WriteAt(p, off) }

// Sync implements disk.Device: what is written is in memory, which is all that
// this disk can promise.
func (d *device) Sync() error {
	return d.transfer("sync", 0, 0, func([]byte) error { return nil })
}

// Discard implements disk.Device: whole pages go back to the kernel.
func (d *device) Discard(off, n int64) error {
	return d.transfer("discard", off, n, func(b []byte) error {
		page := int64(unix.Getpagesize())
		from := (off+page-1)/page*page - off
		to := (off+n)/page*page - off
		if from >= to {
			return nil
		}
		if err := unix.Madvise(b[from:to], unix.MADV_DONTNEED); err != nil {
			return holdfast.Errorf(holdfast.IO, "disk in memory: discard of %d bytes at %d: %w", n, off, err)
		}
		return nil
	})
}

// Close implements disk.Device. The content stays until Free.
func (d *device) Close() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.m.open != d {
		return closed()
	}
	d.m.open = nil
	return nil
}

// transfer has f use n bytes at off, if they are there and the device is open.
func (d *device) transfer(op string, off, n int64, f func([]byte) error) error {
	if off < 0 || n < 0 || off%sector != 0 || n%sector != 0 || off > d.size || n > d.size-off {
		return holdfast.Errorf(holdfast.Invalid, "disk in memory: %s of %d bytes at %d: whole sectors of %d bytes below %d are allowed", op, n, off, sector, d.size)
	}
	d.m.mu.RLock()
	defer d.m.mu.RUnlock()
	if d.m.open != d {
		return closed()
	}
	return f(d.m.b[off : off+n : off+n])
}
