package filedisk

import (
	"errors"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// Options say how a disk is used.
type Options struct {
	// Cache says what goes through the page cache. The zero value suits a store.
	Cache Cache
}

// Cache is a use of the page cache (docs/adr/0012).
type Cache uint8

// The uses of the page cache.
const (
	// Reads: what is read stays in the page cache; what is written goes past it
	// (O_DIRECT) where the medium and the write's alignment allow that.
	Reads Cache = iota
	// Both: reads and writes go through the page cache.
	Both
	// Neither: both go past it. The file system or device must support it.
	Neither
)

// fileSector is what a regular file promises: the file system may stand on a
// disk with sectors of 512 bytes.
const fileSector = 512

// Create makes a sparse file of size bytes for use as a disk, durably, and
// leaves it closed. Kinds: Exists, Invalid (size), Denied, NoSpace, IO.
func Create(path string, size int64) error {
	if err := checkSize(path, size); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return openError(path, err)
	}
	err = errors.Join(f.Truncate(size), f.Sync(), f.Close())
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path)
		return (&Disk{path: path}).failed("create", err)
	}
	return nil
}

// MayCreate says why Create would fail, as far as that can be known before: the size,
// something at the path, no such directory or no right to write there.
func MayCreate(path string, size int64) error {
	if err := checkSize(path, size); err != nil {
		return err
	}
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case err == nil:
		err = unix.EEXIST
	case err == unix.ENOENT:
		err = unix.Access(filepath.Dir(path), unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return openError(path, &os.PathError{Op: "open", Path: path, Err: err})
	}
	return nil
}

func checkSize(path string, size int64) error {
	if size < MinSize || size%holdfast.BlockSize != 0 {
		return holdfast.Errorf(holdfast.Invalid, "disk %s: a size of %d bytes is not possible; use a multiple of %d, at least %d (64 MiB)",
			path, size, holdfast.BlockSize, int64(MinSize))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Open takes a file or block device into use, alone: until Close (or the end of
// the process) another Open of it fails with kind Busy. Other kinds: NotFound,
// Denied, Invalid (not a disk, too small, Neither is not possible), IO.
func Open(path string, o Options) (*Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, openError(path, err)
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_NONBLOCK
	if o.Cache == Neither {
		flags |= unix.O_DIRECT
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		flags |= unix.O_EXCL // the kernel refuses it while mounted, swapped on or part of an array
	default:
		return nil, holdfast.Errorf(holdfast.Invalid, "disk %s is neither a regular file nor a block device; name one of these", path)
	}
	fd, err := openRetry(path, flags)
	if errors.Is(err, unix.EBUSY) {
		return nil, inUse(path, st.Rdev)
	}
	if err == unix.EINVAL && o.Cache == Neither {
		return nil, holdfast.Errorf(holdfast.Invalid, "disk %s: its file system has no direct I/O; turn it off for this disk", path)
	}
	if err != nil {
		return nil, openError(path, err)
	}
	d := &Disk{path: path, fd: fd, past: -1, align: 1}
	err = d.prepare(st, o)
	if err == nil && o.Cache == Reads {
		err = d.openPast(st)
	}
	if err != nil {
		if d.past >= 0 {
			unix.Close(d.past)
		}
		unix.Close(fd)
		return nil, err
	}
	return d, nil
}

func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// prepare checks what was opened, locks it and learns its geometry.
func (d *Disk) prepare(before unix.Stat_t, o Options) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return d.failed("open", err)
	}
	if st.Dev != before.Dev || st.Ino != before.Ino || st.Rdev != before.Rdev {
		return holdfast.Errorf(holdfast.Conflict, "disk %s was replaced while it was being opened; try again", d.path)
	}
	d.block = st.Mode&unix.S_IFMT == unix.S_IFBLK
	err := unix.Flock(d.fd, unix.LOCK_EX|unix.LOCK_NB)
	// A block device is already ours by O_EXCL; there the lock only keeps udev
	// away, which may be holding it for a moment.
	if err != nil && !d.block {
		if err == unix.EWOULDBLOCK {
			return holdfast.Errorf(holdfast.Busy, "disk %s is in use by another process; stop that one first", d.path)
		}
		return d.failed("lock", err)
	}
	if d.block {
		err = d.measureDevice()
	} else {
		d.geo = disk.Geometry{Size: st.Size &^ (holdfast.BlockSize - 1), Sector: fileSector}
		err = nil
	}
	if err != nil {
		return err
	}
	if o.Cache == Neither {
		memory, offset := d.measureDirect(d.fd)
		d.align, d.geo.Sector = memory, max(d.geo.Sector, offset)
	}
	if d.geo.Size < MinSize {
		return holdfast.Errorf(holdfast.Invalid, "disk %s has %d bytes, at least %d (64 MiB) are needed; use a larger one", d.path, st.Size, int64(MinSize))
	}
	if err := unix.Fadvise(d.fd, 0, 0, unix.FADV_RANDOM); err != nil && err != unix.EINVAL {
		// The store knows what it will read: read-ahead would only fill memory.
		return d.failed("advise", err)
	}
	return nil
}

// measureDevice learns the geometry of a block device.
func (d *Disk) measureDevice() error {
	var size uint64
	if err := ioctl(d.fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return d.failed("measure", err)
	}
	sector, err := unix.IoctlGetInt(d.fd, unix.BLKSSZGET)
	if err != nil {
		return d.failed("measure", err)
	}
	if sector < 512 || sector > holdfast.BlockSize || sector&(sector-1) != 0 {
		return holdfast.Errorf(holdfast.Invalid, "disk %s has sectors of %d bytes; 512 to %d are supported", d.path, sector, holdfast.BlockSize)
	}
	d.geo = disk.Geometry{Size: int64(size) &^ (holdfast.BlockSize - 1), Sector: sector}
	return nil
}

// openPast opens the disk a second time, for writes past the page cache. A
// medium that has no such thing is written through it.
func (d *Disk) openPast(before unix.Stat_t) error {
	fd, err := openRetry(d.path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_DIRECT)
	if err == unix.EINVAL {
		return nil
	}
	if err != nil {
		return openError(d.path, err)
	}
	d.past = fd
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return d.failed("open", err)
	}
	if st.Dev != before.Dev || st.Ino != before.Ino || st.Rdev != before.Rdev {
		return holdfast.Errorf(holdfast.Conflict, "disk %s was replaced while it was being opened; try again", d.path)
	}
	d.pastMemory, d.pastOffset = d.measureDirect(fd)
	return nil
}

// measureDirect learns what O_DIRECT needs of the address and the length of
// memory, and of offsets, in bytes; kernels before 6.1 do not tell, and 4 KiB
// satisfies everything.
func (d *Disk) measureDirect(fd int) (memory, offset int) {
	memory, offset = holdfast.BlockSize, holdfast.BlockSize
	if d.block {
		offset = d.geo.Sector
	}
	var x unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &x)
	if err == nil && x.Mask&unix.STATX_DIOALIGN != 0 && x.Dio_mem_align > 0 && x.Dio_offset_align > 0 {
		memory, offset = int(x.Dio_mem_align), int(x.Dio_offset_align)
	}
	return memory, offset
}

func ioctl(fd int, req uint, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

// openError says what to do about a file that cannot be opened.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return holdfast.Errorf(holdfast.NotFound, "disk %s: %w; check the path", path, err)
	case errors.Is(err, unix.EEXIST):
		return holdfast.Errorf(holdfast.Exists, "disk %s: %w; choose another path or remove the file", path, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return holdfast.Errorf(holdfast.Denied, "disk %s: %w; it must be readable and writable for the user that runs Holdfast", path, err)
	case errors.Is(err, unix.EROFS):
		return holdfast.Errorf(holdfast.Denied, "disk %s: %w; it is write-protected", path, err)
	}
	return (&Disk{path: path}).failed("open", err)
}
