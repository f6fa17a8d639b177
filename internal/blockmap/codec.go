package blockmap

import (
	"encoding/binary"
	"math/bits"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// FormatVersion is the version of the page format, a date; docs/format/blockmap.md.
const FormatVersion = 20261121

const (
	pageMagic  = 0x504d4648 // "HFMP"
	pageHeader = 128        // fixed fields and the bitmap of used places
	bitmapAt   = 64

	entrySize      = 24
	entrySizeShort = 22 // the page says the origin
	slotSize       = 16

	flagOneOrigin = 1
	holeBit       = 1 << 63

	// MaxPageSize is the longest encoded page in bytes.
	MaxPageSize = pageHeader + Fan*entrySize
	// RootSize is the length of an encoded root in bytes.
	RootSize = 24
)

var le = binary.LittleEndian

// encodedSize is the length of a page's encoding.
func encodedSize(n *node) int {
	count := 0
	if n.inner != nil {
		for i := range n.inner {
			if n.inner[i].max != 0 {
				count++
			}
		}
		return pageHeader + count*slotSize
	}
	size := entrySizeShort
	if _, one := oneOrigin(n.leaf); !one {
		size = entrySize
	}
	for i := range n.leaf {
		if n.leaf[i].LSN != 0 {
			count++
		}
	}
	return pageHeader + count*size
}

// oneOrigin returns the origin of all entries of a leaf, if it is one.
func oneOrigin(l *leaf) (origin uint16, one bool) {
	seen := false
	for i := range l {
		switch {
		case l[i].LSN == 0:
		case !seen:
			origin, seen = l[i].Origin, true
		case l[i].Origin != origin:
			return 0, false
		}
	}
	return origin, true
}

// encode fills b, which has the length of encodedSize, with the page of s.
func (p *Pages) encode(b []byte, id PageID, s slot, level int, base uint64) {
	clear(b[:pageHeader])
	n := &p.nodes[s.page]
	var count int
	if n.leaf != nil {
		count = encodeLeaf(b, n.leaf)
	} else {
		count = p.encodeInner(b, n.inner)
	}
	le.PutUint32(b[0:], pageMagic)
	le.PutUint32(b[4:], FormatVersion)
	b[12] = byte(level)
	le.PutUint64(b[16:], uint64(id))
	le.PutUint64(b[24:], base)
	le.PutUint64(b[32:], uint64(s.max))
	le.PutUint32(b[40:], uint32(count))
	le.PutUint32(b[44:], uint32(len(b)))
	le.PutUint32(b[8:], checksum.CRC(b[12:]))
}

func encodeLeaf(b []byte, l *leaf) (count int) {
	origin, one := oneOrigin(l)
	if one {
		b[13] = flagOneOrigin
		le.PutUint16(b[14:], origin)
	}
	at := b[pageHeader:]
	for i := range l {
		e := &l[i]
		if e.LSN == 0 {
			continue
		}
		b[bitmapAt+i/8] |= 1 << (i % 8)
		le.PutUint64(at[0:], uint64(e.LSN))
		le.PutUint64(at[8:], e.Hash)
		le.PutUint32(at[16:], e.Seg)
		le.PutUint16(at[20:], e.Slot)
		if one {
			at = at[entrySizeShort:]
		} else {
			le.PutUint16(at[22:], e.Origin)
			at = at[entrySize:]
		}
		count++
	}
	return count
}

func (p *Pages) encodeInner(b []byte, in *inner) (count int) {
	at := b[pageHeader:]
	for i := range in {
		if in[i].max == 0 {
			continue
		}
		b[bitmapAt+i/8] |= 1 << (i % 8)
		le.PutUint64(at[0:], uint64(in[i].max))
		le.PutUint64(at[8:], p.word(in[i]))
		at = at[slotSize:]
		count++
	}
	return count
}

// word is the stored form of what a slot refers to: a page, a hole or nothing.
func (p *Pages) word(s slot) uint64 {
	switch {
	case s.max == 0:
		return 0
	case s.page == 0:
		return holeBit | uint64(s.origin)
	}
	return uint64(p.nodes[s.page].id)
}

// parseWord is the inverse of word for a slot of a page of a level above level.
func parseWord(max holdfast.LSN, w uint64, level int) (s slot, id PageID, ok bool) {
	switch {
	case w == 0 || max == 0:
		return slot{}, 0, w == 0 && max == 0
	case w&holeBit == 0:
		return slot{max: max}, PageID(w), true
	}
	s = slot{max: max, origin: uint16(w)}
	return s, 0, w&^uint64(holeBit) <= 0xffff && max.Counter() >= span(level)-1 && s.holeEntry(level, 0).LSN != 0
}

// decoded is an encoded page whose every field has been checked.
type decoded struct {
	b     []byte
	short bool
}

// decode checks an encoded page against itself and against what m expects. It
// accepts b longer than the page, since stores pad.
func decode(m *Miss, b []byte) (decoded, error) {
	if len(b) < pageHeader || le.Uint32(b) != pageMagic {
		return decoded{}, corrupt(m.ID, "it is not a page")
	}
	if v := le.Uint32(b[4:]); v != FormatVersion {
		return decoded{}, corrupt(m.ID, "its format is %d, this build reads %d; open it with the version that wrote it", v, FormatVersion)
	}
	size := int(le.Uint32(b[44:]))
	if size < pageHeader || size > MaxPageSize || size > len(b) {
		return decoded{}, corrupt(m.ID, "its length is %d of %d bytes", size, len(b))
	}
	b = b[:size]
	if got, want := checksum.CRC(b[12:]), le.Uint32(b[8:]); got != want {
		return decoded{}, corrupt(m.ID, "its checksum is %08x, it says %08x", got, want)
	}
	level, id, addr, max := int(b[12]), PageID(le.Uint64(b[16:])), le.Uint64(b[24:]), holdfast.LSN(le.Uint64(b[32:]))
	if level != m.Level || id != m.ID || !m.any && (addr != m.Addr || max != m.max) {
		return decoded{}, corrupt(m.ID, "expected level %d, block %d, highest LSN %v; found page %d, level %d, block %d, highest LSN %v",
			m.Level, m.Addr, m.max, id, level, addr, max)
	}
	d := decoded{b: b, short: b[13] == flagOneOrigin}
	if !d.shapely(level) || !d.sound(level, max) {
		return decoded{}, corrupt(m.ID, "its content contradicts itself")
	}
	return d, nil
}

// shapely reports whether the lengths and reserved fields of d agree.
func (d decoded) shapely(level int) bool {
	count := 0
	for _, w := range d.b[bitmapAt:pageHeader] {
		count += bits.OnesCount8(w)
	}
	for _, r := range d.b[48:bitmapAt] {
		if r != 0 {
			return false
		}
	}
	plain := d.b[13] == 0 && d.b[14] == 0 && d.b[15] == 0
	if level > 0 && !plain || !d.short && !plain {
		return false
	}
	return count == int(le.Uint32(d.b[40:])) && len(d.b) == pageHeader+count*d.itemSize(level)
}

func (d decoded) itemSize(level int) int {
	switch {
	case level > 0:
		return slotSize
	case d.short:
		return entrySizeShort
	}
	return entrySize
}

// sound reports whether every item of d is valid and the highest LSN is max.
func (d decoded) sound(level int, want holdfast.LSN) bool {
	var top holdfast.LSN
	ok := true
	if level == 0 {
		d.each(0, func(_ int, b []byte) {
			e := d.entry(b)
			ok = ok && e.LSN != 0 && e.valid()
			top = max(top, e.LSN)
		})
		return ok && top == want
	}
	d.each(level, func(_ int, b []byte) {
		s, id, good := parseWord(holdfast.LSN(le.Uint64(b)), le.Uint64(b[8:]), level-1)
		ok = ok && good && (s.max != 0 || id != 0)
		top = max(top, s.max)
	})
	return ok && top == want
}

// each calls f for every used place with its item.
func (d decoded) each(level int, f func(i int, item []byte)) {
	at, size := d.b[pageHeader:], d.itemSize(level)
	for i := range Fan {
		if d.b[bitmapAt+i/8]&(1<<(i%8)) != 0 {
			f(i, at[:size])
			at = at[size:]
		}
	}
}

func (d decoded) entry(b []byte) Entry {
	e := Entry{
		LSN:  holdfast.LSN(le.Uint64(b)),
		Hash: le.Uint64(b[8:]),
		Seg:  le.Uint32(b[16:]),
		Slot: le.Uint16(b[20:]),
	}
	if d.short {
		e.Origin = le.Uint16(d.b[14:])
	} else {
		e.Origin = le.Uint16(b[22:])
	}
	return e
}

// entries fills an empty leaf.
func (d decoded) entries(l *leaf) {
	d.each(0, func(i int, b []byte) { l[i] = d.entry(b) })
}

// slots calls f for every used slot until it returns false.
func (d decoded) slots(level int, f func(i int, s slot, id PageID) bool) {
	more := true
	d.each(level, func(i int, b []byte) {
		if more {
			s, id, _ := parseWord(holdfast.LSN(le.Uint64(b)), le.Uint64(b[8:]), level-1)
			more = f(i, s, id)
		}
	})
}
