// Package probe is a tiny guest of our own making: a disk image whose first
// sectors are a program that boots by BIOS in well under two seconds without
// hardware virtualization, drives the same disk by its own virtio-blk driver
// and so can do what a BIOS cannot: FLUSH. It writes self-describing blocks
// with a rising counter, flushes after each, and reports the flushed counter
// on its serial port. Booted again, it verifies that the disk holds exactly
// the blocks that its counter implies, neither an older nor a damaged one.
//
// The image is emitted by Go (asm.go is the assembler, boot.go and guest.go the
// program); nothing is downloaded and no tool is needed. Its disk layout and
// its serial lines are docs/format/probe.md.
package probe

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
)

// BlockSize is the unit in which the guest writes, in bytes.
const BlockSize = holdfast.BlockSize

// FirstBlock is the disk block, counted in BlockSize, of the first slot.
const FirstBlock = 16

// MinSize and MaxSize bound an image, in bytes. The guest uses at most MaxSlots
// blocks of it; the rest stays empty.
const (
	MinSize = 1 << 20
	MaxSize = 1 << 40
)

// MaxSlots is the largest ring of blocks that the guest writes: 8 MiB, which a
// slow emulator still verifies in a fraction of a second.
const MaxSlots = 2048

// SecondDisk is the place on the machine's bus of a second disk that the guest
// writes too, counted from the boot disk's; SecondSlots is its ring there. A
// disk at another place is not touched.
const (
	SecondDisk  = 1
	SecondSlots = minSlots
)

// minSlots is one read of the guest's verification (256 KiB).
const minSlots = 64

// Magic starts every block that the guest wrote.
const Magic = "HFPROBE1"

// The numbers of the fill and the hash, shared by Go and the guest.
const (
	counterMix = 0x9e3779b1
	slotMix    = 0x85ebca6b
	hashBasis  = 2166136261 // FNV-1a, over 32-bit words
	hashPrime  = 16777619
	headWords  = 6
	sumWord    = 4 // the word that holds the hash, zero while it is computed
)

// Slots returns the number of slots in an image of size bytes, a power of two.
func Slots(size int64) uint32 {
	n := uint32(MaxSlots)
	for n > minSlots && int64(FirstBlock+n)*BlockSize > size {
		n /= 2
	}
	return n
}

// SlotOf returns where counter n (from 1) is written: an odd stride over a
// power of two, so that any `slots` consecutive counters fill every slot once.
func SlotOf(n, slots uint32) uint32 { return (n - 1) * counterMix & (slots - 1) }

// FillBlock writes the block of a counter at a slot into b[:BlockSize].
func FillBlock(b []byte, counter, slot uint32) {
	le := binary.LittleEndian
	copy(b, Magic)
	le.PutUint32(b[8:], counter)
	le.PutUint32(b[12:], slot)
	le.PutUint64(b[16:], 0)
	x := counter*counterMix ^ slot*slotMix
	if x == 0 {
		x = 1
	}
	for i := headWords; i < BlockSize/4; i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		le.PutUint32(b[i*4:], x)
	}
	le.PutUint32(b[sumWord*4:], hash(b))
}

func hash(b []byte) uint32 {
	h := uint32(hashBasis)
	for i := range BlockSize / 4 {
		w := binary.LittleEndian.Uint32(b[i*4:])
		if i == sumWord {
			w = 0
		}
		h = (h ^ w) * hashPrime
	}
	return h
}

// VerifyBlock returns the counter of the block read from a slot; 0 means that
// it was never written (all zero). An error of kind Corrupt says what is wrong.
func VerifyBlock(b []byte, slot uint32) (counter uint32, err error) {
	if len(b) != BlockSize {
		return 0, holdfast.Errorf(holdfast.Invalid, "slot %d: %d bytes given, a block has %d", slot, len(b), BlockSize)
	}
	if allZero(b) {
		return 0, nil
	}
	le := binary.LittleEndian
	counter = le.Uint32(b[8:])
	if string(b[:8]) != Magic || counter == 0 {
		return counter, holdfast.Errorf(holdfast.Corrupt, "slot %d: neither empty nor a probe block (starts %x)", slot, b[:16])
	}
	if at := le.Uint32(b[12:]); at != slot {
		return counter, holdfast.Errorf(holdfast.Corrupt, "slot %d: holds the block of slot %d, counter %d", slot, at, counter)
	}
	var want [BlockSize]byte
	FillBlock(want[:], counter, slot)
	if want != [BlockSize]byte(b) {
		return counter, holdfast.Errorf(holdfast.Corrupt, "slot %d: the block of counter %d is damaged", slot, counter)
	}
	return counter, nil
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// VerifyHistory checks that the slots hold exactly what a guest that reached
// the highest counter among them must have left there. counters[s] is what
// VerifyBlock returned for slot s; len(counters) is a power of two. It returns
// the highest counter and how many blocks bear witness to it.
func VerifyHistory(counters []uint32) (count, highest uint32, err error) {
	slots := uint32(len(counters))
	for _, c := range counters {
		highest = max(highest, c)
	}
	for i := range slots {
		want := uint32(0)
		if highest > i {
			want = highest - i
		}
		slot := SlotOf(highest-i, slots)
		if got := counters[slot]; got != want {
			return 0, highest, holdfast.Errorf(holdfast.Corrupt, "slot %d: holds counter %d, history up to %d implies %d", slot, got, highest, want)
		}
	}
	return min(highest, slots), highest, nil
}
