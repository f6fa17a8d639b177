package replica

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
)

// DigestAsk asks what a pinned root holds, from address From on, a stretch of
// DigestSpan addresses in one number each: of the blocks in which it differs
// from Against, and that are not above the Ask's Upto.
type DigestAsk struct {
	Pin     uint64
	From    uint64              // a multiple of DigestSpan
	Root    holdfast.SnapshotID // zero: the head
	Against holdfast.SnapshotID // zero: every block counts
}

// DigestSpan is how many addresses a digest covers, MaxDigests how many of them
// a frame carries. The entries of a stretch fit into a frame.
const (
	DigestSpan = 512
	MaxDigests = 4096
)

const digestAskSize = 8 + 8 + 16 + 16

// AppendTo appends the coding of d.
func (d *DigestAsk) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, d.Pin)
	b = binary.LittleEndian.AppendUint64(b, d.From)
	return append(append(b, d.Root.UUID[:]...), d.Against.UUID[:]...)
}

// DecodeDigestAsk reads a DigestAsk.
func DecodeDigestAsk(b []byte) (d DigestAsk, err error) {
	if len(b) != digestAskSize {
		return d, short("digest request", len(b), digestAskSize)
	}
	d.Pin, d.From = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	copy(d.Root.UUID[:], b[16:])
	copy(d.Against.UUID[:], b[32:])
	if d.From%DigestSpan != 0 || d.From > holdfast.MaxVolumeBlocks {
		return d, holdfast.Errorf(holdfast.Invalid, "replica digest request: it begins at block %d, which is out of range or in the middle of a stretch", d.From)
	}
	return d, nil
}

// Digest is a stretch of DigestSpan addresses.
type Digest struct {
	Addr   uint64 // where it begins
	Blocks uint64 // that it covers
	Newer  uint64 // that are above Upto, and left out; with Blocks 1 to DigestSpan
	Sum    uint64
}

const digestSize = 4 * 8

// Digests is the answer to a DigestAsk: ascending; stretches of which there is
// nothing to tell are left out. All below Next is told, and with More it goes on
// there.
type Digests struct {
	Next uint64
	More bool
	List []Digest
}

// AppendTo appends the coding of d: its front, and its list as bulk.
func (d *Digests) AppendTo(head, bulk []byte) ([]byte, []byte) {
	front := Page{Next: d.Next, More: d.More}
	le := binary.LittleEndian
	for _, x := range d.List {
		bulk = le.AppendUint64(le.AppendUint64(bulk, x.Addr), x.Blocks)
		bulk = le.AppendUint64(le.AppendUint64(bulk, x.Newer), x.Sum)
	}
	return front.AppendTo(head), bulk
}

// DecodeDigests reads Digests that go on from an address.
func DecodeDigests(head, bulk []byte, from uint64) (d Digests, err error) {
	front, rest, err := DecodePage(head)
	if err != nil {
		return d, err
	}
	if len(rest) != 0 || len(bulk)%digestSize != 0 || len(bulk)/digestSize > MaxDigests {
		return d, holdfast.Errorf(holdfast.Invalid, "replica digests: %d bytes are no list of at most %d digests", len(bulk), MaxDigests)
	}
	d.Next, d.More = front.Next, front.More
	if d.Next%DigestSpan != 0 || d.Next < from || d.More && d.Next == from {
		return Digests{}, holdfast.Errorf(holdfast.Invalid, "replica digests: from block %d on they go on at %d", from, d.Next)
	}
	le := binary.LittleEndian
	at := from
	for ; len(bulk) > 0; bulk = bulk[digestSize:] {
		x := Digest{le.Uint64(bulk), le.Uint64(bulk[8:]), le.Uint64(bulk[16:]), le.Uint64(bulk[24:])}
		few := x.Blocks <= DigestSpan && x.Newer <= DigestSpan && x.Blocks+x.Newer-1 < DigestSpan // and not none
		if x.Addr < at || x.Addr%DigestSpan != 0 || x.Addr >= d.Next || !few {
			return Digests{}, holdfast.Errorf(holdfast.Invalid, "replica digests: %d and %d blocks from %d on are out of order", x.Blocks, x.Newer, x.Addr)
		}
		at = x.Addr + DigestSpan
		d.List = append(d.List, x)
	}
	return d, nil
}

// DecodeEntries reads what a map says of the blocks of one stretch, which begins
// at from: ascending. A hash may be any: that it is a wrong one is to be told.
func DecodeEntries(b []byte, from uint64) (out []Block, err error) {
	if len(b)%blockSize != 0 || len(b)/blockSize > DigestSpan {
		return nil, holdfast.Errorf(holdfast.Invalid, "replica entries: %d bytes are no list of at most %d entries", len(b), DigestSpan)
	}
	at, end := from, from+DigestSpan
	for ; len(b) > 0; b = b[blockSize:] {
		k := decodeBlock(b)
		if k.Addr < at || k.Addr >= end || k.LSN == 0 || k.Lost == k.Hole {
			return nil, holdfast.Errorf(holdfast.Invalid, "replica entries: block %d of %v is out of order", k.Addr, k.LSN)
		}
		at = k.Addr + 1
		out = append(out, k)
	}
	return out, nil
}
