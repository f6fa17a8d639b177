package blockmap

import "github.com/holdfast-cloud/holdfast"

// Entry says what the map knows of one block.
//
//	LSN == 0               never written: the zero Entry
//	LSN != 0 && Seg == 0   tombstone: reads as zero since that LSN
//	otherwise              stored in slot Slot of segment Seg
type Entry struct {
	LSN    holdfast.LSN // record that last wrote the block
	Hash   uint64       // checksum.Block of the stored bytes
	Seg    uint32       // segment, from 1
	Slot   uint16       // place in the segment's slot directory
	Origin uint16       // which volume the block was written as; the owner keeps the table
}

// Stored reports whether the block has bytes on disk.
func (e Entry) Stored() bool { return e.Seg != 0 }

// Hole reports whether the block reads as zero because a record said so.
func (e Entry) Hole() bool { return e.LSN != 0 && e.Seg == 0 }

// valid reports whether e is one of the three kinds above, exactly.
func (e Entry) valid() bool {
	switch {
	case e.LSN == 0:
		return e == Entry{}
	case e.Seg == 0:
		return e.Hash == 0 && e.Slot == 0
	}
	return true
}

// at returns the entry of the i-th block of a run that begins with e: the LSNs
// of a range of tombstones rise by one per block, as those of a record do.
func (e Entry) at(i uint64) Entry {
	if e.Hole() {
		e.LSN += holdfast.LSN(i)
	}
	return e
}

const (
	fanBits = 9
	// Fan is the number of entries of a leaf and of slots of an inner page.
	Fan = 1 << fanBits
	// maxLevel is the level of the root page of the largest volume.
	maxLevel = 3
)

// span is the number of blocks below a page of a level.
func span(level int) uint64 { return 1 << (fanBits * (level + 1)) }

// index is where addr falls in a page of a level.
func index(addr uint64, level int) int {
	return int(addr>>(fanBits*level)) & (Fan - 1)
}

// levelFor is the level of the root page of a map of blocks blocks.
func levelFor(blocks uint64) int {
	l := 0
	for span(l) < blocks {
		l++
	}
	return l
}

type (
	leaf  [Fan]Entry // no pointers: the collector never looks inside
	inner [Fan]slot
)

// slot is an inner page's view of one child.
//
//	max == 0               empty: nothing below was ever written
//	max != 0 && page == 0  hole: block i of the span has LSN max-(span-1)+i
//	otherwise              the page with that handle
type slot struct {
	max    holdfast.LSN
	page   handle
	origin uint16 // of a hole
}

// holeEntry is the tombstone of the block at offset off below a hole slot.
func (s slot) holeEntry(level int, off uint64) Entry {
	return Entry{LSN: s.max - holdfast.LSN(span(level)-1-off), Origin: s.origin}
}

// holeSlot is the slot of a span of tombstones whose first block has LSN first.
func holeSlot(level int, first holdfast.LSN, origin uint16) slot {
	return slot{max: first + holdfast.LSN(span(level)-1), origin: origin}
}

// child is the i-th slot below s, where s itself is empty or a hole.
func (s slot) child(level, i int) slot {
	if s.max == 0 {
		return slot{}
	}
	below := span(level - 1)
	return slot{max: s.max - holdfast.LSN(uint64(Fan-1-i)*below), origin: s.origin}
}
