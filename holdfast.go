// Package holdfast is the vocabulary of Holdfast: the identifiers, numbers,
// flags and error kinds that every other package shares. It holds values and
// their printing, parsing and order, and nothing else; it imports only the
// standard library, starts no goroutine and reads no clock.
//
// The words are fixed by docs/ARCHITECTURE.md, "Words": site, rack, host,
// disk, pool, volume, replica, in-sync set, epoch, LSN, record, segment,
// snapshot, clone, image, export, VM, machine, lease, fence, rebuild, resync.
package holdfast

// BlockSize is the unit of the store in bytes: every 4 KiB block is hashed,
// mapped and replicated alone. Addresses inside a volume count blocks.
const BlockSize = 4096

// What is stored of a block is a multiple of StoredUnit bytes and at most
// MaxStoredUnits of them: less than the block if it was compressed, one unit
// more if it was encrypted and could not be.
const (
	StoredUnit     = 512
	MaxStoredUnits = 9
)

// MaxVolumeBlocks bounds a volume to 64 TiB.
const MaxVolumeBlocks = 64 << 40 / BlockSize

// MaxIO is the longest single read or write, in bytes, that an export may
// hand down. Longer requests are refused, not split, at the protocol edge.
const MaxIO = 32 << 20
