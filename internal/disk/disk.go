// Package disk is the seam to one disk: a file or a raw block device in
// production, memory with faults in tests. Implementations: disk/filedisk,
// disk/memdisk; conformance: disk/disktest.
package disk

import "io"

// Geometry describes a device.
type Geometry struct {
	Size   int64 // bytes, a multiple of Sector
	Sector int   // bytes; a write of one aligned sector is atomic, larger ones may tear between sectors
}

// Device is one disk. Offsets and lengths are multiples of Geometry.Sector;
// others are refused with kind Invalid. Methods may be called from any task
// and block it; writes that overlap in space and time have no order.
//
// There is no context: what was handed to a device cannot be withdrawn.
type Device interface {
	io.Closer
	Geometry() Geometry
	// ReadAt fills p from off. Bytes never written read as zero.
	ReadAt(p []byte, off int64) error
	// WriteAt writes p at off. It is durable only after a later Sync returned
	// nil; until then a crash may keep any subset of its sectors.
	WriteAt(p []byte, off int64) error
	// Sync makes every write that returned before the call durable. After an
	// error nothing may be assumed of any write since the last good Sync, also
	// if a later Sync succeeds.
	Sync() error
	// Discard tells the device that a range is not needed. Its content is
	// undefined until written.
	Discard(off, n int64) error
}

// Prompt is a Device that knows what it can read without waiting for its
// medium. A device in memory need not be one.
type Prompt interface {
	// ReadNow fills p from off and returns true, or returns false at once if
	// that would wait or fail; then p holds anything.
	ReadNow(p []byte, off int64) bool
}

// SyncWriter is a Device that writes and makes durable in one step.
type SyncWriter interface {
	// WriteSync is WriteAt of a write that is durable when it returns nil. It
	// says nothing of other writes.
	WriteSync(p []byte, off int64) error
}

// Medium is a Device with caches of its own, or of the system, in front of it.
type Medium interface {
	// ReadMedium is ReadAt of what the medium has, not of what a cache still
	// remembers. Writes that have not been synced may be missing.
	ReadMedium(p []byte, off int64) error
}
