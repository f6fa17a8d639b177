package store

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// overlayIndex says which LSN last wrote a block, of the Writes in an overlay.
// Every write enters it and every merge takes something out, so it is a table of
// its own without pointers: open addressing, linear probing, no tombstones. Nil
// is an empty one to read. Under the store's lock.
//
// Initiators choose the addresses, so the hash has a secret: without it a guest
// could pick blocks that all probe the same slots.
type overlayIndex struct {
	secret uint64
	slots  []latest // a power of two; at most three quarters are used
	n      int
}

// latest is the last write of a block.
type latest struct {
	key uint64 // the block's address and one; 0: the slot is free
	lsn holdfast.LSN
}

// leastIndex is the slots of the smallest table; one with keptIndex or fewer is
// kept when it is empty. That many neighbours are searched for side by side.
const (
	leastIndex = 64
	neighbours = 4
	keptIndex  = 1 << 12
)

func newOverlayIndex() overlayIndex {
	return overlayIndex{secret: maphash.Comparable(maphash.MakeSeed(), 0)}
}

func (x *overlayIndex) len() int { return x.n }

// home is the slot where the search for a key begins: neighbours share a line of
// the processor's cache, for long writes.
func (x *overlayIndex) home(key uint64) uint64 {
	h := (key/neighbours ^ x.secret) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= x.secret | 1
	return h>>(64-bits.TrailingZeros(uint(len(x.slots)/neighbours)))*neighbours + key%neighbours
}

// find is the slot of a key, or the free one where it would go.
func (x *overlayIndex) find(key uint64) uint64 {
	mask := uint64(len(x.slots) - 1)
	i := x.home(key)
	for x.slots[i].key != key && x.slots[i].key != 0 {
		i = (i + 1) & mask
	}
	return i
}

// get is the LSN that last wrote a block.
func (x *overlayIndex) get(addr uint64) (holdfast.LSN, bool) {
	if x == nil || x.n == 0 {
		return 0, false
	}
	s := &x.slots[x.find(addr+1)]
	return s.lsn, s.key != 0
}

// set notes a write.
func (x *overlayIndex) set(addr uint64, lsn holdfast.LSN) {
	if x.n >= len(x.slots)/4*3 {
		x.grow()
	}
	s := &x.slots[x.find(addr+1)]
	if s.key == 0 {
		x.n++
	}
	*s = latest{addr + 1, lsn}
}

func (x *overlayIndex) grow() {
	old := x.slots
	x.slots = make([]latest, max(leastIndex, 4*len(old)))
	for _, s := range old {
		if s.key != 0 {
			x.slots[x.find(s.key)] = s
		}
	}
}

// merged takes a write out, unless a later one has taken its place.
func (x *overlayIndex) merged(addr uint64, lsn holdfast.LSN) {
	if x.n == 0 {
		return
	}
	i := x.find(addr + 1)
	if x.slots[i].key == 0 || x.slots[i].lsn != lsn {
		return
	}
	if x.n--; x.n == 0 && len(x.slots) > keptIndex {
		x.slots = nil
		return
	}
	// What follows in the same run moves up, if its search would pass here.
	mask := uint64(len(x.slots) - 1)
	for j := (i + 1) & mask; x.slots[j].key != 0; j = (j + 1) & mask {
		if home := x.home(x.slots[j].key); (j-home)&mask >= (j-i)&mask {
			x.slots[i] = x.slots[j]
			i = j
		}
	}
	x.slots[i] = latest{}
}

// clear forgets all.
func (x *overlayIndex) clear() { *x = overlayIndex{secret: x.secret} }

func (x *overlayIndex) clone() overlayIndex {
	return overlayIndex{x.secret, slices.Clone(x.slots), x.n}
}

// all is the blocks and what last wrote them, in no useful order.
func (x *overlayIndex) all() iter.Seq2[uint64, holdfast.LSN] {
	return func(yield func(uint64, holdfast.LSN) bool) {
		if x == nil {
			return
		}
		for _, s := range x.slots {
			if s.key != 0 && !yield(s.key-1, s.lsn) {
				return
			}
		}
	}
}

// sorted is the blocks by address.
func (x *overlayIndex) sorted() []uint64 {
	addrs := make([]uint64, 0, x.n)
	for addr := range x.all() {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	return addrs
}
