package replica

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
)

// Pinned is a member's answer to KindPin: roots it keeps for a writer without a
// replica of its own, until they are released or not asked for a while.
type Pinned struct {
	ID       uint64
	LSN      holdfast.LSN        // the prefix that the head shows
	Reverted holdfast.LSN        // no delta since an LSN below it is possible
	Parent   holdfast.SnapshotID // of the head, among Roots
	Roots    []Root
}

const pinnedSize = 3*8 + 16

// AppendTo appends the coding of p.
func (p *Pinned) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, p.ID)
	b = le.AppendUint64(b, uint64(p.LSN))
	b = le.AppendUint64(b, uint64(p.Reverted))
	return AppendRoots(append(b, p.Parent.UUID[:]...), p.Roots)
}

// DecodePinned reads a Pinned.
func DecodePinned(b []byte) (p Pinned, err error) {
	if len(b) < pinnedSize {
		return p, short("pin", len(b), pinnedSize)
	}
	le := binary.LittleEndian
	p.ID, p.LSN, p.Reverted = le.Uint64(b), holdfast.LSN(le.Uint64(b[8:])), holdfast.LSN(le.Uint64(b[16:]))
	copy(p.Parent.UUID[:], b[24:])
	p.Roots, _, err = DecodeRoots(b[pinnedSize:])
	return p, err
}

// PinPage asks for the next blocks of a pinned root: those of LSN above Since,
// or those in which it differs from Against, not above the Ask's Upto, from
// address From on, at most Max of them.
type PinPage struct {
	ID      uint64
	Since   holdfast.LSN
	From    uint64
	Max     uint32
	Root    holdfast.SnapshotID // zero: the head
	Against holdfast.SnapshotID // zero: Since counts
}

const pinPageSize = 3*8 + 4 + 2*16

// AppendTo appends the coding of p.
func (p *PinPage) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, p.ID)
	b = le.AppendUint64(b, uint64(p.Since))
	b = le.AppendUint64(b, p.From)
	b = le.AppendUint32(b, p.Max)
	return append(append(b, p.Root.UUID[:]...), p.Against.UUID[:]...)
}

// DecodePinPage reads a PinPage.
func DecodePinPage(b []byte) (p PinPage, err error) {
	if len(b) != pinPageSize {
		return p, short("pin page", len(b), pinPageSize)
	}
	le := binary.LittleEndian
	p.ID, p.Since, p.From, p.Max = le.Uint64(b), holdfast.LSN(le.Uint64(b[8:])), le.Uint64(b[16:]), le.Uint32(b[24:])
	copy(p.Root.UUID[:], b[28:])
	copy(p.Against.UUID[:], b[44:])
	if p.Max == 0 || p.Max > MaxBlocks || p.From > holdfast.MaxVolumeBlocks {
		return p, holdfast.Errorf(holdfast.Invalid, "replica pin page: %d blocks from %d on are out of range", p.Max, p.From)
	}
	return p, nil
}

// Page is the front of the answer to a PinPage; the blocks follow, as in
// KindRead.
type Page struct {
	Next uint64 // where the next page begins
	More bool
}

const pageSize = 8 + 8

// AppendTo appends the coding of p.
func (p *Page) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, p.Next)
	var flags uint64
	if p.More {
		flags = 1
	}
	return binary.LittleEndian.AppendUint64(b, flags)
}

// DecodePage reads a Page and returns the blocks' identities that follow.
func DecodePage(b []byte) (p Page, rest []byte, err error) {
	if len(b) < pageSize {
		return p, nil, short("page", len(b), pageSize)
	}
	le := binary.LittleEndian
	p.Next, p.More = le.Uint64(b), le.Uint64(b[8:])&1 != 0
	if p.Next > holdfast.MaxVolumeBlocks {
		return p, nil, holdfast.Errorf(holdfast.Invalid, "replica page: the next block, %d, is beyond the largest volume", p.Next)
	}
	return p, b[pageSize:], nil
}
