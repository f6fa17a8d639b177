// Package record is the unit of the log: one logged write or control step of a
// volume, identified for ever by its LSN. The same record, byte for byte, is
// what the writer makes, the network carries, every replica's log holds and
// recovery replays. Pure: values and their coding only.
//
// Rules: STORE §1. The coding is docs/format/record.md.
package record

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// Kind says what a record does.
type Kind uint8

// The kinds of record.
const (
	Write      Kind = 1 // Count blocks of data, one hash each
	Zero       Kind = 2 // Count blocks become zero (TRIM and WRITE_ZEROES): tombstones
	EpochStart Kind = 3 // first record of an epoch: History
	Snapshot   Kind = 4 // the head as of this LSN is kept as Snapshot
	Revert     Kind = 5 // the head becomes Snapshot's root again
	DropSnap   Kind = 6 // Snapshot is no longer kept
	Grow       Kind = 7 // the volume has Blocks blocks from now on
)

// MaxBlocks bounds the blocks of one Write record; MaxZero those of one Zero.
const (
	MaxBlocks = 256
	MaxZero   = 1 << 30
)

// Start is what an EpochStart record says; together a volume's starts are its
// epoch history.
type Start struct {
	Epoch      holdfast.Epoch // the epoch that begins
	Prev       holdfast.Epoch // the epoch before it in this history
	Cut        holdfast.LSN   // last LSN of the history before; everything above was dropped
	Generation uint32         // cache generation
}

// Record is one record. A data record of n blocks takes the LSNs LSN … LSN+n-1,
// one per block in order of address; a control record takes one.
type Record struct {
	Kind     Kind
	LSN      holdfast.LSN
	Addr     uint64              // Write, Zero: first block
	Count    uint32              // Write, Zero: blocks; else 0
	Hashes   []uint64            // Write: checksum.Block of each block as it is stored
	Data     []byte              // Write: what is stored of Count blocks, one after the other; the hashes tell how long each is
	Start    Start               // EpochStart
	Snapshot holdfast.SnapshotID // Snapshot, Revert, DropSnap
	Blocks   uint64              // Grow
}

// Last returns the last LSN the record takes.
func (r *Record) Last() holdfast.LSN {
	if r.Count > 0 {
		return r.LSN + holdfast.LSN(r.Count-1)
	}
	return r.LSN
}

// Cut divides a data record in front of its block n, 0 < n < Count. A block's
// LSN, address, hash and stored bytes stay its own. The parts share memory with r.
func (r *Record) Cut(n uint32) (front, back Record) {
	front, back = *r, *r
	front.Count, back.Count = n, r.Count-n
	back.LSN += holdfast.LSN(n)
	back.Addr += uint64(n)
	if r.Kind == Write {
		at := checksum.Length(r.Hashes[:n])
		front.Hashes, back.Hashes = r.Hashes[:n:n], r.Hashes[n:]
		front.Data, back.Data = r.Data[:at:at], r.Data[at:]
	}
	return front, back
}

// Follows reports whether r is the record after prev in one history: the next
// LSN of the same epoch, or the start of a later epoch cut exactly at prev.
func (r *Record) Follows(prev holdfast.LSN) bool {
	if r.Kind == EpochStart {
		return r.Start.Cut == prev && r.LSN > prev
	}
	return r.LSN == prev+1 && r.LSN.Epoch() == prev.Epoch()
}

// HeaderSize is the fixed part of an encoded record header; a Write is followed
// by 8 bytes of hash per block.
const HeaderSize = 48

// AppendHeader appends the encoding of everything but Data.
func (r *Record) AppendHeader(b []byte) []byte {
	var h [HeaderSize]byte
	h[0] = byte(r.Kind)
	le := binary.LittleEndian
	le.PutUint32(h[4:], r.Count)
	le.PutUint64(h[8:], uint64(r.LSN))
	switch r.Kind {
	case Write, Zero:
		le.PutUint64(h[16:], r.Addr)
	case EpochStart:
		le.PutUint32(h[16:], uint32(r.Start.Epoch))
		le.PutUint32(h[20:], uint32(r.Start.Prev))
		le.PutUint64(h[24:], uint64(r.Start.Cut))
		le.PutUint32(h[32:], r.Start.Generation)
	case Snapshot, Revert, DropSnap:
		copy(h[16:32], r.Snapshot.UUID[:])
	case Grow:
		le.PutUint64(h[16:], r.Blocks)
	}
	b = append(b, h[:]...)
	for _, x := range r.Hashes {
		b = le.AppendUint64(b, x)
	}
	return b
}

// DecodeHeader reads one header from the front of b and returns what follows
// it. Data is left nil. Every field is checked; hostile bytes give an error of
// kind Invalid.
func DecodeHeader(b []byte) (r Record, rest []byte, err error) {
	var hashes []uint64
	return DecodeHeaderInto(b, &hashes)
}

// DecodeHeaderInto is DecodeHeader with the hashes appended to a slice of the
// caller's, who may use it again when the record is of no more use.
func DecodeHeaderInto(b []byte, hashes *[]uint64) (r Record, rest []byte, err error) {
	if len(b) < HeaderSize {
		return r, nil, holdfast.Errorf(holdfast.Invalid, "record header: %d bytes, need %d", len(b), HeaderSize)
	}
	le := binary.LittleEndian
	h := b[:HeaderSize]
	rest = b[HeaderSize:]
	r.Kind = Kind(h[0])
	r.Count = le.Uint32(h[4:])
	r.LSN = holdfast.LSN(le.Uint64(h[8:]))
	bad := func(what string) (Record, []byte, error) {
		return Record{}, nil, holdfast.Errorf(holdfast.Invalid, "record header: %s (kind %d, lsn %v, count %d)", what, h[0], r.LSN, r.Count)
	}
	if h[1]|h[2]|h[3] != 0 {
		return bad("reserved bytes are set")
	}
	if r.Kind != Write && r.Kind != Zero && r.Count != 0 {
		return bad("a control record has a block count")
	}
	if !zero(h[used(r.Kind):]) {
		return bad("unused bytes are set")
	}
	switch r.Kind {
	case Write, Zero:
		r.Addr = le.Uint64(h[16:])
		limit := uint32(MaxBlocks)
		if r.Kind == Zero {
			limit = MaxZero
		}
		if r.Count == 0 || r.Count > limit {
			return bad("block count out of range")
		}
		if r.Addr > holdfast.MaxVolumeBlocks || r.Addr+uint64(r.Count) > holdfast.MaxVolumeBlocks {
			return bad(fmt.Sprintf("address %d is beyond the largest volume", r.Addr))
		}
		if uint64(r.Count-1) > holdfast.MaxCounter-r.LSN.Counter() {
			return bad("the record runs over the end of its epoch")
		}
		if r.Kind == Write {
			if len(rest) < 8*int(r.Count) {
				return bad("hashes are cut off")
			}
			n := len(*hashes)
			*hashes = slices.Grow(*hashes, int(r.Count))[:n+int(r.Count)]
			r.Hashes = (*hashes)[n : n+int(r.Count) : n+int(r.Count)]
			for i := range r.Hashes {
				if r.Hashes[i] = le.Uint64(rest[8*i:]); !checksum.Proper(r.Hashes[i]) {
					return bad("a hash is of no length that is stored")
				}
			}
			rest = rest[8*r.Count:]
		}
	case EpochStart:
		e, p := le.Uint32(h[16:]), le.Uint32(h[20:])
		r.Start = Start{holdfast.Epoch(e), holdfast.Epoch(p), holdfast.LSN(le.Uint64(h[24:])), le.Uint32(h[32:])}
		if e > uint32(holdfast.MaxEpoch) || p >= e && e != 0 || r.Start.Cut.Epoch() >= r.Start.Epoch || r.LSN != holdfast.MakeLSN(r.Start.Epoch, 0) {
			return bad("epoch start does not rise")
		}
	case Snapshot, Revert, DropSnap:
		copy(r.Snapshot.UUID[:], h[16:32])
	case Grow:
		r.Blocks = le.Uint64(h[16:])
		if r.Blocks == 0 || r.Blocks > holdfast.MaxVolumeBlocks {
			return bad("volume size out of range")
		}
	default:
		return bad("unknown kind")
	}
	return r, rest, nil
}

// used is how many bytes of the fixed part a kind has a meaning for; the rest
// is zero, so that a record has one encoding only.
func used(k Kind) int {
	switch k {
	case Write, Zero, Grow:
		return 24
	case EpochStart:
		return 36
	}
	return 32
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
