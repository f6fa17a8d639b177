// Package checksum is the two sums that Holdfast stores: a seeded 64-bit hash
// of every block (STORE §4) and CRC32C over headers and metadata. Pure: no
// state, no allocation, the same result on every machine.
package checksum

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/zeebo/xxh3"

	"github.com/holdfast-cloud/holdfast"
)

// Block returns the hash of what is stored of one block: XXH3-64 of data under a
// seed made from the block's origin, which is the volume, the address and the
// LSN that it was first written with. A block that rots fails, and so does a
// whole and healthy one that is found where another belongs: at another address
// (misdirected), of another LSN (stale) or of another volume (swapped).
//
// Its lowest 4 bits are not of XXH3: they are the length of data in units of
// holdfast.StoredUnit, so that whoever has the hash of a block knows how much
// there is to read (adr/0041). It is never 0, which stands for "no hash" in maps
// and records. data is 1 to holdfast.MaxStoredUnits whole units long; any other
// length gives a hash that nothing has.
func Block(vol holdfast.VolumeID, addr uint64, lsn holdfast.LSN, data []byte) uint64 {
	units := uint64(len(data) / holdfast.StoredUnit)
	if len(data)%holdfast.StoredUnit != 0 || units > holdfast.MaxStoredUnits {
		units = 0
	}
	return xxh3.HashSeed(data, seed(vol, addr, lsn))&^unitBits | units
}

const unitBits = 15

// Units is the length of the stored block of a hash, in units. Hashes that come
// from outside may say anything: see Proper.
func Units(hash uint64) int { return int(hash & unitBits) }

// Proper reports whether a hash can be that of a stored block.
func Proper(hash uint64) bool {
	return hash&unitBits >= 1 && hash&unitBits <= holdfast.MaxStoredUnits
}

// Raw is the number of units of a block that is stored as it is.
const Raw = holdfast.BlockSize / holdfast.StoredUnit

// Length is the number of bytes that are stored of blocks of these hashes.
func Length(hashes []uint64) int {
	n := 0
	for _, h := range hashes {
		n += Units(h)
	}
	return n * holdfast.StoredUnit
}

// AllRaw reports whether all blocks of these hashes are stored as they are, or
// as long as if they were.
func AllRaw(hashes []uint64) bool {
	for _, h := range hashes {
		if h&unitBits != Raw {
			return false
		}
	}
	return true
}

// seed mixes the origin into 64 bits. Each step is a bijection of its running
// value, so two origins that differ in one field alone never share a seed.
func seed(vol holdfast.VolumeID, addr uint64, lsn holdfast.LSN) uint64 {
	x := mix(binary.LittleEndian.Uint64(vol.UUID[:8]))
	x = mix(x ^ binary.LittleEndian.Uint64(vol.UUID[8:]))
	x = mix(x ^ addr)
	return mix(x ^ uint64(lsn))
}

// Entry is one number for what a block map says of the block at addr: where it
// was first written and its hash. With n above 0 it is one for a run of n blocks
// of consecutive LSNs without data, or without an LSN of n that were never
// written. Sums of such numbers tell two maps apart that chance made different,
// not somebody who is after two that look alike.
func Entry(vol holdfast.VolumeID, addr uint64, lsn holdfast.LSN, hash, n uint64) uint64 {
	return mix(mix(seed(vol, addr, lsn)^hash) ^ n)
}

// mix is the finalizer of SplitMix64 over an odd offset: invertible, and every
// input bit reaches every output bit.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// castagnoli is never written after start-up.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC returns the CRC32C (RFC 3720 appendix B.4) of b. It guards headers and
// metadata pages against torn and rotten writes, not blocks.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
