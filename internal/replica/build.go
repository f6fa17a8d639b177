package replica

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// Root is a snapshot of a volume as two hosts speak of it. (ID, LSN) names one
// content for ever.
type Root struct {
	ID     holdfast.SnapshotID
	LSN    holdfast.LSN
	Blocks uint64              // size in blocks
	Parent holdfast.SnapshotID // the nearest snapshot that its content descends from; zero: none
	Aside  bool                // it was received and belongs to no head yet
}

const rootSize = 16 + 8 + 8 + 16 + 8

// MaxRoots bounds the snapshots of a volume that travel. Lists of them travel as
// a frame's bulk.
const MaxRoots = 24_000

// AppendTo appends the coding of r.
func (r *Root) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, r.ID.UUID[:]...)
	b = le.AppendUint64(b, uint64(r.LSN))
	b = le.AppendUint64(b, r.Blocks)
	b = append(b, r.Parent.UUID[:]...)
	var flags uint64
	if r.Aside {
		flags = 1
	}
	return le.AppendUint64(b, flags)
}

func decodeRoot(b []byte) (r Root, rest []byte, err error) {
	if len(b) < rootSize {
		return r, nil, short("root", len(b), rootSize)
	}
	le := binary.LittleEndian
	copy(r.ID.UUID[:], b)
	r.LSN, r.Blocks = holdfast.LSN(le.Uint64(b[16:])), le.Uint64(b[24:])
	copy(r.Parent.UUID[:], b[32:])
	r.Aside = le.Uint64(b[48:])&1 != 0
	if r.ID.IsZero() || r.Blocks == 0 || r.Blocks > holdfast.MaxVolumeBlocks {
		return r, nil, holdfast.Errorf(holdfast.Invalid, "replica root: %d blocks at %v are out of range", r.Blocks, r.LSN)
	}
	return r, b[rootSize:], nil
}

// AppendRoots and DecodeRoots code a list of roots.
func AppendRoots(b []byte, roots []Root) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(roots)))
	for i := range roots {
		b = roots[i].AppendTo(b)
	}
	return b
}

// DecodeRoots reads what AppendRoots wrote and returns what follows it.
func DecodeRoots(b []byte) (roots []Root, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, short("roots", len(b), 4)
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > MaxRoots {
		return nil, nil, holdfast.Errorf(holdfast.Invalid, "replica roots: %d, at most %d are allowed", n, MaxRoots)
	}
	for range n {
		var r Root
		if r, b, err = decodeRoot(b); err != nil {
			return nil, nil, err
		}
		roots = append(roots, r)
	}
	return roots, b, nil
}

// FromKind says what a root or a head that is sent begins as at its receiver.
type FromKind uint8

// The kinds of a Start.
const (
	FromNothing  FromKind = iota
	FromHead              // the receiver's own content up to At
	FromSnapshot          // a snapshot that it has, of LSN At
	FromOrigin            // what the volume, a linked clone, was made of: a replica on its disk
)

// From is what a root or a head that is sent begins as at its receiver: only
// what differs from that is sent.
type From struct {
	Kind     FromKind
	At       holdfast.LSN
	Snapshot holdfast.SnapshotID // FromOrigin: of the origin, zero: its head
	Origin   holdfast.ReplicaID
}

const fromSize = 8 + 8 + 16 + 16

// AppendTo appends the coding of s.
func (s *From) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(s.Kind))
	b = le.AppendUint64(b, uint64(s.At))
	return append(append(b, s.Snapshot.UUID[:]...), s.Origin.UUID[:]...)
}

func decodeFrom(b []byte) (s From, rest []byte, err error) {
	if len(b) < fromSize {
		return s, nil, short("from", len(b), fromSize)
	}
	le := binary.LittleEndian
	if k := le.Uint64(b); k > uint64(FromOrigin) {
		return s, nil, holdfast.Errorf(holdfast.Invalid, "replica from: kind %d is not known", k)
	}
	s.Kind, s.At = FromKind(le.Uint64(b)), holdfast.LSN(le.Uint64(b[8:]))
	copy(s.Snapshot.UUID[:], b[16:])
	copy(s.Origin.UUID[:], b[32:])
	return s, b[fromSize:], nil
}

// RootBuild is the argument of the root frames.
type RootBuild struct {
	Root
	From From
}

// AppendTo appends the coding of d.
func (d *RootBuild) AppendTo(b []byte) []byte { return d.From.AppendTo(d.Root.AppendTo(b)) }

// DecodeRootBuild reads a RootBuild.
func DecodeRootBuild(b []byte) (d RootBuild, err error) {
	if d.Root, b, err = decodeRoot(b); err == nil {
		d.From, _, err = decodeFrom(b)
	}
	return d, err
}

// Build is the argument of KindBuildBegin.
type Build struct {
	Base     holdfast.LSN // the live stream continues from here
	Reverted holdfast.LSN // the volume's last revert
	Blocks   uint64       // the volume's size as of Base: a snapshot in the live stream has it, or what the stream says
	From     From         // what the head begins as
	Roots    []Root       // the volume's snapshots as of Base, which are all there
}

// AppendTo appends the coding of d.
func (d *Build) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(d.Base))
	b = le.AppendUint64(b, uint64(d.Reverted))
	b = le.AppendUint64(b, d.Blocks)
	return AppendRoots(d.From.AppendTo(b), d.Roots)
}

// DecodeBuild reads a Build.
func DecodeBuild(b []byte) (d Build, err error) {
	if len(b) < 24 {
		return d, short("build", len(b), 24)
	}
	le := binary.LittleEndian
	d.Base, d.Reverted, d.Blocks = holdfast.LSN(le.Uint64(b)), holdfast.LSN(le.Uint64(b[8:])), le.Uint64(b[16:])
	if d.Blocks > holdfast.MaxVolumeBlocks {
		return d, holdfast.Errorf(holdfast.Invalid, "replica build: %d blocks are more than the largest volume", d.Blocks)
	}
	if d.From, b, err = decodeFrom(b[24:]); err == nil {
		d.Roots, _, err = DecodeRoots(b)
	}
	return d, err
}

// BuildEnd is the argument of KindBuildEnd.
type BuildEnd struct {
	Blocks  uint64 // size of the volume, for hosts of earlier versions: sizes follow the records
	History []record.Start
}

// AppendTo appends the coding of d.
func (d *BuildEnd) AppendTo(b []byte) []byte {
	return AppendHistory(binary.LittleEndian.AppendUint64(b, d.Blocks), d.History)
}

// DecodeBuildEnd reads a BuildEnd.
func DecodeBuildEnd(b []byte) (d BuildEnd, err error) {
	if len(b) < 8 {
		return d, short("build's end", len(b), 8)
	}
	if d.Blocks = binary.LittleEndian.Uint64(b); d.Blocks > holdfast.MaxVolumeBlocks {
		return d, holdfast.Errorf(holdfast.Invalid, "replica build: %d blocks are more than the largest volume", d.Blocks)
	}
	d.History, _, err = DecodeHistory(b[8:])
	return d, err
}
