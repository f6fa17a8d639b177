package store

import "github.com/holdfast-cloud/holdfast"

// Opener turns what is stored of a block back into the block, where a volume's
// keys are: at its writer. The store itself only knows stored bytes.
type Opener interface {
	// Plain reports whether a block that was written as a volume and is stored in
	// holdfast.BlockSize bytes is stored as it is.
	Plain(origin holdfast.VolumeID) bool
	// Open puts the block of a stored form into dst; they do not overlap.
	Open(dst, stored []byte, origin holdfast.VolumeID, addr uint64, lsn holdfast.LSN) error
}

// asIs opens only what is stored as it is.
type asIs struct{}

func (asIs) Plain(holdfast.VolumeID) bool { return true }

func (asIs) Open(_, _ []byte, origin holdfast.VolumeID, addr uint64, _ holdfast.LSN) error {
	return holdfast.Errorf(holdfast.Unavailable, "block %d of volume %s is compressed or encrypted; only the volume's writer can read it", addr, origin)
}
