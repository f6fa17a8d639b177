// Package qcow2 reads and writes QCOW2 disk images without QEMU
// (docs/format/qcow2.md; the format is QEMU's docs/interop/qcow2.rst). A File
// is read in any order and may be hostile; Map writes a file front to back, and
// a Stream reads such a one so; a Packer writes a compressed one. It knows no
// files of the system, only readers and writers.
package qcow2

import (
	"io"

	"github.com/holdfast-cloud/holdfast"
)

// magic is what every file begins with.
const magic = "QFI\xfb"

// Bits of incompatible features.
const (
	bitDirty = iota
	bitCorrupt
	bitExternalData
	bitCompressionType
	bitExtendedL2
)

// Bounds on what a header may say.
const (
	minClusterBits = 9
	maxClusterBits = 21
	maxL1Bytes     = 32 << 20
	maxName        = 1023 // bytes of a backing file's name
	headerV2       = 72   // bytes
	headerV3       = 104  // at least
	extendedBits   = 14   // of a cluster with extended L2 entries, at least
	subclusters    = 32
	sector         = 512
)

// Bits of L1 and L2 entries.
const (
	flagCopied     = 1 << 63
	flagCompressed = 1 << 62
	flagZero       = 1
	offsetMask     = 0x00fffffffffffe00
)

// Disk is what an image can be laid on: read in any order.
type Disk interface {
	io.ReaderAt
	// Size in bytes.
	Size() int64
	// NextData returns the first stretch at or after off that may hold data:
	// what is passed over reads as zero. Both are Size() if there is none.
	NextData(off int64) (from, to int64, err error)
}

// bad makes an error about what a file says.
func bad(format string, args ...any) error {
	return holdfast.Errorf(holdfast.Invalid, "this QCOW2 image is damaged or not one: "+format, args...)
}
