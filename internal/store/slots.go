package store

import (
	"iter"
	"math/bits"
	"slices"
	"sort"
)

// slots is a set of slots of one segment. While all of it is blocks that are
// stored as they are, which keep to whole blocks, it has a bit per block; as soon
// as there is another it has a bit per unit. One that is thin is a list of runs.
// The zero value is empty.
type slots struct {
	words []uint32
	fine  bool // a bit per unit
	few   bool // words are runs: first slot << 16 | slots, ascending, none touches another
}

func newSlots(segBlocks uint32, fine bool) slots {
	ss := slots{fine: fine}
	ss.words = make([]uint32, ss.size(segBlocks))
	return ss
}

// size is how many words the set takes as bits.
func (ss *slots) size(segBlocks uint32) int {
	if ss.fine {
		segBlocks *= blockUnit
	}
	return int(segBlocks+31) / 32
}

// bit is the bit of a slot; the slot may be beyond the end.
func (ss *slots) bit(slot uint16) int {
	if ss.fine {
		return int(slot)
	}
	return int(slot / blockUnit)
}

func (ss *slots) has(slot uint16) bool {
	if ss.few {
		_, in := ss.stretch(slot, 1)
		return in
	}
	i := ss.bit(slot)
	return i < 32*len(ss.words) && ss.words[i/32]&(1<<(i%32)) != 0
}

// thin makes the set a list if that is no longer than half of its bits.
func (ss *slots) thin() {
	if ss.few || ss.words == nil {
		return
	}
	var room [maxSegmentBytes / unitSize / 32 / 2]uint32
	list := room[:0]
	for slot, n := range ss.runs() {
		if len(list) == len(ss.words)/2 {
			return
		}
		list = append(list, uint32(slot)<<16|uint32(n))
	}
	*ss = slots{fine: ss.fine, few: len(list) > 0}
	if ss.few {
		ss.words = append(make([]uint32, 0, len(list)), list...)
	}
}

// thicken makes a list a set of bits again.
func (ss *slots) thicken(segBlocks uint32) {
	out := newSlots(segBlocks, ss.fine)
	for slot, n := range ss.runs() {
		from, to := out.span(slot, n, segBlocks)
		setBits(out.words, from, to)
	}
	*ss = out
}

// behind is the first run of a list that ends behind a slot.
func (ss *slots) behind(slot uint16) int {
	return sort.Search(len(ss.words), func(i int) bool { return ss.words[i]>>16+ss.words[i]&0xffff > uint32(slot) })
}

// cut takes slots out of a list.
func (ss *slots) cut(slot, n uint16) {
	from, to := uint32(slot), uint32(slot)+uint32(n)
	i := ss.behind(slot)
	k := i
	var rest [2]uint32
	parts := rest[:0]
	for ; k < len(ss.words) && ss.words[k]>>16 < to; k++ {
		first, end := ss.words[k]>>16, ss.words[k]>>16+ss.words[k]&0xffff
		if first < from {
			parts = append(parts, first<<16|(from-first))
		}
		if end > to {
			parts = append(parts, to<<16|(end-to))
		}
	}
	ss.words = slices.Replace(ss.words, i, k, parts...)
}

// refine gives the set a bit per unit.
func (ss *slots) refine(segBlocks uint32) {
	f := newSlots(segBlocks, true)
	for i := nextBit(ss.words, 0, true); i < 32*len(ss.words); {
		end := nextBit(ss.words, i, false)
		setBits(f.words, i*blockUnit, end*blockUnit)
		i = nextBit(ss.words, end, true)
	}
	*ss = f
}

// span readies the set for a change of n slots and returns their bits.
func (ss *slots) span(slot, n uint16, segBlocks uint32) (from, to int) {
	switch {
	case ss.few:
		ss.thicken(segBlocks)
	case ss.words == nil:
		*ss = newSlots(segBlocks, (slot|n)%blockUnit != 0)
	}
	if !ss.fine && (slot|n)%blockUnit != 0 {
		ss.refine(segBlocks)
	}
	if ss.fine {
		return int(slot), min(int(slot)+int(n), 32*len(ss.words))
	}
	return int(slot / blockUnit), min((int(slot)+int(n))/blockUnit, 32*len(ss.words))
}

// add puts n slots into the set.
func (ss *slots) add(slot, n uint16, segBlocks uint32) {
	from, to := ss.span(slot, n, segBlocks)
	setBits(ss.words, from, to)
}

// remove takes n slots out of the set.
func (ss *slots) remove(slot, n uint16, segBlocks uint32) {
	if ss.few {
		ss.cut(slot, n)
		if ss.fine = ss.fine || (slot|n)%blockUnit != 0; len(ss.words) > ss.size(segBlocks) {
			ss.thicken(segBlocks)
		}
		return
	}
	from, to := ss.span(slot, n, segBlocks)
	for i := from; i < to; {
		k := min(32-i%32, to-i)
		ss.words[i/32] &^= mask(i, k)
		i += k
	}
}

// stretch is how many of at most n slots from slot on are all in the set, or all
// not; at least one.
func (ss *slots) stretch(slot, n uint16) (k uint16, in bool) {
	if len(ss.words) == 0 {
		return n, false
	}
	if ss.few {
		return ss.stretchOfList(slot, n)
	}
	i, last := ss.bit(slot), ss.bit(slot+n-1)
	in = ss.has(slot)
	words := ss.words[:min(last/32+1, len(ss.words))] // no further than asked
	end := nextBit(words, min(i, 32*len(words)), !in)
	if end > last {
		return n, in
	}
	if !ss.fine {
		end *= blockUnit
	}
	return uint16(end - int(slot)), in
}

func (ss *slots) stretchOfList(slot, n uint16) (k uint16, in bool) {
	i := ss.behind(slot)
	if i == len(ss.words) {
		return n, false
	}
	first := ss.words[i] >> 16
	if first > uint32(slot) {
		return uint16(min(uint32(n), first-uint32(slot))), false
	}
	return uint16(min(uint32(n), first+ss.words[i]&0xffff-uint32(slot))), true
}

// runs goes over the set: first slot and number of slots of each run.
func (ss *slots) runs() iter.Seq2[uint16, uint16] {
	return func(yield func(slot, n uint16) bool) {
		if ss.few {
			for _, x := range ss.words {
				if !yield(uint16(x>>16), uint16(x)) {
					return
				}
			}
			return
		}
		size := 1
		if !ss.fine {
			size = blockUnit
		}
		for i := nextBit(ss.words, 0, true); i < 32*len(ss.words); {
			end := nextBit(ss.words, i, false)
			if !yield(uint16(i*size), uint16((end-i)*size)) {
				return
			}
			i = nextBit(ss.words, end, true)
		}
	}
}

// without is the set without what is in another, which may be nil.
func (ss *slots) without(other *slots, segBlocks uint32) slots {
	if other == nil || ss.words == nil {
		return *ss
	}
	out := slots{words: slices.Clone(ss.words), fine: ss.fine, few: ss.few}
	for slot, n := range other.runs() {
		out.remove(slot, n, segBlocks)
	}
	return out
}

// mask is k bits from bit i of its word on.
func mask(i, k int) uint32 { return (^uint32(0) >> (32 - k)) << (i % 32) }

func setBits(words []uint32, from, to int) {
	for i := from; i < to; {
		k := min(32-i%32, to-i)
		words[i/32] |= mask(i, k)
		i += k
	}
}

// nextBit finds the first bit from i on that is set, or not; else the end.
func nextBit(words []uint32, i int, set bool) int {
	for i < 32*len(words) {
		x := words[i/32]
		if !set {
			x = ^x
		}
		if x >>= i % 32; x != 0 {
			return i + bits.TrailingZeros32(x)
		}
		i += 32 - i%32
	}
	return i
}

// slotSet is a set of identities: slots of many segments.
type slotSet map[uint32]*slots

func (set slotSet) add(num uint32, slot, n uint16, segBlocks uint32) {
	ss := set[num]
	if ss == nil {
		ss = new(slots)
		set[num] = ss
	}
	ss.add(slot, n, segBlocks)
}

func (set slotSet) has(num uint32, slot uint16) bool {
	ss := set[num]
	return ss != nil && ss.has(slot)
}

func (set slotSet) remove(num uint32, slot, n uint16, segBlocks uint32) {
	if ss := set[num]; ss != nil {
		ss.remove(slot, n, segBlocks)
	}
}

// each calls f for every run of identities, in order. A run may be of several
// blocks.
func (set slotSet) each(f func(num uint32, slot, n uint16)) {
	nums := make([]uint32, 0, len(set))
	for n := range set {
		nums = append(nums, n)
	}
	slices.Sort(nums)
	for _, num := range nums {
		for slot, n := range set[num].runs() {
			f(num, slot, n)
		}
	}
}
