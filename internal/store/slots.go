package store

import (
	"iter"
	"math/bits"
	"slices"
)

// slots is a set of slots of one segment. While all of it is blocks that are
// stored as they are, which keep to whole blocks, it has a bit per block; as soon
// as there is another it has a bit per unit. The zero value is empty.
type slots struct {
	words []uint64
	fine  bool
}

func newSlots(segBlocks uint32, fine bool) slots {
	n := segBlocks
	if fine {
		n *= blockUnit
	}
	return slots{words: make([]uint64, (n+63)/64), fine: fine}
}

// bit is the bit of a slot; the slot may be beyond the end.
func (ss *slots) bit(slot uint16) int {
	if ss.fine {
		return int(slot)
	}
	return int(slot / blockUnit)
}

func (ss *slots) has(slot uint16) bool {
	i := ss.bit(slot)
	return i < 64*len(ss.words) && ss.words[i/64]&(1<<(i%64)) != 0
}

// refine gives the set a bit per unit.
func (ss *slots) refine(segBlocks uint32) {
	f := newSlots(segBlocks, true)
	for i := nextBit(ss.words, 0, true); i < 64*len(ss.words); {
		end := nextBit(ss.words, i, false)
		setBits(f.words, i*blockUnit, end*blockUnit)
		i = nextBit(ss.words, end, true)
	}
	*ss = f
}

// span readies the set for a change of n slots and returns their bits.
func (ss *slots) span(slot, n uint16, segBlocks uint32) (from, to int) {
	if ss.words == nil {
		*ss = newSlots(segBlocks, (slot|n)%blockUnit != 0)
	}
	if !ss.fine && (slot|n)%blockUnit != 0 {
		ss.refine(segBlocks)
	}
	if ss.fine {
		return int(slot), min(int(slot)+int(n), 64*len(ss.words))
	}
	return int(slot / blockUnit), min((int(slot)+int(n))/blockUnit, 64*len(ss.words))
}

// add puts n slots into the set.
func (ss *slots) add(slot, n uint16, segBlocks uint32) {
	from, to := ss.span(slot, n, segBlocks)
	setBits(ss.words, from, to)
}

// remove takes n slots out of the set.
func (ss *slots) remove(slot, n uint16, segBlocks uint32) {
	from, to := ss.span(slot, n, segBlocks)
	for i := from; i < to; {
		k := min(64-i%64, to-i)
		ss.words[i/64] &^= mask(i, k)
		i += k
	}
}

// stretch is how many of at most n slots from slot on are all in the set, or all
// not; at least one.
func (ss *slots) stretch(slot, n uint16) (k uint16, in bool) {
	if len(ss.words) == 0 {
		return n, false
	}
	i, last := ss.bit(slot), ss.bit(slot+n-1)
	in = ss.has(slot)
	words := ss.words[:min(last/64+1, len(ss.words))] // no further than asked
	end := nextBit(words, min(i, 64*len(words)), !in)
	if end > last {
		return n, in
	}
	if !ss.fine {
		end *= blockUnit
	}
	return uint16(end - int(slot)), in
}

// runs goes over the set: first slot and number of slots of each run.
func (ss *slots) runs() iter.Seq2[uint16, uint16] {
	return func(yield func(slot, n uint16) bool) {
		size := 1
		if !ss.fine {
			size = blockUnit
		}
		for i := nextBit(ss.words, 0, true); i < 64*len(ss.words); {
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
	out := slots{words: slices.Clone(ss.words), fine: ss.fine}
	for slot, n := range other.runs() {
		out.remove(slot, n, segBlocks)
	}
	return out
}

// mask is k bits from bit i of its word on.
func mask(i, k int) uint64 { return (^uint64(0) >> (64 - k)) << (i % 64) }

func setBits(words []uint64, from, to int) {
	for i := from; i < to; {
		k := min(64-i%64, to-i)
		words[i/64] |= mask(i, k)
		i += k
	}
}

// nextBit finds the first bit from i on that is set, or not; else the end.
func nextBit(words []uint64, i int, set bool) int {
	for i < 64*len(words) {
		x := words[i/64]
		if !set {
			x = ^x
		}
		if x >>= i % 64; x != 0 {
			return i + bits.TrailingZeros64(x)
		}
		i += 64 - i%64
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
