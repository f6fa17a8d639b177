package replica

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
)

// RootRef names one side of a comparison: a snapshot, the head (zero), or with
// Nothing a volume in which nothing was ever written.
type RootRef struct {
	Snapshot holdfast.SnapshotID
	Nothing  bool
}

// DiffAsk asks which blocks of To, from address Addr on, do not hold what From
// holds: at most Max extents.
type DiffAsk struct {
	From, To RootRef
	Addr     uint64
	Max      uint32
}

// MaxExtents bounds the extents in one frame.
const MaxExtents = 2048

const diffAskSize = 2*(16+8) + 8 + 4

func (r *RootRef) appendTo(b []byte) []byte {
	var flags uint64
	if r.Nothing {
		flags = 1
	}
	return binary.LittleEndian.AppendUint64(append(b, r.Snapshot.UUID[:]...), flags)
}

func (r *RootRef) decode(b []byte) {
	copy(r.Snapshot.UUID[:], b)
	r.Nothing = binary.LittleEndian.Uint64(b[16:])&1 != 0
}

// AppendTo appends the coding of d.
func (d *DiffAsk) AppendTo(b []byte) []byte {
	b = d.To.appendTo(d.From.appendTo(b))
	b = binary.LittleEndian.AppendUint64(b, d.Addr)
	return binary.LittleEndian.AppendUint32(b, d.Max)
}

// DecodeDiffAsk reads a DiffAsk.
func DecodeDiffAsk(b []byte) (d DiffAsk, err error) {
	if len(b) != diffAskSize {
		return d, short("comparison", len(b), diffAskSize)
	}
	d.From.decode(b)
	d.To.decode(b[24:])
	d.Addr, d.Max = binary.LittleEndian.Uint64(b[48:]), binary.LittleEndian.Uint32(b[56:])
	if d.Max == 0 || d.Max > MaxExtents || d.Addr > holdfast.MaxVolumeBlocks {
		return d, holdfast.Errorf(holdfast.Invalid, "replica comparison: %d extents from block %d on are out of range", d.Max, d.Addr)
	}
	return d, nil
}

// Extent is a stretch of blocks that differ.
type Extent struct {
	Addr, Blocks uint64
	Hole         bool // they read as zero now
}

// Diff is the answer to a DiffAsk: ascending extents, and where to go on; Size
// is the size of To in blocks, at which it is over.
type Diff struct {
	Next, Size uint64
	Extents    []Extent
}

const extentSize = 8 + 8 + 8

// AppendTo appends the coding of d.
func (d *Diff) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(le.AppendUint64(b, d.Next), d.Size)
	for _, e := range d.Extents {
		var flags uint64
		if e.Hole {
			flags = 1
		}
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, e.Addr), e.Blocks), flags)
	}
	return b
}

// DecodeDiff reads a Diff.
func DecodeDiff(b []byte) (d Diff, err error) {
	le := binary.LittleEndian
	if len(b) < 16 || (len(b)-16)%extentSize != 0 || (len(b)-16)/extentSize > MaxExtents {
		return d, short("differences", len(b), 16)
	}
	d.Next, d.Size = le.Uint64(b), le.Uint64(b[8:])
	at := uint64(0)
	for b = b[16:]; len(b) > 0; b = b[extentSize:] {
		e := Extent{Addr: le.Uint64(b), Blocks: le.Uint64(b[8:]), Hole: le.Uint64(b[16:])&1 != 0}
		if e.Addr < at || e.Blocks == 0 || e.Addr > d.Next || e.Blocks > d.Next-e.Addr {
			return Diff{}, holdfast.Errorf(holdfast.Invalid, "replica differences: blocks %d+%d are out of order", e.Addr, e.Blocks)
		}
		at = e.Addr + e.Blocks
		d.Extents = append(d.Extents, e)
	}
	if d.Next > d.Size || d.Size > holdfast.MaxVolumeBlocks {
		return Diff{}, holdfast.Errorf(holdfast.Invalid, "replica differences: they go on at block %d of %d", d.Next, d.Size)
	}
	return d, nil
}
